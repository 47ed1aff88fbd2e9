"""Merge executed section notebooks into one: numbers, anchors, references.

HTML and PDF must agree, so numbers of sections, figures and tables, anchors, references (`@fig-x`,
`[Figure 2](1-range-test.ipynb#fig-x)`) and links to cited works are set here, in Markdown. The exporters only typeset.
"""

import base64
import functools
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from lrlib.report.page.citations import NOUNS, PREFIXES, link_citation, name_section, slug
from lrlib.report.publish import list_outputs

WIDGET = "application/vnd.jupyter.widget-view+json"
RASTERS = ("image/png", "image/jpeg")
ELSEWHERE = {"fig": "another figure", "tbl": "another table", "sec": "another section"}
NO_BREAK_SPACE = "\u00a0"
NOT_SHOWN = {"parameters", "injected-parameters", "hide"}  # tags of cells whose code is no explanation

# In each pattern the first alternative is code, which stays as it is.
_HEADING = re.compile(r"^(```+|~~~+).*?^\1|^(?P<marks>#{1,6})[ \t]+(?P<title>[^\n]+?)(?:[ \t]+#+)?[ \t]*$", re.M | re.S)
_REFERENCE = re.compile(
    r"(?P<code>(`+).+?\2)|(?<![\w\\])@(?P<short>(?:fig|tbl|sec)-[a-z0-9-]*[a-z0-9])|"
    r"(?<!\\)\[(?P<words>[^\[\]]*)\]\((?:(?P<url>https?://[^()\s]+(?:\([^()\s]*\)[^()\s]*)*)|"
    r"(?:[\w.-]+\.ipynb)?#(?P<linked>(?:fig|tbl|sec|claim)-[a-z0-9-]*[a-z0-9]))\)",
    re.S,
)


def merge_notebooks(paths: Sequence[Path], *, partial: bool = False) -> NotebookNode:
    """One notebook of all cells of executed section notebooks, with unique ids and anchors, numbers and links.

    Each cell says where its section opens and closes, and the code of the section's cells that show nothing. Of a cell
    tagged `shown` the code is shown too; what a cell tagged `lab` displays is for JupyterLab. partial: references to
    what is not among the notebooks become words. Warns of an image without a caption, a label used twice, and a
    reference to nothing, which is marked. Raises ValueError for a link to a cited work that gives another year.
    """
    banners: set[str] = set()
    sections = {path.name: _read_section(path, banners) for path in paths}
    targets = _number(sections)
    title = next(iter(sections.values())).cells[0].source.partition("\n")[0].removeprefix("#").strip()
    _place_headings(sections, targets)
    cells = []
    for name, section in sections.items():
        for holder, key in markdown_pieces(section.cells):
            holder[key] = _resolve_references(holder[key], name, targets, partial)
        about = section.metadata.lrlib
        silent = [cell.source for cell in section.cells if cell.cell_type == "code" and not cell.outputs]
        for index, cell in enumerate(section.cells):
            cell.id = f"{about.anchor[:56]}-{index}"  # nbformat allows 64 characters
            cell.metadata["lrlib"] = {
                "section": about.anchor,
                "command": about.get("command", ""),
                "setup": "\n\n".join(filter(None, silent)),
                "abstract": about.section == "",
                "opens": index == 0,
                "closes": index == len(section.cells) - 1,
            }
        cells += section.cells
    anchors = [f"sec-{section.metadata.lrlib.anchor}" for section in sections.values()]
    return nbformat.v4.new_notebook(cells=cells, metadata={"lrlib": {"title": title, "sections": anchors}})


def _read_section(path, banners) -> NotebookNode:
    """A notebook with the cells and outputs that belong into the document. banners: those of earlier sections."""
    notebook, cells = nbformat.read(path, as_version=4), []
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if "shown" in tags:
            cells.append(nbformat.v4.new_markdown_cell(f"```python\n{cell.source}\n```"))
        if cell.cell_type == "code":
            cell.source = "" if tags & NOT_SHOWN else cell.source
            cell.outputs = [output for output in cell.outputs if "lab" not in tags and _belongs(output, banners)]
            for output in cell.outputs:
                _frame_image(output, path.name)
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _belongs(output, banners) -> bool:
    """Whether an output is for readers: no stream, progress bar, caption for JupyterLab, or banner shown before."""
    if output.output_type not in ("display_data", "execute_result") or WIDGET in output.data:
        return False
    kind, text = output.metadata.get("report", {}).get("kind"), output.data.get("text/markdown")
    if kind == "banner" and text not in banners:
        banners.add(text)
        return True
    return kind not in ("banner", "caption")


def _frame_image(output, name) -> None:
    """Make an image without caption a figure without number, in place."""
    mime = next((mime for mime in ("image/svg+xml", *RASTERS) if mime in output.data), None)
    if mime is None or "report" in output.metadata:
        return
    warnings.warn(f"{name}: a figure has no caption; show it by lrlib.report.display.show_figure", stacklevel=2)
    if mime in RASTERS:
        encoded = "".join(output.data[mime].split())
        width, height = Image.open(io.BytesIO(base64.b64decode(encoded))).size
        output.data["image/svg+xml"] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
            f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
            f'href="data:{mime};base64,{encoded}"/></svg>'
        )
    output.metadata["report"] = {"kind": "plain", "alt": "A figure without description.", "caption": ""}


def _number(sections) -> dict[str, str]:
    """Number figures and tables in their captions. Returns anchor -> "Figure 3" of what can be referenced."""
    targets: dict[str, str] = {}

    def define(anchor, text, name):
        if anchor in targets:
            warnings.warn(f"{name}: label {anchor!r} is used twice; references mean the first", stacklevel=2)
        anchor = _make_unique(anchor, targets)
        targets[anchor] = text
        return anchor

    counts = dict.fromkeys([*NOUNS, "plain"], 0)
    for name, section in sections.items():
        for anchor, words in name_section(section.metadata.lrlib).items():
            define(anchor, words, name)
        for output in list_outputs([section]):
            report = output.metadata.report
            kind = report.kind
            if kind in counts:
                counts[kind] += 1
            if kind in NOUNS:
                report.anchor = define(f"{PREFIXES[kind]}-{report.label}", f"{NOUNS[kind]} {counts[kind]}", name)
                report.caption = f"[{targets[report.anchor]}.]{{.number}} {report.caption}"
            elif kind == "plain":
                report.anchor = f"plain-{counts[kind]}"
            if anchors := report.get("anchors"):
                names = [define(anchor, "", name) for anchor in anchors]
                output.data["text/markdown"] = _anchor_rows(output.data["text/markdown"], names)
    return targets


def _make_unique(anchor, taken) -> str:
    while anchor in taken:
        anchor += "-again"
    return anchor


def _anchor_rows(table, anchors) -> str:
    """A pipe table whose rows can be linked to, by anchors in their first cells."""
    head, rule, *rows = table.split("\n")
    marked = [re.sub(r"^\| (.*?) \|", rf"| [\1]{{#{a}}} |", row, count=1) for row, a in zip(rows, anchors, strict=True)]
    return "\n".join([head, rule, *marked])


def _place_headings(sections, targets) -> None:
    """Number the sections' headings, set their parts' above them and other headings below; the abstract's is the title.

    No anchor comes twice and no level is skipped (PDF/UA forbids it).
    """
    taken, level = set(targets), 0

    def head(depth, title, anchor):
        nonlocal level
        level = min(depth, level + 1, 6)
        taken.add(anchor)
        return f"{'#' * level} {title} {{#{anchor}}}"

    def place(match, about):
        if not match["marks"]:
            return match[0]
        depth = about.section.count(".") + max(2, len(match["marks"]))
        anchor = _make_unique(f"sec-{about.anchor}-{slug(match['title'])}", taken)
        return head(depth, match["title"], anchor)

    for section in sections.values():
        about, first, headings = section.metadata.lrlib, section.cells[0], []
        title, _, first.source = first.source.partition("\n")
        if "part" in about:
            words = f"[{about.section.split('.')[0]}]{{.section-number}} {about.part}"
            headings.append(head(1, words, f"sec-{slug(about.part)}"))
        if about.section:
            words = f"[{about.section}]{{.section-number}} {title.removeprefix('#').strip()}"
            headings.append(head(about.section.count(".") + 1, words, f"sec-{about.anchor}"))
        for holder, key in markdown_pieces(section.cells):
            holder[key] = _HEADING.sub(functools.partial(place, about=about), holder[key])
        first.source = "\n\n".join([*headings, first.source]).strip()


def _resolve_references(text, name, targets, partial) -> str:
    def resolve(match):
        target = match["short"] or match["linked"]
        if match["url"]:
            return link_citation(match["words"], match["url"])
        if target is None:
            return match[0]
        if target in targets:
            words = targets[target].replace(" ", NO_BREAK_SPACE) or match["words"]
            return f"[{words}](#{target})"
        if target.startswith("claim-"):
            return match["words"]
        if partial:
            return ELSEWHERE[target.partition("-")[0]]
        warnings.warn(f"{name} refers to {target}, which does not exist; the reference is marked", stacklevel=2)
        return f"**{target}?**"

    return _REFERENCE.sub(resolve, text)


def markdown_pieces(cells) -> Iterator[tuple[dict[str, str], str]]:
    """Every place in cells that holds Markdown, in document order: pairs of a mapping and its key."""
    for cell in cells:
        if cell.cell_type == "markdown":
            yield cell, "source"
        for output in cell.get("outputs", []):
            if "caption" in output.metadata.get("report", {}):
                yield output.metadata.report, "caption"
            if "text/markdown" in output.data:
                yield output.data, "text/markdown"
