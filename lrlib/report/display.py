"""Show figures, tables and computed words so that a report can number, reference and describe them.

What a reader of JupyterLab sees is in a bundle's data (`image/svg+xml`, `text/markdown`); what a report needs besides
is in its metadata under `"report"`, which execution by papermill keeps. A caption is displayed once more by itself,
with its number, for JupyterLab alone.
Captions, cells of tables and prose are Markdown: math `$..$`, citations `[@key]`, references `@fig-label`,
`@tbl-label`, `@sec-anchor`; these become links (`lrlib.report.citations`).
"""

import base64
import io
import re

import matplotlib
import matplotlib.pyplot
import pandas as pd
from IPython.display import display

from lrlib.report.citations import NOUNS, PREFIXES, find_numbers, spell_out
from lrlib.report.panels import MIME, describe_panels, name_panels

LABEL = re.compile(r"[a-z0-9-]+")
WIDTHS = ("full", "half")
BANNERS = ("warning", "note")
SEPARATORS = {"left": ":{}", "right": "{}:", "center": ":{}:"}

# What may hold a pipe that does not end a cell: code, math and escaped characters.
_PIPE = re.compile(r"(?P<keep>(`+).+?\2|\$(?=\S)[^$]*?(?<=\S)\$(?!\d)|\\.)|\|")


def show_figure(figure, *, label, caption, alt, data, width="full"):
    """Display a matplotlib figure with its words and with the numbers it was drawn from; close it.

    label    what references name: `@fig-label`.
    caption  Markdown; the number is added by the report.
    alt      what the figure shows, in words, for those who cannot see it.
    data     DataFrame of what was drawn; kept as CSV, floats with 6 significant digits. Its attrs may say
             under "seeds" where it has each panel's seeds (`lrlib.report.panels.describe_panels`).
    width    "full" or "half" of the text width.

    Raises ValueError for a malformed label, an unknown width, an empty caption or alt.
    """
    _check(label, caption)
    if not alt.strip():
        raise ValueError(f"alt of figure {label!r} is empty; say in words what the figure shows")
    if width not in WIDTHS:
        raise ValueError(f"width of figure {label!r} must be one of {', '.join(WIDTHS)}, got {width!r}")
    series = name_panels(figure)
    bundle = {"image/svg+xml": _svg(figure, label), "text/csv": _csv(data), "text/plain": alt}
    bundle["image/png"] = _png(figure)  # JupyterLab shows no SVG of a notebook that it has not run itself
    bundle[MIME] = describe_panels(figure, series, seeds=data.attrs.get("seeds", ()))
    matplotlib.pyplot.close(figure)
    _display(bundle, kind="figure", label=label, caption=spell_out(caption), alt=alt, width=width)
    _show_caption("figure", label, caption)


def show_table(frame, *, label, caption, data=None, formats=None, widths=None, align=None, anchors=None):
    """Display a DataFrame with its caption; the index is not shown.

    label    what references name: `@tbl-label`.
    caption  Markdown; the number is added by the report.
    data     DataFrame of what the table sums up, kept as CSV in its place.
    formats  column -> format specification (`".2f"`) or callable; other floats get 6 significant digits.
    widths   one relative width per column: the table then fills the text width and its cells wrap.
    align    column -> "left", "right" or "center"; numbers go right, all else left.
    anchors  one a row: what links to that row name, such as `claim-c1`.

    Text in cells is Markdown. A missing value is shown as an en dash.
    Raises ValueError for a malformed label, an empty caption, an unknown column or alignment, a wrong number of widths
    or anchors.
    """
    _check(label, caption)
    formats, align = formats or {}, align or {}
    for column in [*formats, *align]:
        if column not in frame.columns:
            raise ValueError(f"table {label!r} has no column {column!r}; it has {', '.join(map(str, frame.columns))}")
    for column, side in align.items():
        if side not in SEPARATORS:
            raise ValueError(f"align of {column!r} in table {label!r} must be left, right or center, got {side!r}")
    if widths is not None and len(widths) != frame.shape[1]:
        raise ValueError(f"table {label!r} has {frame.shape[1]} columns, got {len(widths)} widths; give one a column")
    if anchors is not None and len(anchors) != len(frame):
        raise ValueError(f"table {label!r} has {len(frame)} rows, got {len(anchors)} anchors; give one a row")
    shown = pd.DataFrame({name: _format(frame[name], formats.get(name)) for name in frame.columns}, dtype=object)
    sides = [align.get(name, _side(frame[name])) for name in frame.columns]
    bundle = {
        "text/markdown": _pipe_table(shown.map(spell_out), sides, widths),
        "text/csv": _csv(frame if data is None else data),
        "text/plain": shown.to_string(index=False),
    }
    report = {"kind": "table", "label": label, "caption": spell_out(caption)}
    _show_caption("table", label, caption)
    _display(bundle, **report, **({"anchors": list(anchors)} if anchors is not None else {}))


def show_text(markdown, *, label=None):
    """Display Markdown prose whose numbers were computed; nothing where there is nothing to say.

    label: what publishing finds it by, where README says it too.
    """
    if markdown.strip():
        show_markdown(markdown, kind="text", **({"label": label} if label else {}))


def show_banner(markdown, *, kind="warning"):
    """Display a boxed Markdown note; kind is "warning" or "note"."""
    if kind not in BANNERS:
        raise ValueError(f"kind of a banner must be one of {', '.join(BANNERS)}, got {kind!r}")
    show_markdown(markdown, kind="banner", banner=kind)


def show_markdown(markdown, **report):
    """Display Markdown with metadata of whoever assembles a report."""
    spelled = spell_out(markdown)
    _display({"text/markdown": spelled, "text/plain": spelled}, **report)


def _show_caption(kind, label, caption):
    """The caption as JupyterLab shows it; a report takes the figure's or table's own."""
    anchor = f"{PREFIXES[kind]}-{label}"
    number, _ = find_numbers().get(anchor, (NOUNS[kind], None))
    number = number if number[0].isupper() else NOUNS[kind]
    show_markdown(f'<a id="{anchor}"></a>**{number}.** {caption}', kind="caption")


def _display(bundle, **report):
    display(bundle, metadata={"report": report}, raw=True)


def _check(label, caption):
    if not LABEL.fullmatch(label):
        raise ValueError(f"label must be lower-case letters, digits and hyphens, got {label!r}; rename it")
    if not caption.strip():
        raise ValueError(f"caption of {label!r} is empty; say what the reader sees")


def _svg(figure, label):
    """The figure as SVG text, the same bytes each time: text as paths, no date, ids from the label, in points."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label, "svg.fonttype": "path"}):
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
    """A Markdown pipe table of the strings in `shown`.

    Dashes carry the widths: 100 are shared out. As many in each column say that no widths were given, so equal
    widths get one more in the first.
    """
    if widths is None:
        shares = [3] * len(sides)
    else:
        shares = [max(3, round(100 * width / sum(widths))) for width in widths]
        shares[0] += len(set(shares)) == 1
    rows = [
        [_cell(str(name)) for name in shown.columns],
        [SEPARATORS[side].format("-" * share) for side, share in zip(sides, shares, strict=True)],
        *([_cell(value) for value in row] for row in shown.itertuples(index=False)),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(text):
    """Text for one cell of a pipe table: on one line, pipes escaped outside code and math."""
    line = " ".join(text.split("\n"))
    return _PIPE.sub(lambda match: match["keep"] or r"\|", line)
