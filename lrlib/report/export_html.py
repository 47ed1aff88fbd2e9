"""A merged notebook as one HTML page that needs nothing else."""

import base64
import gzip
import hashlib
import json
import re
from copy import deepcopy
from pathlib import Path
from urllib.parse import quote

from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from lrlib.report.citing import list_tags, write_bibtex, write_json_ld
from lrlib.report.document import find_result
from lrlib.report.drawing import INKS, inline_svg, panels_json, panels_of, plot_style
from lrlib.report.made import fold_making
from lrlib.report.pandoc import TEMPLATES, render_markdown
from lrlib.report.tables_html import finish_table
from lrlib.runs.store import write_whole

# Characters of a CSV that a link holds as they are. More are packed: the curves of 30 seeds are 2 MB as text.
PLAIN_DATA = 50_000

_HEADING = re.compile(r'<h(?P<level>[2-6]) id="(?P<anchor>[^"]+)"[^>]*>(?P<title>.*?)</h(?P=level)>', re.S)


def export_html(notebook, *, out):
    """Write a merged notebook (`merge_notebooks`) to the file `out` as one page; the same input gives the same bytes.

    The page makes no request, and runs no script but its own. Title, subtitle, date, authors and commit come from
    `metadata.report` where it has them.
    """
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
        priority = ["image/svg+xml", "text/markdown", "text/html", "text/plain"]
        config = super().default_config
        config.merge(Config(NbConvertBase={"display_data_priority": priority}))
        return config

    def default_filters(self):
        yield from super().default_filters()
        yield "inline_svg", inline_svg
        yield "plot_style", plot_style
        yield "panels_of", panels_of
        yield "panels_json", panels_json
        yield "finish_table", finish_table
        yield "data_link", data_link

    def from_notebook_node(self, nb, resources=None, **kw):
        nb = deepcopy(nb)
        about = nb.metadata.get("report", {})
        title = about.get("title") or nb.metadata.lrlib.title
        fold_making(nb, about.get("commit"))
        references = render_markdown(nb, to="html")
        script = read_script()
        resources = {
            **(resources or {}),
            "title": title,
            "references": references,
            "contents": contents(nb),
            "css": stylesheet(),
            "script": script,
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "inks": json.dumps(INKS, separators=(",", ":")),
            "result": find_result(nb),
            "bibtex": write_bibtex(title, about),
            "citation_tags": list_tags(title, about),
            "json_ld": write_json_ld(title, about, nb.metadata.lrlib.cited),
        }
        link_headings(nb)
        return super().from_notebook_node(nb, resources, **kw)


def contents(notebook):
    """The headings of a notebook rendered to HTML, down to <h3>: list of {"level", "anchor", "title"}."""
    words = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = _HEADING.finditer(words)
    return [match.groupdict() for match in headings if match["level"] in "23"]


def link_headings(notebook):
    """Give every heading of a notebook rendered to HTML a link to itself, in place."""

    def link(match):
        anchor = f'<a class="heading-link" href="#{match["anchor"]}" aria-label="Link to this section">#</a>'
        return match[0].replace("</h", f"{anchor}</h")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _HEADING.sub(link, cell.source)


def stylesheet():
    """The page's CSS, its font of formulas within it."""
    folder = TEMPLATES / "html"
    font = base64.b64encode((folder / "math.woff2").read_bytes()).decode()
    css = (folder / "style.css").read_text(encoding="utf-8")
    return css.replace("url(math.woff2)", f"url(data:font/woff2;base64,{font})")


def read_script():
    """The page's script, comments and indentation left out; its hash is all that the page's policy lets run."""
    script = (TEMPLATES / "html" / "page.js").read_text(encoding="utf-8")
    lines = (line.strip() for line in script.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def data_link(csv, name):
    """What a link to data has: download (the file's name), href, and words; a large CSV is gzip's, as pandas reads it."""
    if len(csv) <= PLAIN_DATA:
        href = "data:text/csv;charset=utf-8," + quote(csv, safe="/,:;+*()!~")
        return {"download": f"{name}.csv", "href": href, "words": "Data (CSV)"}
    packed = base64.b64encode(gzip.compress(csv.encode(), mtime=0)).decode()
    href = f"data:application/gzip;base64,{packed}"
    return {"download": f"{name}.csv.gz", "href": href, "words": "Data (CSV, gzip)"}
