"""Show figures, tables and words in a notebook so that a document can number, reference and describe them.

What JupyterLab shows is in an output's data (`image/svg+xml`, `text/markdown`). What a document needs besides is in its
metadata under `report`, which papermill keeps. A caption is displayed once more by itself, with its number, for
JupyterLab alone. Captions, cells of tables and prose are Markdown: math `$..$`, links to cited works, and references
`@fig-label`, `@tbl-label`, `@sec-anchor`, which become links (`lrlib.report.page.citations`).
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype

from lrlib.report.page.citations import NOUNS, PREFIXES, find_numbers, spell_out
from lrlib.report.page.panels import MIME, describe_panels, name_panels

# What may hold a pipe that does not end a cell: code, math and escaped characters.
_PIPE = re.compile(r"(?P<keep>(`+).+?\2|\$(?=\S)[^$]*?(?<=\S)\$(?!\d)|\\.)|\|")
# An interval, which is not broken over two lines: [0.1, 0.2] (but no link), 99.1 to 99.2.
_INTERVAL = re.compile(r"\[[^\[\]]{1,30}\](?!\()|[\d.]+ to [\d.]+( %)?")


def show_figure(figure: Figure, *, label: str, caption: str, alt: str, data: pd.DataFrame) -> None:
    """Display a matplotlib figure with its caption and data, and close it.

    Args:
        figure: a matplotlib figure.
        label: references name it `@fig-label`.
        caption: Markdown; the document adds the number.
        alt: alternative text: what the figure shows.
        data: what was drawn; kept as CSV with 6 significant digits.

    Raises ValueError for a malformed label, an empty caption or alt.
    """
    _check(label, caption=caption, alt=alt)
    series = name_panels(figure)
    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):  # the same bytes each time
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=144, metadata={"Software": None})
    bundle = {
        "image/svg+xml": svg.getvalue(),
        "text/csv": _csv(data),
        "text/plain": alt,
        "image/png": base64.b64encode(png.getvalue()).decode(),  # JupyterLab shows no SVG of what it has not run itself
        MIME: describe_panels(figure, series),
    }
    matplotlib.pyplot.close(figure)
    _display(bundle, kind="figure", label=label, caption=spell_out(caption), alt=alt)
    _show_caption("figure", label, caption)


def show_table(
    frame: pd.DataFrame,
    *,
    label: str,
    caption: str,
    data: pd.DataFrame | None = None,
    formats: Mapping[str, str | Callable[[Any], object]] | None = None,
    widths: Sequence[float] | None = None,
    anchors: Sequence[str] | None = None,
) -> None:
    """Display a DataFrame with its caption; the index is not shown. Columns of numbers are set on the right.

    Args:
        frame: the table; text in cells is Markdown, a missing value is shown as an en dash.
        label: references name it `@tbl-label`.
        caption: Markdown; the document adds the number.
        data: what the table sums up, kept as CSV in its place.
        formats: column -> format specification (`".2f"`) or callable; other floats get 6 significant digits.
        widths: relative width of each column: the table then fills the text width and its cells wrap.
        anchors: one per row: what links to that row name, such as `claim-c1`.

    Raises ValueError for a malformed label, an empty caption, an unknown column, or a wrong number of widths.
    """
    _check(label, caption=caption)
    formats = formats or {}
    if unknown := [column for column in formats if column not in frame.columns]:
        raise ValueError(f"table {label!r} has no column {unknown[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if widths is not None and len(widths) != frame.shape[1]:
        raise ValueError(f"widths of table {label!r} must have {frame.shape[1]} entries, got {len(widths)}")
    shown = pd.DataFrame({name: _format(frame[name], formats.get(name)) for name in frame.columns}, dtype=object)
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    bundle = {
        "text/markdown": _pipe_table(shown.map(spell_out), numeric, widths),
        "text/csv": _csv(frame if data is None else data),
        "text/plain": shown.to_string(index=False),
    }
    _show_caption("table", label, caption)
    marks = {"anchors": list(anchors)} if anchors is not None else {}
    _display(bundle, kind="table", label=label, caption=spell_out(caption), **marks)


def show_text(markdown: str) -> None:
    """Display Markdown prose with computed values; nothing if it is empty."""
    if markdown.strip():
        _show_markdown(markdown, kind="text")


def show_banner(markdown: str) -> None:
    """Display a boxed warning; a document shows each once."""
    _show_markdown(markdown, kind="banner")


def show_findings(markdown: str, *, verdicts: Mapping[str, str] | None = None, values: Mapping[str, str]) -> None:
    """Display what the document found; it stands first in the document, before its contents.

    Args:
        markdown: the findings; verdicts are coloured where they stand with their sign, as `✓ reproduced`, `✗ not
            reproduced`, `? inconclusive`.
        verdicts: claim -> verdict, for the terminal and for comparison with the published document.
        values: name -> headline value as printed, likewise.
    """
    _show_markdown(markdown, kind="findings", verdicts=dict(verdicts or {}), values=dict(values))


def _show_markdown(markdown, **report):
    spelled = spell_out(markdown)
    _display({"text/markdown": spelled, "text/plain": spelled}, **report)


def _show_caption(kind, label, caption):
    """The caption as JupyterLab shows it; the document takes the figure's or table's own."""
    anchor = f"{PREFIXES[kind]}-{label}"
    number, _ = find_numbers(Path.cwd()).get(anchor, (NOUNS[kind], None))
    _show_markdown(f'<a id="{anchor}"></a>**{number}.** {caption}', kind="caption")


def _display(bundle, **report):
    display(bundle, metadata={"report": report}, raw=True)


def _check(label, **texts):
    if not re.fullmatch(r"[a-z0-9-]+", label):
        raise ValueError(f"label must be lower-case letters, digits and hyphens, got {label!r}")
    for name, text in texts.items():
        if not text.strip():
            raise ValueError(f"{name} of {label!r} must not be empty; say what the reader sees")


def _csv(frame):
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _format(column, spec):
    if spec is None:
        spec = ".6g" if is_float_dtype(column) else ""
    apply = spec if callable(spec) else lambda value: format(value, spec)
    return ["–" if pd.api.types.is_scalar(value) and pd.isna(value) else str(apply(value)) for value in column]


def _pipe_table(shown, numeric, widths):
    """A Markdown pipe table of strings. Dashes carry the widths; as many in each column mean none were given."""
    shares = [3] * len(numeric)
    if widths is not None:
        shares = [max(3, round(100 * width / sum(widths))) for width in widths]
        shares[0] += len(set(shares)) == 1
    rows = [
        [_cell(str(name)) for name in shown.columns],
        [f"{'-' * n}:" if right else f":{'-' * n}" for n, right in zip(shares, numeric, strict=True)],
        *([_cell(value) for value in row] for row in shown.itertuples(index=False)),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(text):
    """Text for one cell of a pipe table: on one line, intervals unbroken, pipes escaped outside code and math."""
    line = _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), " ".join(text.split("\n")))
    return _PIPE.sub(lambda match: match["keep"] or r"\|", line)
