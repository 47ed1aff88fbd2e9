"""Section notebooks: their parameters, and the runs that they ask for.

A section is a notebook whose metadata has `lrlib.section`, its number such as "2.1" ("" is the abstract), and
`lrlib.anchor`. With `lrlib.whole` it is about the whole document and has the parameters of all other sections too.
Its cell tagged `parameters` assigns values (`epochs: int = 30  # comment`). Its cell tagged `runs` makes `runs`, a list
of Runs, without training.
"""

import ast
import difflib
import re
import shlex
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from papermill.models import Parameter
from papermill.translators import PythonTranslator

from lrlib.errors import LrlibError
from lrlib.report.documents import Document, ParameterError
from lrlib.runs.plan import Run

# Parameters that the Makefile takes by names of their own, such as SEEDS=5; all others go into PARAMS.
FLAGS = ("seeds", "epochs", "batch_size", "dataset", "backend", "processes")
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
_PAIR = re.compile(r"""\s*([A-Za-z_]\w*)=((?:\[.*?\](?=\s|$)|"[^"]*"|'[^']*'|\S)+)""")


@dataclass(frozen=True)
class Section:
    """A section's notebook, and what the command line calls it, such as "2-1"; the abstract is "0"."""

    name: str
    path: Path
    notebook: nbformat.NotebookNode = field(repr=False)
    declared: dict[str, Parameter]
    values: dict[str, Any] = field(default_factory=dict)  # by give_values
    given: dict[str, Any] = field(default_factory=dict)  # those of them that the user gave


def find_sections(document: Document) -> list[Section]:
    """A document's sections in order. Raises ParameterError if one cannot be used; warns of copies, and skips them."""
    found: dict[str, Section] = {}
    for path in sorted(document.folder.glob("*.ipynb"), key=lambda path: (len(path.name), path.name)):
        section = _read_section(path)
        if section and section.name in found:
            original = found[section.name].path.name
            warnings.warn(f"{path.name} is skipped: {original} already has section {section.name}", stacklevel=2)
        elif section:
            found[section.name] = section
    if not found:
        raise ParameterError(f"{document.folder} has no section notebooks; run this in a checkout of lrlib")
    sections = sorted(found.values(), key=lambda section: [int(part) for part in section.name.split("-")])
    everything = {name: parameter for section in sections for name, parameter in section.declared.items()}
    for section in sections:
        if section.notebook.metadata.lrlib.get("whole"):
            section.declared.update(everything | section.declared)
    return sections


def _read_section(path):
    """The Section of a notebook; None if it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cells without an id
            notebook = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
    except (ValueError, OSError, KeyError, AttributeError) as err:
        if path.name[0].isdigit():
            raise ParameterError(f"{path.name} is not a valid notebook ({first_line(err)}); repair it") from err
        warnings.warn(f"{path.name} is skipped: it is not a valid notebook", stacklevel=2)
        return None
    about = notebook.metadata.get("lrlib", {})
    if "section" not in about:
        return None
    number, anchor, first = str(about["section"]), str(about.get("anchor")), (notebook.cells or [None])[0]
    if not re.fullmatch(r"(\d+(\.\d+)?)?", number) or not re.fullmatch(r"[a-z0-9-]+", anchor):
        raise ParameterError(
            f"{path.name}: metadata lrlib.section must be like '2.1' and lrlib.anchor like 'no-scheduling', got "
            f"{number!r} and {anchor!r}"
        )
    if not (first and first.cell_type == "markdown" and first.source.startswith("# ")):
        raise ParameterError(f"{path.name}: the first cell must be Markdown that starts with '# ' and a heading")
    for tag, sign in (("parameters", r"\w+: *[\w\[\]]+ *="), ("runs", r"(.*\n)*runs *=")):
        for cell in notebook.cells:
            if cell.cell_type == "code" and find_tagged(notebook, tag) is None and re.match(sign, cell.source):
                raise ParameterError(f"{path.name}: its {tag} cell has lost the tag {tag!r}; add it in JupyterLab")
    return Section(number.replace(".", "-") or "0", path, notebook, _read_parameters(path, notebook))


def find_tagged(notebook: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode | None:
    """The first code cell with a tag."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code" and tag in cell.metadata.get("tags", []))
    return next(cells, None)


def _read_parameters(path, notebook):
    cell, values = find_tagged(notebook, "parameters"), {}
    if cell is None:
        return {}
    try:
        exec(compile(cell.source, str(path), "exec"), values)
    except (Exception, SystemExit) as err:
        raise ParameterError(
            f"{path.name}: its parameters cell raises {type(err).__name__}: {first_line(err)}"
        ) from err
    found = {name: Parameter(name, type(value).__name__, value, "") for name, value in values.items() if name[0] != "_"}
    for told in PythonTranslator.inspect(cell):  # annotations, and comments as help
        if told.name in found:
            kind = told.inferred_type_name if told.inferred_type_name != "None" else found[told.name].inferred_type_name
            found[told.name] = told._replace(inferred_type_name=kind, default=found[told.name].default)
    return found


def pick_section(sections: list[Section], name: str) -> Section:
    """The section of a name. Raises ParameterError if there is none."""
    for section in sections:
        if name in (section.name, section.path.stem):
            return section
    names = [section.name for section in sections]
    raise ParameterError(f"unknown section {name!r}; available: {', '.join(names)}{_nearest(name, names)}")


def give_values(sections: list[Section], texts: dict[str, str], quick: dict[str, Any] | None = None) -> list[Section]:
    """Sections with each value given to every section that declares its name; warns where their own values differ.

    texts: name -> value as written on the command line. quick: name -> value that replaces the notebooks' own.
    """
    names = sorted({name for section in sections for name in section.declared})
    for name in texts:
        if name not in names:
            raise ParameterError(f"unknown parameter {name!r}; available: {', '.join(names)}{_nearest(name, names)}")
    done = []
    for section in sections:
        given = {n: parse_value(section.declared[n], text) for n, text in texts.items() if n in section.declared}
        own = {n: (quick or {}).get(n, parameter.default) for n, parameter in section.declared.items()}
        done.append(replace(section, values=own | given, given=given))
    for name in names:
        values = {section.name: str(section.values[name]) for section in done if name in section.values}
        usual = Counter(values.values()).most_common(1)[0][0]
        if others := [f"{section} has {value}" for section, value in values.items() if value != usual]:
            warnings.warn(f"sections differ in {name}: {', '.join(others)}, the others {usual}", stacklevel=2)
    return done


def describe_command(document: Document, section: Section) -> str:
    """The command that makes a section with its values."""
    changed = {name: value for name, value in section.values.items() if value != section.declared[name].default}
    name = f"NAME={'' if document.name == 'report' else f'{document.name}/'}{section.name}"
    return write_command(["make", "section", name], changed)


def write_command(words: list[str], values: dict[str, Any]) -> str:
    """A command of make that gives values; words: its beginning."""
    words = words + [f"{name.upper()}={shlex.quote(str(values[name]))}" for name in FLAGS if name in values]
    others = " ".join(f"{name}={value}" for name, value in values.items() if name not in FLAGS)
    return " ".join(words + ([f"PARAMS={shlex.quote(others)}"] if others else []))


def read_command(command: str) -> dict[str, str]:
    """The values that a command such as `make publish SEEDS=40` gives, name -> text."""
    words = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    texts = {name: words[name.upper()] for name in FLAGS if name.upper() in words}
    return texts | parse_assignments(words.get("PARAMS", ""))


def parse_assignments(text: str) -> dict[str, str]:
    """`"turning_points=[10, 20] epochs=20"` -> {"turning_points": "[10, 20]", "epochs": "20"}."""
    pairs = _PAIR.findall(text)
    if rest := _PAIR.sub("", text).strip():
        raise ParameterError(f"PARAMS must be name=value pairs separated by spaces, got {rest!r}")
    if len(dict(pairs)) < len(pairs):
        raise ParameterError(f"PARAMS gives a name twice: {text}")
    return dict(pairs)


def parse_value(parameter: Parameter, text: str) -> object:
    """The value that a text on the command line stands for. Raises ParameterError if it has another type."""
    name, kind, default, about = parameter
    try:
        value = text if kind == "str" and text[:1] not in ("'", '"') else ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if not _has_type(value, kind) or value == "":
        about = f" ({about})" if about else ""
        raise ParameterError(f"{name} must be of type {kind}, got {text!r}; the default is {default}{about}")
    return value


def _has_type(value, annotation):
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_has_type(item, annotation[5:-1]) for item in value)
    return annotation not in TYPES or type(value) in TYPES[annotation]  # a bool is an int, but counts as none


def plan_section(section: Section) -> list[Run]:
    """The Runs that a section asks for.

    Raises ParameterError if its cell raises, or makes runs that tables could not tell apart.
    """
    cell = find_tagged(section.notebook, "runs")
    if cell is None:
        return []
    namespace = dict(section.values)
    try:
        exec(compile(cell.source, str(section.path), "exec"), namespace)
    except LrlibError:
        raise
    except (Exception, SystemExit) as err:
        what = first_line(err) if isinstance(err, ValueError) else f"{type(err).__name__}: {first_line(err)}"
        given = ", ".join(f"{name}={value!r}" for name, value in section.given.items())
        raise ParameterError(f"section {section.name}: {what}{f' (given: {given})' if given else ''}") from err
    runs = namespace.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, Run) for run in runs):
        raise ParameterError(f"section {section.name}: `runs` must be a list of Runs, got {type(runs).__name__}")
    shown = [(r.label, r.seed, r.problem, r.backend, r.epochs, r.batch_size, r.optimizer) for r in dict.fromkeys(runs)]
    if twice := [label for (label, *_), n in Counter(shown).items() if n > 1]:
        raise ParameterError(f"section {section.name}: two different runs have the label {twice[0]!r}")
    return runs


def _nearest(name, names):
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0]
