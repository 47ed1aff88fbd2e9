"""A merged notebook as one HTML page that needs nothing else."""

import base64
import re
from copy import deepcopy
from html import escape
from pathlib import Path
from urllib.parse import quote

from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from lrlib.report.pandoc import TEMPLATES, render_markdown
from lrlib.runs.store import write_whole

# Colours that figures are drawn with (and matplotlib's own black), and what the page calls them: it has two of each.
INKS = {"#1f2328": "var(--ink)", "#000000": "var(--ink)", "#d0d7de": "var(--grid)", "#ffffff": "var(--paper)"}

# Spans of highlighted code whose class has no colour in the page's style: four fifths of them.
_PLAIN = re.compile(r'<span class="(?!(?:k|kn|kc|ow|s1|s2|sa|sd|si|c1|cm|mi|mf)")\w+">([^<]*)</span>')
_HEADING = re.compile(r'<h(?P<level>[2-6]) id="(?P<anchor>[^"]+)"[^>]*>(?P<title>.*?)</h(?P=level)>', re.S)


def export_html(notebook, *, out):
    """Write a merged notebook (`merge_notebooks`) to the file `out` as one page; the same input gives the same bytes.

    The page makes no request. Title, subtitle, date, authors and commit come from `metadata.report` where it has them.
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
        config.merge(Config(TagRemovePreprocessor={"remove_input_tags": {"hide"}}))
        return config

    def default_filters(self):
        yield from super().default_filters()
        yield "inline_svg", inline_svg
        yield "data_uri", data_uri
        yield "drop_plain_spans", lambda code: _PLAIN.sub(r"\1", code)

    def from_notebook_node(self, nb, resources=None, **kw):
        nb = deepcopy(nb)
        references = render_markdown(nb, to="html")
        resources = {**(resources or {}), "references": references, "contents": contents(nb), "css": stylesheet()}
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


def inline_svg(svg, report):
    """A figure's SVG as an element of the page: described, colours by the page, ids its own and only those in use."""
    body = re.search(r"<svg.*", svg, re.S)[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r' (d|x|y)="[^"]+"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), body)  # to 0.01 pt
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{report.anchor}-", body)
    for ink, name in INKS.items():
        body = body.replace(ink, name)
    body = re.sub(r"<!--.*?-->", "", body)
    body = re.sub(r">\s+<", "><", body)
    opening = f'<svg role="img" aria-label="{escape(" ".join(report.alt.split()))}" viewBox="{_view_box(body)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, body, count=1)


def _view_box(svg):
    return re.search(r'viewBox="([^"]+)"', svg)[1]


def data_uri(csv):
    return "data:text/csv;charset=utf-8," + quote(csv, safe="/,:;+*()!~")
