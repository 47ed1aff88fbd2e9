"""Citations and references as links, which read well wherever Markdown does.

In a notebook a citation is a link to the work, `[Smith 2017](https://arxiv.org/abs/1506.01186)`, and a reference a
link to the notebook and label, `[Figure 2](1-range-test.ipynb#fig-sweep)`. The report turns both into links within
itself. Code may write the short forms `[@smith2017]`, `@smith2017`, `@fig-sweep`, `@tbl-claims`, `@sec-regret`:
`spell_out` makes links of them.
"""

import ast
import functools
import re
import unicodedata
from dataclasses import dataclass

from lrlib.project import project_folder
from lrlib.report.notebook_files import nbformat

BIBLIOGRAPHY = project_folder() / "report" / "references.bib"
NOUNS = {"figure": "Figure", "table": "Table"}
PREFIXES = {"figure": "fig", "table": "tbl"}
KINDS = {"show_figure": "figure", "show_table": "table", "show_verdicts": "table"}

# The first alternative is code, which stays as it is.
_SHORT = re.compile(
    r"(?P<code>(`+).+?\2)|\[(?P<group>@[\w-]+(?:\s*;\s*@[\w-]+)*)\]|(?<![\w\\])@(?P<target>[a-z][\w-]*[\w])", re.S
)
_LINK = re.compile(
    r"(?P<code>(`+).+?\2)|\[(?P<words>[^\[\]]*)\]\((?P<url>https?://[^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)", re.S
)
_FIELD = r"\b{}\s*=\s*(\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|\"[^\"]*\"|\w+)"
_ACCENTS = {r"\'": "\u0301", r"\`": "\u0300", r"\"": "\u0308", r"\^": "\u0302", r"\~": "\u0303"}


@dataclass(frozen=True)
class Work:
    """An entry of the bibliography. families: the authors' family names; year: "n.d." where it has none."""

    key: str
    families: tuple
    year: str
    url: str

    @property
    def names(self):
        """As an author-date style has them: Smith; Smith and Topin; LeCun et al."""
        if len(self.families) > 2:
            return f"{self.families[0]} et al."
        return " and ".join(self.families)

    @property
    def in_brackets(self):
        return f"{self.names}{',' if self.year == 'n.d.' else ''} {self.year}"


@functools.cache
def read_bibliography():
    """key -> Work of `report/references.bib`; url is "" where it has neither doi nor url."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    works = {}
    for key, body in re.findall(r"^@\w+\{([\w-]+),(.*?)^\}", text, re.M | re.S):
        doi, url, author = (_field(body, name) for name in ("doi", "url", "author"))
        address = f"https://doi.org/{doi}" if doi else url
        works[key] = Work(
            key, tuple(_family(name) for name in author.split(" and ")), _field(body, "year") or "n.d.", address
        )
    return works


def _field(body, name):
    match = re.search(_FIELD.format(name), body)
    return (
        match[1].strip('"')
        if match and match[1].startswith('"')
        else match[1].removeprefix("{").removesuffix("}")
        if match
        else ""
    )


def _family(name):
    for command, accent in _ACCENTS.items():
        name = re.sub(re.escape(command) + r"\s*\{?(\w)\}?", rf"\1{accent}", name)
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", name).split(",")[0].strip())


@functools.cache
def find_numbers():
    """anchor -> (what a reference to it says, file name of its notebook), of the section notebooks as they are in the
    project.

    Figures and tables are counted as they come in the code; one that is shown only under a condition is not counted,
    and says no number.
    """
    found, counts = {}, dict.fromkeys(NOUNS, 0)
    for path in sorted((project_folder() / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        about = notebook.metadata.get("lrlib", {})
        if "section" not in about:
            continue
        number = about["section"]
        if about.get("part"):
            found[f"sec-{slug(about['part'])}"] = (f"Section {number.split('.')[0]}", path.name)
        found[f"sec-{about['anchor']}"] = (f"Section {number}" if number else "Abstract", path.name)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                for kind, label, always in _list_shown(cell.source):
                    counts[kind] += always
                    said = f"{NOUNS[kind]} {counts[kind]}" if always else f"the {kind} “{label}”"
                    found[f"{PREFIXES[kind]}-{label}"] = (said, path.name)
    return found


def _list_shown(source):
    """(kind, label, whether unconditionally) of each figure or table that a cell's code shows, in order."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic of IPython
        return []
    found = []
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS:
                label = next((k.value.value for k in node.keywords if k.arg == "label"), None)
                found.append((KINDS[node.func.id], label, not isinstance(statement, ast.If)))
    return [shown for shown in found if shown[1]]


def slug(title):
    """A title as an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def spell_out(markdown):
    """Markdown with citations and references in their short form made links.

    Raises ValueError for a citation that is not in the bibliography. A reference to what no notebook shows is left as
    it is.
    """

    def replace(match):
        if match["code"]:
            return match[0]
        if match["group"]:
            keys = [key.strip().removeprefix("@") for key in match["group"].split(";")]
            return "(" + "; ".join(f"[{(work := _find(key)).in_brackets}]({work.url})" for key in keys) + ")"
        target = match["target"]
        if re.match("(fig|tbl|sec)-", target):
            words, notebook = find_numbers().get(target, (None, None))
            return f"[{words}]({notebook}#{target})" if words else match[0]
        work = _find(target)
        return f"{work.names} ([{work.year}]({work.url}))"

    return _SHORT.sub(replace, markdown)


def _find(key):
    works = read_bibliography()
    if key not in works:
        raise ValueError(f"citation {key} not found; {BIBLIOGRAPHY.name} has {', '.join(works)}")
    return works[key]


def link_citations(markdown):
    """Markdown with links to works of the bibliography made links into the list of references, and the keys of those
    works.

    Raises ValueError where such a link says another year than the work's.
    """
    by_url, cited = {work.url: work for work in read_bibliography().values()}, []

    def replace(match):
        work = None if match["code"] else by_url.get(match["url"])
        if work is None:
            return match[0]
        if work.year not in match["words"]:
            raise ValueError(f"a link to {work.url} says {match['words']!r}; that work is {work.in_brackets}")
        cited.append(work.key)
        return f"[{match['words']}](#ref-{work.key})"

    return _LINK.sub(replace, markdown), cited
