"""Citations and references as links, which any Markdown viewer shows.

In a notebook a citation is a link to the work, `[Smith 2017](https://arxiv.org/abs/1506.01186)`, and a reference a link
to notebook and label, `[Figure 2](1-range-test.ipynb#fig-sweep)`. The document turns both into links within itself and
numbers references anew. Code may write references short, `@fig-sweep`, `@tbl-claims`, `@sec-regret`; `spell_out` makes
links of them.
"""

import functools
import json
import re
from pathlib import Path

import pypandoc

from lrlib.project import project_folder

BIBLIOGRAPHY = project_folder() / "report" / "references.bib"
NOUNS = {"figure": "Figure", "table": "Table"}
PREFIXES = {"figure": "fig", "table": "tbl"}

# The first alternative is code, which stays as it is.
_SHORT = re.compile(r"(`+).+?\1|(?<![\w\\])@(?P<target>(?:fig|tbl|sec)-[\w-]*\w)", re.S)
_SHOWN = re.compile(r"\bshow_(figure|table|verdicts)\(.*?\blabel=[\"']([a-z0-9-]+)[\"']", re.S)


@functools.cache
def read_bibliography() -> dict[str, tuple[str, str]]:
    """url -> (key, year) of the works in `report/references.bib` that have a doi or url."""
    found = {}
    for work in json.loads(pypandoc.convert_file(BIBLIOGRAPHY, "csljson", format="bibtex")):
        url = f"https://doi.org/{work['DOI']}" if "DOI" in work else work.get("URL")
        year = work["issued"]["date-parts"][0][0] if "issued" in work else "n.d."
        found[url] = work["id"], str(year)
    return found


@functools.cache
def find_numbers(folder: Path) -> dict[str, tuple[str, str]]:
    """anchor -> (what a reference says, notebook), as JupyterLab shows them: counted in the notebooks' code."""
    found: dict[str, tuple[str, str]] = {}
    counts = dict.fromkeys(NOUNS, 0)
    for path in sorted(folder.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))  # nbformat takes a second to import, in every kernel
        about = notebook["metadata"].get("lrlib", {})
        if "section" not in about:
            continue
        found |= {anchor: (words, path.name) for anchor, words in name_section(about).items()}
        for cell in notebook["cells"]:
            for shown, label in _SHOWN.findall("".join(cell["source"])) if cell["cell_type"] == "code" else ():
                kind = "figure" if shown == "figure" else "table"
                counts[kind] += 1
                found[f"{PREFIXES[kind]}-{label}"] = (f"{NOUNS[kind]} {counts[kind]}", path.name)
    return found


def name_section(about) -> dict[str, str]:
    """anchor -> what a reference says, of a section and of the part that it opens; about: its metadata `lrlib`."""
    number = about["section"]
    names = {f"sec-{slug(about['part'])}": f"Section {number.split('.')[0]}"} if about.get("part") else {}
    return names | {f"sec-{about['anchor']}": f"Section {number}" if number else "Abstract"}


def slug(title: str) -> str:
    """A title as an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def spell_out(markdown: str) -> str:
    """Markdown whose short references are links to the working folder's notebooks; one to nothing is left as it is."""

    def replace(match):
        target = match["target"]
        words, notebook = find_numbers(Path.cwd()).get(target, (None, None)) if target else (None, None)
        return f"[{words}]({notebook}#{target})" if words else match[0]

    return _SHORT.sub(replace, markdown)


def link_citation(words: str, url: str) -> str:
    """A link that leads to the list of references if its work is there. Raises ValueError if it says another year."""
    if url not in read_bibliography():
        return f"[{words}]({url})"
    key, year = read_bibliography()[url]
    if year not in words:
        raise ValueError(f"a link to {url} says {words!r}; that work is {key}, of {year}")
    return f"[{words}](#ref-{key})"
