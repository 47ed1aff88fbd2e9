"""The section notebooks: which there are, and the values that they are given.

A section is a notebook whose metadata has `lrlib.section` (its number, such as "2.5"; "" is the abstract) and
`lrlib.anchor`; with `lrlib.whole` it is about the whole report, and has the parameters of all other sections besides its own.
Its cell tagged `parameters` declares values (`epochs: int = 30  # comment`); its cell tagged `runs` is what
lrlib.report.plans runs.

Notebooks are in people's hands. What is no section is left out with a warning; a section that cannot be used has a
`fault`, which is raised where it is asked for, and not where another one is.
"""

import ast
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

from lrlib.project import project_folder
from lrlib.report.notebook_files import nbformat
from lrlib.report.parameters import (
    Parameter,
    ParameterError,
    find_commented_out,
    name_nearest,
    parse_value,
    read_parameters,
)


@dataclass(frozen=True)
class Section:
    """A section's notebook.

    name: what the command line calls it; number, anchor: of its metadata; notebook: its content when it was found;
    declared: name -> Parameter; values: those that differ from what the notebook says; given: those of a person;
    fault: why it cannot be used, "" where it can.
    """

    name: str
    path: Path
    number: str = ""
    anchor: str = ""
    notebook: nbformat.NotebookNode | None = field(default=None, repr=False)
    declared: dict[str, Parameter] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    given: dict[str, object] = field(default_factory=dict)
    fault: str = ""


def find_sections() -> list[Section]:
    """The report's sections in order, with no values given.

    Warns of notebooks that are left out. Raises ParameterError where there is none.
    """
    folder = project_folder() / "notebooks"
    read = [found for path in sorted(folder.glob("*.ipynb")) if (found := _read_section(path))]
    sections = _leave_out_copies(read)
    if not sections:
        raise ParameterError(f"{folder} holds no section notebooks; run this in a checkout of lrlib")
    sections.sort(key=lambda section: [int(part) for part in section.name.split("-")])
    everything = {name: parameter for section in sections for name, parameter in section.declared.items()}
    return [_widen(section, everything) if _about(section).get("whole") else section for section in sections]


def _about(section):
    return section.notebook.metadata["lrlib"] if section.notebook else {}


def _leave_out(path, why):
    warnings.warn(f"{path.name} is left out of the report: {why}", stacklevel=2)


def _read_section(path):
    """The Section of a notebook, with a fault where it cannot be used; None, with a warning, where it is none."""
    numbered = re.match(r"(\d+(-\d+)?)-", path.name)
    if path.is_dir():
        return _leave_out(path, "it is a folder")
    if not path.exists():
        return _leave_out(path, "it is a link that leads nowhere")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if not text.strip():
            return _leave_out(path, "it is empty")
        if marks := re.search(r"^(<{7}|>{7}) ", text, re.M):
            line = text.count("\n", 0, marks.start()) + 1
            raise ValueError(f"it has git's merge marks (line {line}); resolve them")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ids that cells lack, which a report gives them
            notebook = nbformat.reads(text, as_version=4)
        about = notebook.metadata.get("lrlib")
        for cell in notebook.cells:  # what is asked of them below, in a file that need not be a notebook's
            cell.cell_type, cell.source, cell.metadata.get("tags", [])  # noqa: B018
    except Exception as err:  # nbformat raises what it finds
        why = str(err) if "merge marks" in str(err) else f"it cannot be read as a notebook ({first_line(err)})"
        if not numbered or path.name.startswith("."):
            return _leave_out(path, why)
        return Section(numbered[1], path, fault=f"section {numbered[1]}: {path.name} cannot be used: {why}")
    if not isinstance(about, dict) or about.get("section") is None:
        # A notebook that says something of itself, as the guide does, knows that it is none.
        return None if isinstance(about, dict) else _leave_out(path, "its metadata has no lrlib.section")
    return _check_section(path, notebook, about)


def _check_section(path, notebook, about):
    number, anchor = about["section"], about.get("anchor")
    if not isinstance(number, str) or not re.fullmatch(r"(\d+(\.\d+)?)?", number):
        return _leave_out(path, f"its metadata's lrlib.section must be a number like '2.5', got {number!r}")
    name = number.replace(".", "-") or "0"
    section = Section(name, path, number, anchor, notebook)

    def fault(why):
        return replace(section, fault=f"section {name}: {path.name} cannot be used: {why}")

    if not isinstance(anchor, str) or not re.fullmatch(r"[a-z0-9-]+", anchor):
        return fault(f"its metadata's lrlib.anchor must be lower-case letters, digits and hyphens, got {anchor!r}")
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not re.match(r"# \s*\S", first.source):
        return fault("its first cell must be Markdown whose first line is '# ' and its heading")
    places = {tag: place for tag in ("runs", "parameters") if (place := find_tagged(notebook, tag)) is not None}
    for tag, looks in (("parameters", _looks_like_parameters), ("runs", _makes_runs)):
        lost = [n for n, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code" and looks(cell.source)]
        if tag not in places and lost:
            return fault(f"its cell {lost[0]} lacks the tag {tag!r}; give it that in JupyterLab's property inspector")
    if "parameters" in places:
        cell = notebook.cells[places["parameters"]]
        try:
            declared = read_parameters(cell.source)
        except (Exception, SystemExit) as err:
            return fault(
                f"its parameters, cell {places['parameters'] + 1}, raise {type(err).__name__}: {first_line(err)}"
            )
        if left := [name for name in find_commented_out(cell.source) if name not in declared]:
            where = f"{path.name}: its parameters, cell {places['parameters'] + 1}"
            names = ", ".join(left)
            what = f"have {names} commented out; the section takes no value of that, neither a given nor a quick one"
            warnings.warn(f"{where}, {what}", stacklevel=2)
        section = replace(section, declared=declared)
    return section


def find_tagged(notebook: nbformat.NotebookNode, tag: str) -> int | None:
    """The place of the first code cell with a tag, None where there is none."""
    tagged = (i for i, c in enumerate(notebook.cells) if c.cell_type == "code" and tag in c.metadata.get("tags", []))
    return next(tagged, None)


def _looks_like_parameters(source):
    """Whether a cell is nothing but typed values, as a cell of parameters is."""
    body = _parse(source)
    return bool(body) and all(isinstance(statement, ast.AnnAssign) for statement in body)


def _makes_runs(source):
    targets = [target for statement in _parse(source) for target in getattr(statement, "targets", [])]
    return any(isinstance(target, ast.Name) and target.id == "runs" for target in targets)


def _parse(source):
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        return []


def _leave_out_copies(sections):
    """The sections without copies: notebooks with the number or anchor of another one."""
    kept = []
    # The original is called by its number and anchor; of others the shorter name is the older.
    for section in sorted(
        sections, key=lambda s: (bool(s.fault), s.path.stem != f"{s.name}-{s.anchor}", len(s.path.stem))
    ):
        for other in kept:
            if section.name == other.name or section.anchor and section.anchor == other.anchor:
                what = f"section {section.name}" if section.name == other.name else f"anchor {section.anchor!r}"
                own = "give it a lrlib.section and lrlib.anchor of its own in its metadata to have it in"
                _leave_out(section.path, f"it has the {what} of {other.path.name}; {own}")
                break
        else:
            kept.append(section)
    return kept


def _widen(section, declared):
    """A section that has the parameters of others too: their values are given to it, since its notebook lacks them."""
    others = {name: parameter.default for name, parameter in declared.items() if name not in section.declared}
    return replace(section, declared=declared | section.declared, values=others)


def pick_section(sections: list[Section], name: str) -> Section:
    """The section of that name. Raises ParameterError, naming the nearest, where there is none."""
    for section in sections:
        if name in (section.name, section.path.stem):
            return section
    names = [section.name for section in sections]
    raise ParameterError(f"there is no section {name!r}; sections are {', '.join(names)}{name_nearest(name, names)}")


def give_values(
    sections: list[Section], texts: dict[str, str], *, defaults: dict[str, str] | None = None
) -> list[Section]:
    """Sections with each value given to every one that declares its name.

    texts: name -> value as it is written on the command line; defaults: likewise, in place of the notebooks' own.
    Drops of the learning rate that nobody gave are fitted to the epochs that somebody did.
    Raises ParameterError for a name that none declares, a value of the wrong type, or a section that cannot be used.
    """
    for section in sections:
        if section.fault:
            raise ParameterError(section.fault)
    names = sorted({name for section in sections for name in section.declared})
    for name in texts:
        if name not in names:
            where = "no section declares" if len(sections) > 1 else f"section {sections[0].name} does not declare"
            raise ParameterError(
                f"{where} a parameter {name!r}; there are {', '.join(names)}{name_nearest(name, names)}"
            )
    return [_give(section, texts, defaults or {}) for section in sections]


def _give(section, texts, defaults):
    from lrlib.study.experiments import fit_drops  # torch comes with it, which those who only list sections do not need

    given, instead = (
        {name: parse_value(section.declared[name], text) for name, text in of.items() if name in section.declared}
        for of in (texts, defaults)
    )
    values = section.values | instead | given
    if "epochs" in section.declared:
        epochs = values.get("epochs", section.declared["epochs"].default)
        for name in {"milestones", "turning_points"} & section.declared.keys() - given.keys():
            drops = values.get(name, section.declared[name].default)
            if isinstance(epochs, int) and (fitted := list(fit_drops(drops, epochs))) != drops:
                values[name] = fitted
    return replace(section, values=values, given=given)


def first_line(err: BaseException) -> str:
    """What an error says, for one sentence."""
    return (str(err).strip().splitlines() or [type(err).__name__])[0]
