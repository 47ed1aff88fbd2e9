"""Section notebooks: their parameters, and the runs that they ask for.

A section is a notebook whose metadata has `lrlib.section`, its number such as "2.1" ("" is the abstract), and
`lrlib.anchor`. With `lrlib.whole` it is about the whole document and has the parameters of all other sections too.
Its cell tagged `parameters` assigns values (`epochs: int = 30  # comment`). Its cell tagged `runs` makes `runs`, a list
of Runs, without training; where further runs depend on their Results, it also makes `more_runs`, a function of those.
"""

import ast
import difflib
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from papermill.translators import PythonTranslator

from lrlib.errors import LrlibError
from lrlib.report.documents import Document, ParameterError
from lrlib.runs.plan import Run

# Parameters that the Makefile takes by names of their own, such as SEEDS=5; all others go into PARAMS.
FLAGS = {
    "seeds": "number of seeds, from 0 on",
    "epochs": "epochs of each run, except range tests",
    "batch_size": "images per batch",
    "dataset": "mnist, fashion_mnist, sample, or auto: MNIST if available, else the sample",
    "backend": "what trains: compiled, torch, cuda, colossalai, or auto: compiled if available, else torch",
    "processes": "processes that share each batch (colossalai)",
}
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True)
class Parameter:
    """A parameter that a notebook declares; type is its annotation, such as "list[float]", else its value's type."""

    name: str
    type: str
    default: Any
    help: str


@dataclass(frozen=True)
class Section:
    """A section's notebook.

    Args:
        name: what the command line calls it, such as "2-1"; the abstract is "0".
        path: the notebook.
        notebook: its content.
        declared: name -> Parameter.
        values: values that differ from those in the notebook.
        given: those of them that the user gave.
    """

    name: str
    path: Path
    notebook: nbformat.NotebookNode = field(repr=False)
    declared: dict[str, Parameter]
    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        return self.notebook.metadata["lrlib"]

    def all_values(self) -> dict[str, Any]:
        """name -> value of every parameter."""
        return {name: parameter.default for name, parameter in self.declared.items()} | self.values


@dataclass(frozen=True)
class Plan:
    """What a section asks for: its Runs, and the function that makes further ones of their Results, or None."""

    runs: list[Run]
    more_runs: Callable[[object], list[Run]] | None = None


def find_sections(document: Document) -> list[Section]:
    """A document's sections in order, with the values in their notebooks.

    Raises ParameterError if there is none, or one cannot be used. Warns of copies and unreadable files, and skips them.
    """
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
    return [_widen(section, everything) if section.about.get("whole") else section for section in sections]


def _widen(section, everything):
    """A section with the parameters of others, whose values it is given because its notebook lacks them."""
    others = {name: parameter.default for name, parameter in everything.items() if name not in section.declared}
    return replace(section, declared=everything | section.declared, values=others)


def _read_section(path):
    """The Section of a notebook; None if it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cells without an id
            notebook = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
    except (ValueError, OSError, KeyError, AttributeError) as err:
        if path.name[0].isdigit():
            raise ParameterError(
                f"{path.name} is not a valid notebook ({_first_line(err)}); repair or remove it"
            ) from err
        warnings.warn(f"{path.name} is skipped: it is not a valid notebook", stacklevel=2)
        return None
    about = notebook.metadata.get("lrlib", {})
    if "section" not in about:
        return None
    if not re.fullmatch(r"(\d+(\.\d+)?)?", str(about["section"])) or not re.fullmatch(
        r"[a-z0-9-]+", str(about.get("anchor"))
    ):
        raise ParameterError(
            f"{path.name}: metadata lrlib.section must be like '2.1' and lrlib.anchor like 'no-scheduling', got "
            f"{about['section']!r} and {about.get('anchor')!r}"
        )
    if not (notebook.cells and notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")):
        raise ParameterError(f"{path.name}: the first cell must be Markdown that starts with '# ' and a heading")
    for tag, sign in (("parameters", r"\w+: *[\w\[\]]+ *="), ("runs", r"(.*\n)*runs *=")):
        for cell in notebook.cells:
            if cell.cell_type == "code" and find_tagged(notebook, tag) is None and re.match(sign, cell.source):
                raise ParameterError(f"{path.name}: its {tag} cell has lost the tag {tag!r}; add it in JupyterLab")
    return Section(str(about["section"]).replace(".", "-") or "0", path, notebook, _read_parameters(path, notebook))


def find_tagged(notebook: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode | None:
    """The first code cell with a tag."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code" and tag in cell.metadata.get("tags", []))
    return next(cells, None)


def _read_parameters(path, notebook):
    cell = find_tagged(notebook, "parameters")
    if cell is None:
        return {}
    values: dict[str, Any] = {}
    try:
        exec(compile(cell.source, str(path), "exec"), values)
    except (Exception, SystemExit) as err:
        raise ParameterError(
            f"{path.name}: its parameters cell raises {type(err).__name__}: {_first_line(err)}"
        ) from err
    found = {name: Parameter(name, type(value).__name__, value, "") for name, value in values.items() if name[0] != "_"}
    for told in PythonTranslator.inspect(cell):  # annotations, and comments as help
        if told.name in found:
            kind = told.inferred_type_name if told.inferred_type_name != "None" else found[told.name].type
            found[told.name] = replace(found[told.name], type=kind, help=told.help)
    return found


def pick_section(sections: list[Section], name: str) -> Section:
    """The section of a name. Raises ParameterError if there is none."""
    for section in sections:
        if name in (section.name, section.path.stem):
            return section
    names = [section.name for section in sections]
    raise ParameterError(f"unknown section {name!r}; available: {', '.join(names)}{_nearest(name, names)}")


def give_values(
    sections: list[Section], texts: dict[str, str], *, quick: dict[str, Any] | None = None, within_epochs=()
) -> list[Section]:
    """Sections with each value given to every section that declares its name.

    Args:
        sections: the sections.
        texts: name -> value as written on the command line.
        quick: name -> value that replaces the notebooks' own.
        within_epochs: parameters that list epochs, of which those up to `epochs` are kept unless they are given.

    Raises ParameterError for a name that no section declares, or a value of the wrong type.
    """
    names = sorted({name for section in sections for name in section.declared})
    for name in texts:
        if name not in names:
            raise ParameterError(f"unknown parameter {name!r}; available: {', '.join(names)}{_nearest(name, names)}")
    done = []
    for section in sections:
        given = {n: parse_value(section.declared[n], text) for n, text in texts.items() if n in section.declared}
        values = section.values | {n: value for n, value in (quick or {}).items() if n in section.declared} | given
        section = replace(section, values=values, given=given)
        epochs = section.all_values().get("epochs")
        for name in (n for n in within_epochs if epochs and n in section.declared and n not in given):
            listed = section.all_values()[name]
            kept = [epoch for epoch in listed if epoch <= epochs] or [max(1, epochs // 2)]
            if kept != listed:
                values[name] = kept
        done.append(section)
    return done


def describe_command(document: Document, section: Section) -> str:
    """The command that makes a section with its values."""
    values = section.all_values()
    changed = {name: values[name] for name, about in section.declared.items() if values[name] != about.default}
    words = [f"make section NAME={'' if document.name == 'report' else f'{document.name}/'}{section.name}"]
    words += [f"{name.upper()}={changed[name]}" for name in FLAGS if name in changed]
    others = " ".join(f"{name}={value}" for name, value in changed.items() if name not in FLAGS)
    return " ".join(words + ([f"PARAMS={shlex.quote(others)}"] if others else []))


def read_command(command: str) -> tuple[dict[str, str], bool]:
    """The values that a command such as `make publish SEEDS=40` gives, name -> text, and whether it is a quick one."""
    words = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    texts = parse_assignments(words.get("PARAMS", ""))
    return texts | {name: words[name.upper()] for name in FLAGS if name.upper() in words}, words.get("QUICK") == "1"


def parse_assignments(text: str) -> dict[str, str]:
    """`"turning_points=[10, 20] epochs=20"` -> {"turning_points": "[10, 20]", "epochs": "20"}.

    Raises ParameterError for text that is not name=value, or a name that is given twice.
    """
    words = re.split(r"\s+(?=[A-Za-z_]\w*=[^=])", text.strip()) if text.strip() else []
    words = _join_open(words)
    for word in words:
        if not re.match(r"[A-Za-z_]\w*=.", word):
            raise ParameterError(f"PARAMS must be name=value pairs separated by spaces, got {word!r}")
    pairs = [word.split("=", 1) for word in words]
    for name, n in Counter(name for name, _ in pairs).items():
        if n > 1:
            raise ParameterError(f"{name} is given {n} times; give it once")
    return {name: value for name, value in pairs}


def _join_open(words):
    """Words joined again where a bracket or quote is still open: "OneCycle(0.1, pct_start=0.2)" is one value."""
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else ""
        if any(before.count(a) > before.count(b) for a, b in ("()", "[]")) or any(before.count(q) % 2 for q in "\"'"):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def parse_value(parameter: Parameter, text: str) -> object:
    """The value that a text on the command line stands for. Raises ParameterError if it has another type."""
    try:
        value = text if parameter.type == "str" and text[:1] not in ("'", '"') else ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if not _has_type(value, parameter.type) or value == "":
        about = f" ({parameter.help})" if parameter.help else ""
        raise ParameterError(
            f"{parameter.name} must be of type {parameter.type}, got {text!r}; the default is {parameter.default}{about}"
        )
    return value


def _has_type(value, annotation):
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_has_type(item, annotation[5:-1]) for item in value)
    if isinstance(value, bool) and annotation in TYPES and annotation != "bool":
        return False
    return isinstance(value, TYPES.get(annotation, (object,)))


def plan_section(section: Section) -> Plan:
    """The Plan that a section makes of its parameters, without training.

    Raises ParameterError if its cell raises, or makes runs that tables could not tell apart.
    """
    cells = [find_tagged(section.notebook, tag) for tag in ("parameters", "runs")]
    if cells[1] is None:
        return Plan([])
    namespace: dict[str, Any] = {}
    _execute(section, cells[0].source if cells[0] else "", namespace)
    namespace |= section.all_values()
    _execute(section, cells[1].source, namespace)
    follow = namespace.get("more_runs")

    def more_runs(results):
        with_results = {"more_runs": follow, "results": results}
        _execute(section, "found = more_runs(results)", with_results)
        return _check_runs(section, with_results["found"])

    return Plan(_check_runs(section, namespace.get("runs")), more_runs if follow else None)


def _execute(section, source, namespace):
    given = ", ".join(f"{name}={value!r}" for name, value in section.given.items())
    given = f" (given: {given})" if given else ""
    try:
        exec(compile(source, str(section.path), "exec"), namespace)
    except LrlibError:
        raise
    except (Exception, SystemExit) as err:
        kind = "" if isinstance(err, ValueError) else f"{type(err).__name__}: "
        raise ParameterError(f"section {section.name}: {kind}{_first_line(err)}{given}") from err


def _check_runs(section, runs):
    if not isinstance(runs, list | tuple) or not all(isinstance(run, Run) for run in runs):
        raise ParameterError(f"section {section.name}: `runs` must be a list of Runs, got {type(runs).__name__}")
    shown = [(r.label, r.seed, r.problem, r.backend, r.epochs, r.batch_size, r.optimizer) for r in dict.fromkeys(runs)]
    label = next((label for (label, *_), n in Counter(shown).items() if n > 1), None)
    if label is not None:
        raise ParameterError(
            f"section {section.name}: two different runs have the label {label!r}; use values that differ in six digits"
        )
    return list(runs)


def _nearest(name, names):
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _first_line(err):
    return (str(err).strip().splitlines() or [type(err).__name__])[0]
