"""A merged notebook as one HTML page that needs nothing else."""

import base64
import gzip
import hashlib
import re
from copy import deepcopy
from html import escape
from pathlib import Path
from urllib.parse import quote

from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML
from traitlets.config import Config

from lrlib.report.outcome import Outcome
from lrlib.report.page.about import list_authors, list_tags, write_bibtex
from lrlib.report.page.figures import inline_svg, panels_json, plot_style
from lrlib.report.page.merge import find_findings
from lrlib.report.page.pandoc import TEMPLATES, render_markdown
from lrlib.runs.store import write_whole

PLAIN_DATA = 50_000  # characters of a CSV that a link holds as they are; more are packed by gzip
NOT_SHOWN = {"parameters", "injected-parameters", "hide"}  # tags of cells whose code is no explanation

_HEADING = re.compile(r'<h(?P<level>[2-6]) id="(?P<anchor>[^"]+)"[^>]*>(?P<title>.*?)</h(?P=level)>', re.S)
_VERDICT = re.compile(r"(✓|✗|\?) (reproduced|not reproduced|inconclusive)\b")


def export_html(notebook, *, out: Path) -> None:
    """Write a merged notebook as one page, which makes no request; the same input gives the same bytes."""
    page, _ = HtmlReport().from_notebook_node(notebook)
    write_whole(Path(out), page.encode())


class HtmlReport(TemplateExporter):
    """nbconvert's assembling, with the report's page as template."""

    file_extension = ".html"
    output_mimetype = "text/html"
    template_name = "html"
    extra_template_basedirs = [str(TEMPLATES)]

    @property
    def default_config(self):
        config = super().default_config
        priority = ["image/svg+xml", "text/markdown", "text/html", "text/plain"]
        config.merge(Config(NbConvertBase={"display_data_priority": priority}))
        return config

    def default_filters(self):
        yield from super().default_filters()
        for function in (inline_svg, plot_style, panels_json, finish_markdown):
            yield function.__name__, function

    def from_notebook_node(self, nb, resources=None, **kw):
        nb = deepcopy(nb)
        about = nb.metadata.get("report", {})
        title = nb.metadata.lrlib.title
        fold_making(nb, about.get("commit"))
        references = render_markdown(nb, to="html")
        script = (TEMPLATES / "html" / "page.js").read_text(encoding="utf-8")
        resources = {
            **(resources or {}),
            "title": title,
            "references": references,
            "contents": link_headings(nb),
            "css": read_style(),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "findings": find_findings(nb),
            "outcome": Outcome(**about.get("outcome", {})).to_json(),
            "bibtex": write_bibtex(title, about),
            "citation_tags": list_tags(title, about),
            "authors": list_authors(),
        }
        return super().from_notebook_node(nb, resources, **kw)


def fold_making(notebook, commit) -> None:
    """Put HTML into the outputs (`metadata.made`), and into the first cell of each section, that says how they
    were made: data, command, commit and code. The section's has the code of cells that show nothing.
    """
    opening, setup = None, []
    for cell in notebook.cells:
        place = cell.metadata.lrlib
        opening = cell if place.opens or opening is None else opening
        if cell.cell_type == "code":
            source = "" if NOT_SHOWN & set(cell.metadata.get("tags", [])) else cell.source
            setup += [source] if source and not cell.outputs else []
            for output in cell.outputs:
                kind = output.metadata.get("report", {}).get("kind", "text")
                noun = kind if kind in ("figure", "table") else "text"
                data = _data_link(output.data.get("text/csv"), output.metadata.get("report", {}).get("anchor"))
                output.metadata["made"] = _fold(noun, data, place.command, commit, source)
        if place.closes:
            opening.metadata.lrlib["made"] = _fold("section", "", place.command, commit, "\n\n".join(setup))
            setup = []


def _fold(noun, data, command, commit, source):
    title = f"How this {noun} was made"
    said = f"<p>Reproduce with <code>{escape(command)}</code>{f' at commit {escape(commit)}' if commit else ''}.</p>"
    code = Highlight2HTML(pygments_lexer="python3")(source) if source else ""
    code = code.replace("<pre>", '<pre tabindex="0">')
    summary = f'<summary aria-label="{title}" title="{title}"><span aria-hidden="true">&lt;/&gt;</span></summary>'
    return f'<details class="made">{summary}<div>{said if command else ""}{data}{code}</div></details>'


def _data_link(csv, name):
    """A link to a CSV, which it holds; a large one is packed by gzip, as pandas reads it. "" without CSV."""
    if not csv:
        return ""
    if len(csv) <= PLAIN_DATA:
        file, href, words = f"{name}.csv", "data:text/csv;charset=utf-8," + quote(csv, safe="/,:;+*()!~"), "CSV"
    else:
        packed = base64.b64encode(gzip.compress(csv.encode(), mtime=0)).decode()
        file, href, words = f"{name}.csv.gz", f"data:application/gzip;base64,{packed}", "CSV, gzip"
    return f'<p><a class="data" download="{file}" href="{escape(href)}">Data ({words})</a></p>'


def link_headings(notebook) -> list[dict[str, str]]:
    """Give every heading of a notebook rendered to HTML a link to itself, in place.

    Returns the headings down to <h3>: level, anchor, title.
    """
    found = []

    def link(match):
        if match["level"] in "23":
            found.append(match.groupdict())
        anchor = f'<a class="heading-link" href="#{match["anchor"]}" aria-label="Link to this section">#</a>'
        return match[0].replace("</h", f"{anchor}</h")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _HEADING.sub(link, cell.source)
    return found


def finish_markdown(html: str) -> str:
    """HTML with each verdict, such as `✓ reproduced`, in its colour, and tables and code that scroll by themselves.

    Names in tables, such as minimum_over_ten, may continue in the next line.
    """
    html = re.sub(r"<pre(?=[ >])", '<pre tabindex="0"', html)
    html = re.sub(r"<table.*?</table>", _finish_table, html, flags=re.S)
    return _VERDICT.sub(_color_verdict, html)


def _finish_table(found):
    table = re.sub(r"(<[^>]*>)|_(?=\w)", lambda part: part[1] or "_<wbr>", found[0])
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
