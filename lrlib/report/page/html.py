"""A merged notebook as one HTML page that needs nothing else."""

import base64
import gzip
import hashlib
import re
from copy import deepcopy
from html import escape
from pathlib import Path
from urllib.parse import quote

from nbconvert.filters import Highlight2HTML

from lrlib.report.page.about import write_bibtex
from lrlib.report.page.figures import inline_svg, panels_json, plot_style
from lrlib.report.page.render import TEMPLATES, fill_template, render_markdown
from lrlib.report.publish import Outcome
from lrlib.runs.store import write_whole

PLAIN_DATA = 50_000  # characters of a CSV that a link holds as they are; more are packed by gzip
NOT_SHOWN = {"parameters", "injected-parameters", "hide"}  # tags of cells whose code is no explanation

_HEADING = re.compile(r'<h(?P<level>[2-6]) id="(?P<anchor>[^"]+)"[^>]*>(?P<title>.*?)</h(?P=level)>', re.S)
# Spans of highlighted code whose class has no colour in the page's style: a tenth of the page.
_PLAIN = re.compile(r'<span class="(?!(?:k|kn|kc|ow|s1|s2|sa|sd|si|c1|cm|mi|mf)")\w+">([^<]*)</span>')
_VERDICT = re.compile(r"(✓|✗|\?) (reproduced|not reproduced|inconclusive)\b")


def export_html(notebook, *, out: Path) -> None:
    """Write a merged notebook as one page, which makes no request; the same input gives the same bytes."""
    notebook = deepcopy(notebook)
    title, about = notebook.metadata.lrlib.title, notebook.metadata.get("report", {})
    collect_making(notebook)
    references = render_markdown(notebook, to="html")
    script = (TEMPLATES / "html" / "page.js").read_text(encoding="utf-8")
    page = fill_template(
        notebook,
        (inline_svg, plot_style, panels_json, finish_markdown, finish_code, data_link),
        to="html",
        title=title,
        references=references,
        contents=list_headings(notebook),
        css=read_style(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        outcome=Outcome(**about.get("outcome", {})).to_json(),
        bibtex=write_bibtex(title, about),
    )
    write_whole(Path(out), page.encode())


def collect_making(notebook) -> None:
    """Put into `metadata.code` of each output, and of the first cell of each section, the code that made it.

    The section's is that of its cells that show nothing.
    """
    opening, setup = None, []
    for cell in notebook.cells:
        place = cell.metadata.lrlib
        opening = cell if place.opens or opening is None else opening
        if cell.cell_type == "code":
            source = "" if NOT_SHOWN & set(cell.metadata.get("tags", [])) else cell.source
            setup += [source] if source and not cell.outputs else []
            for output in cell.outputs:
                output.metadata["code"] = source
        if place.closes:
            opening.metadata["code"] = "\n\n".join(setup)
            setup = []


def finish_code(source: str) -> str:
    """Python as highlighted HTML; "" if it is empty."""
    code = Highlight2HTML(pygments_lexer="python3")(source) if source else ""
    return _PLAIN.sub(r"\1", code).replace("<pre>", '<pre tabindex="0">')


def data_link(csv: str, name: str) -> str:
    """A link to a CSV, which it holds; a large one is packed by gzip, as pandas reads it."""
    if len(csv) <= PLAIN_DATA:
        file, href, words = f"{name}.csv", "data:text/csv;charset=utf-8," + quote(csv, safe="/,:;+*()!~"), "CSV"
    else:
        packed = base64.b64encode(gzip.compress(csv.encode(), mtime=0)).decode()
        file, href, words = f"{name}.csv.gz", f"data:application/gzip;base64,{packed}", "CSV, gzip"
    return f'<p><a class="data" download="{file}" href="{escape(href)}">Data ({words})</a></p>'


def list_headings(notebook) -> list[dict[str, str]]:
    """The headings of a notebook rendered to HTML, down to <h3>: level, anchor, title."""
    words = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [match.groupdict() for match in _HEADING.finditer(words) if match["level"] in "23"]


def finish_markdown(html: str) -> str:
    """HTML with verdicts, such as `✓ reproduced`, in their colour, and a link in each heading to itself.

    Tables and code scroll by themselves; names in tables, such as minimum_over_ten, may continue in the next line.
    """
    html = re.sub(r"<pre(?=[ >])", '<pre tabindex="0"', html)
    html = re.sub(r"<table.*?</table>", _finish_table, html, flags=re.S)
    html = _HEADING.sub(_link_heading, html)
    return _VERDICT.sub(_color_verdict, html)


def _link_heading(found):
    link = f'<a class="heading-link" href="#{found["anchor"]}" aria-label="Link to this section">#</a>'
    return found[0].replace("</h", f"{link}</h")


def _finish_table(found):
    table = re.sub(r"(<math.*?</math>|<[^>]*>)|_(?=\w)", lambda part: part[1] or "_<wbr>", found[0], flags=re.S)
    return f'<div class="scroll" tabindex="0" role="group" aria-label="Table">\n{table}\n</div>'


def _color_verdict(found):
    sign, word = found.groups()
    return f'<span class="verdict {word.replace(" ", "-")}"><span aria-hidden="true">{sign}</span> {word}</span>'


def read_style() -> str:
    """The page's CSS, its font of formulas within it."""
    folder = TEMPLATES / "html"
    font = base64.b64encode((folder / "math.woff2").read_bytes()).decode()
    css = (folder / "style.css").read_text(encoding="utf-8")
    return css.replace("url(math.woff2)", f"url(data:font/woff2;base64,{font})")
