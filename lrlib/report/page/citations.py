"""Citations and references as links, which read well wherever Markdown does.

In a notebook a citation is a link to the work, `[Smith 2017](https://arxiv.org/abs/1506.01186)`, and a reference a link
to notebook and label, `[Figure 2](1-range-test.ipynb#fig-sweep)`. The document turns both into links within itself and
numbers them anew. Code may write the short forms `[@smith2017]`, `@smith2017`, `@fig-sweep`, `@tbl-claims`,
`@sec-regret`; `spell_out` makes links of them.
"""

import functools
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pypandoc

from lrlib.project import project_folder

BIBLIOGRAPHY = project_folder() / "report" / "references.bib"
NOUNS = {"figure": "Figure", "table": "Table"}
PREFIXES = {"figure": "fig", "table": "tbl"}

# The first alternative is code, which stays as it is.
_SHORT = re.compile(
    r"(?P<code>(`+).+?\2)|\[(?P<group>@[\w-]+(?:\s*;\s*@[\w-]+)*)\]|(?<![\w\\])@(?P<target>[a-z][\w-]*[\w])", re.S
)
_LINK = re.compile(
    r"(?P<code>(`+).+?\2)|\[(?P<words>[^\[\]]*)\]\((?P<url>https?://[^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)", re.S
)
_SHOWN = re.compile(r"\bshow_(figure|table|verdicts)\(.*?\blabel=[\"']([a-z0-9-]+)[\"']", re.S)


@dataclass(frozen=True)
class Work:
    """An entry of the bibliography; names and year as an author-date style has them."""

    key: str
    names: str
    year: str
    url: str


@functools.cache
def read_bibliography() -> dict[str, Work]:
    """key -> Work of `report/references.bib`; url is "" for a work without doi and url."""
    command = [pypandoc.get_pandoc_path(), "--from=bibtex", "--to=csljson", str(BIBLIOGRAPHY)]
    entries = json.loads(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout)
    works = {}
    for entry in entries:
        families = [name.get("family") or name.get("literal", "") for name in entry.get("author", [])]
        names = f"{families[0]} et al." if len(families) > 2 else " and ".join(families)
        parts = entry.get("issued", {}).get("date-parts", [["n.d."]])
        url = f"https://doi.org/{entry['DOI']}" if "DOI" in entry else entry.get("URL", "")
        works[entry["id"]] = Work(entry["id"], names, str(parts[0][0]), url)
    return works


@functools.cache
def find_numbers(folder: Path) -> dict[str, tuple[str, str]]:
    """anchor -> (what a reference says, notebook), as JupyterLab shows them: counted in the notebooks' code."""
    found: dict[str, tuple[str, str]] = {}
    counts = dict.fromkeys(NOUNS, 0)
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        about = notebook.metadata.get("lrlib", {})
        if "section" not in about:
            continue
        number = about["section"]
        if about.get("part"):
            found[f"sec-{slug(about['part'])}"] = (f"Section {number.split('.')[0]}", path.name)
        found[f"sec-{about['anchor']}"] = (f"Section {number}" if number else "Abstract", path.name)
        for cell in notebook.cells:
            for shown, label in _SHOWN.findall(cell.source) if cell.cell_type == "code" else ():
                kind = "figure" if shown == "figure" else "table"
                counts[kind] += 1
                found[f"{PREFIXES[kind]}-{label}"] = (f"{NOUNS[kind]} {counts[kind]}", path.name)
    return found


def slug(title: str) -> str:
    """A title as an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def spell_out(markdown: str, folder: Path) -> str:
    """Markdown with citations and references in their short form made links; folder: the notebooks that they lead to.

    Raises ValueError for a citation that is not in the bibliography; a reference to nothing is left as it is.
    """

    def replace(match):
        if match["code"]:
            return match[0]
        if match["group"]:
            works = [_find(key.strip().removeprefix("@")) for key in match["group"].split(";")]
            return "(" + "; ".join(f"[{work.names} {work.year}]({work.url})" for work in works) + ")"
        target = match["target"]
        if re.match("(fig|tbl|sec)-", target):
            words, notebook = find_numbers(folder).get(target, (None, None))
            return f"[{words}]({notebook}#{target})" if words else match[0]
        work = _find(target)
        return f"{work.names} ([{work.year}]({work.url}))"

    return _SHORT.sub(replace, markdown)


def _find(key) -> Work:
    works = read_bibliography()
    if key not in works:
        raise ValueError(f"citation {key} is not in {BIBLIOGRAPHY.name}; it has {', '.join(works)}")
    return works[key]


def link_citations(markdown: str) -> tuple[str, list[str]]:
    """Markdown whose links to works of the bibliography lead to the list of references, and the keys of those works."""
    by_url, cited = {work.url: work for work in read_bibliography().values() if work.url}, []

    def replace(match):
        work = None if match["code"] else by_url.get(match["url"])
        if work is None:
            return match[0]
        if work.year not in match["words"]:
            raise ValueError(f"a link to {work.url} says {match['words']!r}; that work is {work.names} {work.year}")
        cited.append(work.key)
        return f"[{match['words']}](#ref-{work.key})"

    return _LINK.sub(replace, markdown), cited
