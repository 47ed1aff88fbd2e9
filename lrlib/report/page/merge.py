"""Merge executed section notebooks into one: numbers, anchors, references.

What must read the same in HTML and PDF is settled here, in Markdown: numbers of sections, figures and tables, anchors,
and what references (`@fig-x`, `[Figure 2](1-range-test.ipynb#fig-x)`) and links to cited works become. The exporters
only typeset.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from lrlib.report.page.citations import NOUNS, PREFIXES, link_citations, slug

WIDGET = "application/vnd.jupyter.widget-view+json"
RASTERS = ("image/png", "image/jpeg")
ELSEWHERE = {"fig": "another figure", "tbl": "another table", "sec": "another section"}
NO_BREAK_SPACE = "\u00a0"

# In each pattern the first alternative is code, which stays as it is.
_HEADING = re.compile(r"^(```+|~~~+).*?^\1|^(?P<marks>#{1,6})[ \t]+(?P<title>[^\n]+?)(?:[ \t]+#+)?[ \t]*$", re.M | re.S)
_REFERENCE = re.compile(
    r"(?P<code>(`+).+?\2)|(?<![\w\\])@(?P<short>(?:fig|tbl|sec)-[a-z0-9-]*[a-z0-9])|"
    r"(?<!\\)\[(?P<words>[^\[\]]*)\]\((?:[\w.-]+\.ipynb)?#(?P<linked>(?:fig|tbl|sec|claim)-[a-z0-9-]*[a-z0-9])\)",
    re.S,
)


@dataclass
class Section:
    """An executed notebook on its way into the document; number is "" for the abstract, else such as "2.1"."""

    name: str
    number: str
    anchor: str
    part: str | None
    command: str
    cells: list[nbformat.NotebookNode]

    @property
    def depth(self) -> int:
        return self.number.count(".") + 1


def merge_notebooks(paths: Sequence[Path], *, partial: bool = False) -> nbformat.NotebookNode:
    """One notebook of all cells of executed section notebooks, with unique ids and anchors, numbers and links.

    Each cell says where its section opens and closes. Of a cell tagged `shown` the code is shown too; what a cell
    tagged `lab` displays is for JupyterLab. partial: references to what is not among the notebooks become words.
    Warns of an image without a caption, a label used twice, and a reference to nothing, which is marked. Raises
    ValueError for a link to a cited work that gives another year.
    """
    sections = [_read_section(Path(path)) for path in paths]
    _keep_first_banners(sections)
    targets = _number(sections)
    title = sections[0].cells[0].source.partition("\n")[0].removeprefix("#").strip()
    outline, cited = Outline(targets), set()
    for section in sections:
        _place_headings(section, outline)
        for holder, key in markdown_pieces(section.cells):
            holder[key] = _resolve_references(holder[key], section.name, targets, partial)
            holder[key], keys = link_citations(holder[key])
            cited |= set(keys)
        for index, cell in enumerate(section.cells):
            cell.id = f"{section.anchor[:56]}-{index}"  # nbformat allows 64 characters
            cell.metadata["lrlib"] = {
                "section": section.anchor,
                "command": section.command,
                "abstract": section.number == "",
                "opens": index == 0,
                "closes": index == len(section.cells) - 1,
            }
    merged = nbformat.v4.new_notebook(cells=[cell for section in sections for cell in section.cells])
    anchors = [f"sec-{section.anchor}" for section in sections]
    merged.metadata["lrlib"] = {"title": title, "cited": sorted(cited), "sections": anchors}
    return merged


def _read_section(path: Path) -> Section:
    notebook = nbformat.read(path, as_version=4)
    about = notebook.metadata["lrlib"]
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _belongs(output) and "lab" not in tags]
            for output in cell.outputs:
                _frame_image(output, path.name)
        if "shown" in tags:
            cells.append(nbformat.v4.new_markdown_cell(f"```python\n{cell.source}\n```"))
        cells.append(cell)
    return Section(path.name, about["section"], about["anchor"], about.get("part"), about.get("command", ""), cells)


def _belongs(output) -> bool:
    """Whether an output is for readers: not streams, progress bars, and captions that are there for JupyterLab."""
    shown = output.output_type in ("display_data", "execute_result") and WIDGET not in output.data
    return shown and output.metadata.get("report", {}).get("kind") != "caption"


def _frame_image(output, name) -> None:
    """Make an image without caption a figure without number, in place."""
    mime = next((mime for mime in ("image/svg+xml", *RASTERS) if mime in output.data), None)
    if mime is None or "report" in output.metadata:
        return
    warnings.warn(
        f"{name}: a figure has no caption and no alternative text; use lrlib.report.display.show_figure", stacklevel=2
    )
    if mime != "image/svg+xml":
        encoded = "".join(output.data[mime].split())
        width, height = Image.open(io.BytesIO(base64.b64decode(encoded))).size
        output.data["image/svg+xml"] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
            f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
            f'href="data:{mime};base64,{encoded}"/></svg>'
        )
    output.metadata["report"] = {"kind": "plain", "alt": "A figure without description.", "caption": ""}


def _keep_first_banners(sections) -> None:
    """Leave out a banner that an earlier section showed."""
    seen: set[str] = set()
    for section in sections:
        for cell in section.cells:
            for output in list(cell.get("outputs", [])):
                if output.metadata.get("report", {}).get("kind") == "banner":
                    text = output.data["text/markdown"]
                    cell.outputs.remove(output) if text in seen else seen.add(text)


def _number(sections) -> dict[str, str]:
    """Number figures and tables in their captions. Returns anchor -> "Figure 3" of what can be referenced."""
    targets: dict[str, str] = {}

    def define(anchor, text, section):
        if anchor in targets:
            warnings.warn(f"{section.name}: label {anchor!r} is used twice; references mean the first", stacklevel=2)
            while anchor in targets:
                anchor += "-again"
        targets[anchor] = text
        return anchor

    counts = dict.fromkeys([*NOUNS, "plain"], 0)
    for section in sections:
        if section.part:
            define(f"sec-{slug(section.part)}", f"Section {section.number.split('.')[0]}", section)
        define(f"sec-{section.anchor}", f"Section {section.number}" if section.number else "Abstract", section)
        for output in _outputs(section.cells):
            report = output.metadata.get("report", {})
            kind = report.get("kind")
            if kind in counts:
                counts[kind] += 1
            if kind in NOUNS:
                report.anchor = define(f"{PREFIXES[kind]}-{report.label}", f"{NOUNS[kind]} {counts[kind]}", section)
                report.caption = f"[{targets[report.anchor]}.]{{.number}} {report.caption}"
            elif kind == "plain":
                report.anchor = f"plain-{counts[kind]}"
            if anchors := report.get("anchors"):
                names = [define(anchor, "", section) for anchor in anchors]
                output.data["text/markdown"] = _anchor_rows(output.data["text/markdown"], names)
    return targets


def _anchor_rows(table, anchors) -> str:
    """A pipe table whose rows can be linked to, by anchors in their first cells."""
    head, rule, *rows = table.split("\n")
    marked = [re.sub(r"^\| (.*?) \|", rf"| [\1]{{#{a}}} |", row, count=1) for row, a in zip(rows, anchors, strict=True)]
    return "\n".join([head, rule, *marked])


def _outputs(cells):
    return (output for cell in cells for output in cell.get("outputs", []))


class Outline:
    """The headings of the document so far: no anchor comes twice and no level is skipped (PDF/UA forbids it)."""

    def __init__(self, taken):
        self.taken = set(taken)
        self.level = 0

    def inner(self, depth, title, anchor) -> str:
        while anchor in self.taken:
            anchor += "-again"
        self.taken.add(anchor)
        return self.heading(depth, title, anchor)

    def heading(self, depth, title, anchor) -> str:
        self.level = min(depth, self.level + 1, 6)
        return f"{'#' * self.level} {title} {{#{anchor}}}"


def _place_headings(section, outline) -> None:
    """Number a section's heading, set its part's above it and its other headings below; the abstract's is the title."""
    first, number, headings = section.cells[0], section.number, []
    title, _, first.source = first.source.partition("\n")
    if section.part:
        words = f"[{number.split('.')[0]}]{{.section-number}} {section.part}"
        headings.append(outline.heading(1, words, f"sec-{slug(section.part)}"))
    if number:
        words = f"[{number}]{{.section-number}} {title.removeprefix('#').strip()}"
        headings.append(outline.heading(section.depth, words, f"sec-{section.anchor}"))

    def place(match):
        if not match["marks"]:
            return match[0]
        depth = section.depth + max(1, len(match["marks"]) - 1)
        return outline.inner(depth, match["title"], f"sec-{section.anchor}-{slug(match['title'])}")

    for holder, key in markdown_pieces(section.cells):
        holder[key] = _HEADING.sub(place, holder[key])
    first.source = "\n\n".join([*headings, first.source]).strip()


def _resolve_references(text, name, targets, partial) -> str:
    def resolve(match):
        target = match["short"] or match["linked"]
        if target is None:
            return match[0]
        words = targets.get(target, "").replace(" ", NO_BREAK_SPACE) or match["words"]
        if target in targets:
            return f"[{words}](#{target})"
        if target.startswith("claim-"):
            return match["words"]
        if partial:
            return ELSEWHERE[target.partition("-")[0]]
        warnings.warn(f"{name} refers to {target}, which does not exist; the reference is marked", stacklevel=2)
        return f"**{target}?**"

    return _REFERENCE.sub(resolve, text)


def find_findings(notebook: nbformat.NotebookNode) -> dict[str, Any] | None:
    """The output of `show_findings`, which stands first; None if no cell shows it."""
    outputs = (out for out in _outputs(notebook.cells) if out.metadata.get("report", {}).get("kind") == "findings")
    return next(outputs, None)


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
