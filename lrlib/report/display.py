"""Show figures, tables and words in a notebook so that a document can number, reference and describe them.

What JupyterLab shows is in an output's data (`image/svg+xml`, `text/markdown`). What a document needs besides is in its
metadata under `report`, which papermill keeps. A caption is displayed once more by itself, with its number, for
JupyterLab alone. Captions, cells of tables and prose are Markdown: math `$..$`, citations `[@key]`, references
`@fig-label`, `@tbl-label`, `@sec-anchor`; these become links (`lrlib.report.page.citations`).
"""

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from lrlib.report.page.citations import NOUNS, PREFIXES, find_numbers, spell_out
from lrlib.report.page.panels import MIME, describe_panels, name_panels

WIDTHS = ("full", "half")
BANNERS = ("warning", "note")
SEPARATORS = {"left": ":{}", "right": "{}:", "center": ":{}:"}

# What may hold a pipe that does not end a cell: code, math and escaped characters.
_PIPE = re.compile(r"(?P<keep>(`+).+?\2|\$(?=\S)[^$]*?(?<=\S)\$(?!\d)|\\.)|\|")
# An interval, which is not broken over two lines: [0.1, 0.2] (but no link), 99.1 to 99.2.
_INTERVAL = re.compile(r"\[[^\[\]]{1,30}\](?!\()|[\d.]+ to [\d.]+( %)?")


def show_figure(figure: Figure, *, label: str, caption: str, alt: str, data: pd.DataFrame, width: str = "full") -> None:
    """Display a matplotlib figure with its caption and data, and close it.

    Args:
        figure: a matplotlib figure.
        label: references name it `@fig-label`.
        caption: Markdown; the document adds the number.
        alt: alternative text: what the figure shows.
        data: what was drawn; kept as CSV with 6 significant digits.
        width: "full" or "half" of the text width.

    Raises ValueError for a malformed label, an unknown width, an empty caption or alt.
    """
    _check(label, caption)
    if not alt.strip():
        raise ValueError(f"alt of figure {label!r} must not be empty; describe what the figure shows")
    if width not in WIDTHS:
        raise ValueError(f"width of figure {label!r} must be one of {', '.join(WIDTHS)}, got {width!r}")
    series = name_panels(figure)
    bundle = {"image/svg+xml": _svg(figure, label), "text/csv": _csv(data), "text/plain": alt}
    bundle["image/png"] = _png(figure)  # JupyterLab shows no SVG of a notebook that it has not run itself
    bundle[MIME] = describe_panels(figure, series)
    matplotlib.pyplot.close(figure)
    _display(bundle, kind="figure", label=label, caption=_spell(caption), alt=alt, width=width)
    _show_caption("figure", label, caption)


def show_table(
    frame: pd.DataFrame,
    *,
    label: str,
    caption: str,
    data: pd.DataFrame | None = None,
    formats: Mapping[str, str | Callable[[Any], object]] | None = None,
    widths: Sequence[float] | None = None,
    align: Mapping[str, str] | None = None,
    anchors: Sequence[str] | None = None,
) -> None:
    """Display a DataFrame with its caption; the index is not shown.

    Args:
        frame: the table; text in cells is Markdown, a missing value is shown as an en dash.
        label: references name it `@tbl-label`.
        caption: Markdown; the document adds the number.
        data: what the table sums up, kept as CSV in its place.
        formats: column -> format specification (`".2f"`) or callable; other floats get 6 significant digits.
        widths: relative width of each column: the table then fills the text width and its cells wrap.
        align: column -> "left", "right" or "center"; by default numbers are right, all else left.
        anchors: one per row: what links to that row name, such as `claim-c1`.

    Raises ValueError for a malformed label, an empty caption, an unknown column or alignment, a wrong number of widths
    or anchors.
    """
    _check(label, caption)
    formats, align = formats or {}, align or {}
    if unknown := [column for column in [*formats, *align] if column not in frame.columns]:
        raise ValueError(f"table {label!r} has no column {unknown[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if wrong := [side for side in align.values() if side not in SEPARATORS]:
        raise ValueError(f"align in table {label!r} must be one of {', '.join(SEPARATORS)}, got {wrong[0]!r}")
    for name, given, wanted in (("widths", widths, frame.shape[1]), ("anchors", anchors, len(frame))):
        if given is not None and len(given) != wanted:
            raise ValueError(f"{name} of table {label!r} must have {wanted} entries, got {len(given)}")
    shown = pd.DataFrame({name: _format(frame[name], formats.get(name)) for name in frame.columns}, dtype=object)
    sides = [align.get(name, _side(frame[name])) for name in frame.columns]
    bundle = {
        "text/markdown": _pipe_table(shown.map(_spell), sides, widths),
        "text/csv": _csv(frame if data is None else data),
        "text/plain": shown.to_string(index=False),
    }
    _show_caption("table", label, caption)
    marks = {"anchors": list(anchors)} if anchors is not None else {}
    _display(bundle, kind="table", label=label, caption=_spell(caption), **marks)


def show_text(markdown: str, *, label: str | None = None) -> None:
    """Display Markdown prose with computed values; nothing if it is empty. label: what the README's marks name."""
    if markdown.strip():
        _show_markdown(markdown, kind="text", **({"label": label} if label else {}))


def show_banner(markdown: str, *, kind: str = "warning") -> None:
    """Display a boxed Markdown note; kind is "warning" or "note"."""
    if kind not in BANNERS:
        raise ValueError(f"kind of a banner must be one of {', '.join(BANNERS)}, got {kind!r}")
    _show_markdown(markdown, kind="banner", banner=kind)


def show_findings(
    markdown: str, *, claims: Iterable[Mapping[str, str]] = (), values: Mapping[str, str] | None = None
) -> None:
    """Display what the document found; it stands first in the document, before its contents.

    Args:
        markdown: the findings; verdicts are coloured where they stand with their sign, as `✓ reproduced`, `✗ not
            reproduced`, `? inconclusive`.
        claims: the verdicts, for the terminal and for comparison with the published document: id and verdict of each.
        values: name -> headline value as printed, likewise.
    """
    listed = [{"id": claim["id"], "verdict": claim["verdict"]} for claim in claims]
    _show_markdown(markdown, kind="findings", claims=listed, values=dict(values or {}))


def _show_markdown(markdown, **report):
    spelled = _spell(markdown)
    _display({"text/markdown": spelled, "text/plain": spelled}, **report)


def _show_caption(kind, label, caption):
    """The caption as JupyterLab shows it; the document takes the figure's or table's own."""
    anchor = f"{PREFIXES[kind]}-{label}"
    number, _ = find_numbers(Path.cwd()).get(anchor, (NOUNS[kind], None))
    _show_markdown(f'<a id="{anchor}"></a>**{number}.** {caption}', kind="caption")


def _spell(markdown):
    return spell_out(markdown, Path.cwd())


def _display(bundle, **report):
    display(bundle, metadata={"report": report}, raw=True)


def _check(label, caption):
    if not re.fullmatch(r"[a-z0-9-]+", label):
        raise ValueError(f"label must be lower-case letters, digits and hyphens, got {label!r}")
    if not caption.strip():
        raise ValueError(f"caption of {label!r} must not be empty; say what the reader sees")


def _svg(figure, label):
    """The figure as SVG text, the same bytes each time: no date, ids from the label, text as text."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _png(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=144, metadata={"Software": None})
    return base64.b64encode(out.getvalue()).decode()


def _csv(frame):
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _format(column, spec):
    if spec is None and pd.api.types.is_float_dtype(column):
        spec = ".6g"
    apply = spec if callable(spec) else lambda value: format(value, spec or "")
    return ["–" if pd.api.types.is_scalar(value) and pd.isna(value) else str(apply(value)) for value in column]


def _side(column):
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return "right" if numeric else "left"


def _pipe_table(shown, sides, widths):
    """A Markdown pipe table of strings. Dashes carry the widths; as many in each column mean none were given."""
    shares = [3] * len(sides)
    if widths is not None:
        shares = [max(3, round(100 * width / sum(widths))) for width in widths]
        shares[0] += len(set(shares)) == 1
    rows = [
        [_cell(str(name)) for name in shown.columns],
        [SEPARATORS[side].format("-" * share) for side, share in zip(sides, shares, strict=True)],
        *([_cell(value) for value in row] for row in shown.itertuples(index=False)),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(text):
    """Text for one cell of a pipe table: on one line, intervals unbroken, pipes escaped outside code and math."""
    line = _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), " ".join(text.split("\n")))
    return _PIPE.sub(lambda match: match["keep"] or r"\|", line)
