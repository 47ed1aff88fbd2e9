"""A merged notebook as one HTML page that needs nothing else."""

import base64
import gzip
import hashlib
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from nbconvert.filters import Highlight2HTML

from lrlib.report.page.figures import inline_svg, panels_json, plot_style
from lrlib.report.page.render import TEMPLATES, fill_template, list_authors, read_citation
from lrlib.report.publish import Outcome
from lrlib.runs.store import write_whole

PLAIN_DATA = 50_000  # characters of a CSV that a link holds as they are; more are packed by gzip

_HEADING = re.compile(r'<h(?P<level>[2-6]) id="(?P<anchor>[^"]+)"[^>]*>(?P<title>.*?)(?=</h(?P=level)>)', re.S)
_LINKED = r'\g<0><a class="heading-link" href="#\g<anchor>" aria-label="Link to this section">#</a>'
# Spans of highlighted code whose class has no colour in the page's style: a tenth of the page.
_PLAIN = re.compile(r'<span class="(?!(?:k|kn|kc|ow|s1|s2|sa|sd|si|c1|cm|mi|mf)")\w+">([^<]*)</span>')
_VERDICT = re.compile(r"(✓|✗|\?) (reproduced|not reproduced|inconclusive)\b")


def export_html(notebook, *, out: Path) -> None:
    """Write a merged notebook as one page, which makes no request; the same input gives the same bytes."""
    about = notebook.metadata.get("report", {})
    folder = TEMPLATES / "html"
    script, css = ((folder / name).read_text(encoding="utf-8") for name in ("page.js", "style.css"))
    font = base64.b64encode((folder / "math.woff2").read_bytes()).decode()  # of formulas
    page = fill_template(
        notebook,
        (inline_svg, plot_style, panels_json, list_headings, finish_markdown, finish_code, data_link),
        to="html",
        css=css.replace("url(math.woff2)", f"url(data:font/woff2;base64,{font})"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        outcome=Outcome(**about.get("outcome", {})).to_json(),
        bibtex=write_bibtex(notebook.metadata.lrlib.title, about),
    )
    write_whole(Path(out), page.encode())


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
    html = _HEADING.sub(_LINKED, html)
    return _VERDICT.sub(_color_verdict, html)


def _finish_table(found):
    table = re.sub(r"(<math.*?</math>|<[^>]*>)|_(?=\w)", lambda part: part[1] or "_<wbr>", found[0], flags=re.S)
    return f'<div class="scroll" tabindex="0" role="group" aria-label="Table">\n{table}\n</div>'


def _color_verdict(found):
    sign, word = found.groups()
    return f'<span class="verdict {word.replace(" ", "-")}"><span aria-hidden="true">{sign}</span> {word}</span>'


def write_bibtex(title: str, about) -> str:
    """A BibTeX entry of the document. about: `metadata.report` of a merged notebook."""
    fields = {
        "author": " and ".join(f"{{{name}}}" for name in list_authors()),
        "title": re.sub(r"([A-Z][\w-]*[A-Z][\w-]*)", r"{\1}", title),  # as it is written: LeNet-5, MNIST
        "year": about.get("date", "")[-4:],
        "note": f"Commit {about['commit']}" if about.get("commit") else "",
        "url": str(read_citation().get("repository-code", "")),
    }
    return "@misc{lrlib,\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value) + "}"
