"""Merge executed section notebooks into one: numbers, anchors, references.

Everything that must read the same in HTML and PDF is settled here, in Markdown: section numbers, figure and table
numbers, anchors, and what references (`@fig-x`, `[Figure 2](1-range-test.ipynb#fig-x)`) and links to cited works
become. The exporters only typeset.

A section notebook carries `metadata["lrlib"] = {"section": "2.1", "anchor": "no-scheduling"}`, and the first of a part
`"part": "Experiments"` besides. Section "" is the abstract: its first heading is the title of the report.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from lrlib.report.citations import NOUNS, PREFIXES, link_citations, slug
from lrlib.report.notebook_files import nbformat
from lrlib.report.plain import frame_image, has_image
from lrlib.report.recipe import declared_parameters, read_recipe

WIDGET = "application/vnd.jupyter.widget-view+json"
ELSEWHERE = {"fig": "another figure", "tbl": "another table", "sec": "another section"}

NO_BREAK_SPACE = "\u00a0"

# In both patterns the first alternative is code, which stays as it is.
_HEADING = re.compile(r"^(```+|~~~+).*?^\1|^(?P<marks>#{1,6})[ \t]+(?P<title>[^\n]+?)(?:[ \t]+#+)?[ \t]*$", re.M | re.S)
_ANCHOR = r"{}(?P<{}>(?:fig|tbl|sec)-[a-z0-9-]*[a-z0-9]){}"
_REFERENCE = re.compile(
    "|".join(
        [
            r"(?P<code>(`+).+?\2)",
            _ANCHOR.format(r"(?<![\w\\])@", "short", ""),
            _ANCHOR.format(r"(?<!\\)\[[^\[\]]*\]\((?:[\w.-]+\.ipynb)?#", "linked", r"\)"),
        ]
    ),
    re.S,
)


@dataclass
class Section:
    """One notebook on its way into the document. `number` is "" for the abstract, "2.1" for a subsection."""

    name: str
    number: str
    anchor: str
    part: str | None
    cells: list
    recipe: dict

    @property
    def depth(self):
        return self.number.count(".") + 1


def merge_notebooks(paths, *, partial=False):
    """One notebook of all cells of the section notebooks, in the order of `paths`.

    Cell ids and heading anchors are unique; figures and tables are numbered in document order and carry the number in
    their caption; references are Markdown links. Streams, widgets, captions shown apart and repetitions of a banner
    are left
    out. Each cell says where its section opens and closes (`metadata.lrlib`); `metadata.lrlib` of the whole has the
    title
    (the first heading), the cited works' keys, and by section the recipe (`lrlib.report.recipe`).

    With `partial`, references to what is not among `paths` become plain words ("another section").

    What lacks something is shown as far as it can be, with a warning: an image without the report's words has no number,
    of two equal labels references mean the first, and a reference to nothing is marked, unless `partial`.
    Raises ValueError for a notebook without section metadata or heading.
    """
    notebooks = {Path(path).name: nbformat.read(path, as_version=4) for path in paths}
    defaults = {key: value for notebook in notebooks.values() for key, value in declared_parameters(notebook).items()}
    sections = [_read_section(name, notebook, defaults) for name, notebook in notebooks.items()]
    _keep_first_banners(sections)
    targets = _number(sections)
    title = _title(sections[0].cells[0].source.partition("\n")[0])
    outline, cited = Outline(targets), []
    for section in sections:
        _place_headings(section, outline)
        _resolve_references(section, targets, partial)
        cited += _resolve_citations(section)
        for index, cell in enumerate(section.cells):
            cell.id = f"{section.anchor[:56]}-{index}"  # nbformat allows 64 characters
            cell.metadata["lrlib"] = {
                "section": section.anchor,
                "abstract": section.number == "",
                "opens": index == 0,
                "closes": index == len(section.cells) - 1,
            }
    merged = nbformat.v4.new_notebook(cells=[cell for section in sections for cell in section.cells])
    recipes = {section.anchor: section.recipe for section in sections}
    merged.metadata["lrlib"] = {"title": title, "cited": sorted(set(cited)), "recipes": recipes}
    return merged


def _read_section(name, notebook, defaults):
    about = notebook.metadata.get("lrlib", {})
    if not {"section", "anchor"} <= about.keys():
        raise ValueError(f"{name} has no section in its metadata; set metadata.lrlib.section and .anchor")
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        raise ValueError(f"{name} must start with a Markdown cell whose first line is '# ' and its heading")
    n_plain = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _belongs(output)]
            for output in cell.outputs:
                if has_image(output) and not output.metadata.get("report", {}).get("alt", "").strip():
                    n_plain += 1
                    frame_image(output, anchor=f"plain-{about['anchor']}-{n_plain}", where=name)
    recipe = read_recipe(notebook, defaults)
    return Section(name, about["section"], about["anchor"], about.get("part"), notebook.cells, recipe)


def _belongs(output):
    """Whether an output is for the reader of a report: streams and widgets (progress bars) tell of the execution, and a
    caption by itself is for JupyterLab.
    """
    shown = output.output_type in ("display_data", "execute_result") and WIDGET not in output.data
    return shown and output.metadata.get("report", {}).get("kind") != "caption"


def _keep_first_banners(sections):
    """Leave out a banner that said the same before: each notebook warns of what concerns them all."""
    seen = set()

    def is_news(output):
        if output.metadata.get("report", {}).get("kind") != "banner":
            return True
        text = output.data["text/markdown"]
        return not (text in seen or seen.add(text))

    for section in sections:
        for cell in section.cells:
            if "outputs" in cell:
                cell.outputs = [output for output in cell.outputs if is_news(output)]


def _number(sections):
    """Number figures and tables in their captions; return what can be referenced, anchor -> "Figure 3"."""
    targets, defined_in = {}, {}

    def define(anchor, text, section):
        if anchor in targets:
            _warn(f"{section.name}: label {anchor!r} is already used in {defined_in[anchor]}, which references mean")
            while anchor in targets:
                anchor += "-again"
        targets[anchor], defined_in[anchor] = text, section.name
        return anchor

    counts = dict.fromkeys(NOUNS, 0)
    for section in sections:
        if section.part:
            define(f"sec-{slug(section.part)}", f"Section {section.number.split('.')[0]}", section)
        define(f"sec-{section.anchor}", f"Section {section.number}" if section.number else "Abstract", section)
        for report in _reports(section.cells):
            kind = report.get("kind")
            if kind in NOUNS:
                counts[kind] += 1
                report.anchor = define(f"{PREFIXES[kind]}-{report.label}", f"{NOUNS[kind]} {counts[kind]}", section)
                report.caption = f"[{targets[report.anchor]}.]{{.number}} {report.caption}"
            for anchor in report.get("anchors", []):
                define(anchor, anchor, section)
    return targets


def _warn(text):
    warnings.warn(text, stacklevel=2)


def _reports(cells):
    return (output.metadata.get("report", {}) for cell in cells for output in cell.get("outputs", []))


class Outline:
    """The headings of the document so far: no anchor comes twice and no level is skipped (PDF/UA forbids it)."""

    def __init__(self, taken):
        self.taken = set(taken)
        self.level = 0

    def own(self, depth, number, title, anchor):
        """The numbered heading of a section or part, whose anchor is what references name."""
        return self._heading(depth, f"[{number}]{{.section-number}} {title}", anchor)

    def inner(self, depth, title, anchor):
        while anchor in self.taken:
            anchor += "-again"
        self.taken.add(anchor)
        return self._heading(depth, title, anchor)

    def _heading(self, depth, title, anchor):
        self.level = min(depth, self.level + 1, 6)
        return f"{'#' * self.level} {title} {{#{anchor}}}"


def _place_headings(section, outline):
    """Number and anchor a section's heading, set its part's above it, and push its other headings below it.

    The heading of the abstract is the title of the document, which stands apart: here it goes.
    """
    first = section.cells[0]
    title, _, first.source = first.source.partition("\n")
    headings = []
    if section.part:
        headings.append(outline.own(1, section.number.split(".")[0], section.part, f"sec-{slug(section.part)}"))
    if section.number:
        headings.append(outline.own(section.depth, section.number, _title(title), f"sec-{section.anchor}"))

    def place(match):
        if not match["marks"]:
            return match[0]
        depth = section.depth + max(1, len(match["marks"]) - 1)
        return outline.inner(depth, match["title"], f"sec-{section.anchor}-{slug(match['title'])}")

    for holder, key in markdown_pieces(section.cells):
        holder[key] = _HEADING.sub(place, holder[key])
    first.source = "\n\n".join([*headings, first.source]).strip()


def _title(line):
    return line.removeprefix("#").strip()


def _resolve_references(section, targets, partial):
    def resolve(match):
        target = match["short"] or match["linked"]
        if target is None:
            return match[0]
        if target in targets:
            return f"[{targets[target].replace(' ', NO_BREAK_SPACE)}](#{target})"
        if partial:
            return ELSEWHERE[target.partition("-")[0]]
        _warn(f"{section.name} refers to @{target}, which is nowhere; it is marked in the report")
        return f"**{target}?**"

    for holder, key in markdown_pieces(section.cells):
        holder[key] = _REFERENCE.sub(resolve, holder[key])


def _resolve_citations(section):
    """Point links to works of the bibliography to the list of references; return the works' keys."""
    cited = []
    for holder, key in markdown_pieces(section.cells):
        try:
            holder[key], keys = link_citations(holder[key])
        except ValueError as err:
            raise ValueError(f"{section.name}: {err}") from err
        cited += keys
    return cited


def find_result(notebook):
    """What came of the report, that it says first (`show_result`); None where no cell shows it.

    A verdict's anchor and table are those of its evidence; None where the notebook does not hold it.
    """
    reports = list(_reports(notebook.cells))
    result = next((report for report in reports if report.get("kind") == "result"), None)
    if result is not None:
        tables = {anchor: report.anchor for report in reports for anchor in report.get("anchors", [])}
        for verdict in result.verdicts:
            verdict.table = tables.get(verdict.anchor)
            verdict.anchor = verdict.anchor if verdict.table else None
    return result


def markdown_pieces(cells):
    """Every place in cells that holds Markdown, in document order: pairs of a mapping and its key."""
    for cell in cells:
        if cell.cell_type == "markdown":
            yield cell, "source"
        for output in cell.get("outputs", []):
            for key in ("caption", "sentence"):
                if key in output.metadata.get("report", {}):
                    yield output.metadata.report, key
            if "text/markdown" in output.data:
                yield output.data, "text/markdown"
