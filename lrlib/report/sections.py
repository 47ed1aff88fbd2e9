"""The section notebooks: which there are, what parameters they declare, which runs they ask for.

A section is a notebook whose metadata has `lrlib.section`; with `lrlib.extended` it stands in the extended report alone,
with `lrlib.whole` it is about the whole report, and has the parameters of all other sections besides its own.
Its cell tagged `parameters` declares typed literals (`epochs: int = 30  # comment`); its cell tagged `runs` makes
`design` and `runs` of them and trains nothing. So its runs can be known, and wrong parameters refused, before
anything is trained. Where runs follow from the results of others, it makes `more_runs` too: Results of `runs` -> Runs.
"""

import ast
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat

from lrlib.errors import LrlibError
from lrlib.project import project_folder

TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}


class ParameterError(LrlibError):
    """A parameter, section or value that the report does not take; said in one line."""

    status = 2


@dataclass(frozen=True)
class Parameter:
    """A parameter that a notebook declares; type is its annotation, such as "int" or "list[float]"."""

    name: str
    type: str
    default: object
    help: str


@dataclass(frozen=True)
class Section:
    """A section's notebook. name: what the command line calls it; declared: name -> Parameter; values: those given."""

    name: str
    path: Path
    declared: dict
    values: dict


@dataclass(frozen=True)
class Plan:
    """What a section asks for: its Design or Evidence, its Runs, and those that follow from their Results, or None."""

    design: object
    runs: list
    more_runs: Callable | None


def find_sections(*, extended=False):
    """The report's sections in order, with no values given; the extended report's too if asked for."""
    sections, whole = [], set()
    for path in sorted((project_folder() / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        about = notebook.metadata.get("lrlib", {})
        if "section" in about and (extended or not about.get("extended")):
            name = re.match(r"\d+(-\d+)?", path.stem)[0]
            sections.append(Section(name, path, _read_parameters(path), {}))
            whole |= {name} if about.get("whole") else set()
    if not sections:
        raise ParameterError(
            f"{project_folder() / 'notebooks'} holds no section notebooks; run this in a checkout of lrlib"
        )
    everything = {name: parameter for section in sections for name, parameter in section.declared.items()}
    return [_widen(section, everything) if section.name in whole else section for section in sections]


def _widen(section, declared):
    """A section that has the parameters of others too: their values are given to it, since its notebook lacks them."""
    others = {name: parameter.default for name, parameter in declared.items() if name not in section.declared}
    return replace(section, declared=declared | section.declared, values=others)


def pick_section(sections, name):
    """The section of that name. Raises ParameterError, naming the nearest, where there is none."""
    for section in sections:
        if name in (section.name, section.path.stem):
            return section
    names = [section.name for section in sections]
    raise ParameterError(f"there is no section {name!r}; sections are {', '.join(names)}{_nearest(name, names)}")


def parse_assignments(text):
    """`"turning_points=[10, 20] epochs=20"` -> {"turning_points": "[10, 20]", "epochs": "20"}.

    Raises ParameterError for what is not name=value.
    """
    words = re.split(r"\s+(?=[^\s=\[\]]+=)", text.strip()) if text.strip() else []
    for word in words:
        if not re.match(r"[A-Za-z_]\w*=.", word):
            raise ParameterError(f"parameters must be name=value with spaces between, got {word!r}; e.g. epochs=20")
    return dict(word.split("=", 1) for word in words)


def give_values(sections, texts):
    """Sections with each value given to every one that declares its name.

    texts: name -> value as it is written on the command line.
    Raises ParameterError for a name that none declares, or a value of the wrong type.
    """
    names = sorted({name for section in sections for name in section.declared})
    for name in texts:
        if name not in names:
            where = "no section declares" if len(sections) > 1 else f"section {sections[0].name} does not declare"
            raise ParameterError(f"{where} a parameter {name!r}; there are {', '.join(names)}{_nearest(name, names)}")
    return [
        replace(section, values=section.values | _fit_defaults(section, _parse_values(section, texts)))
        for section in sections
    ]


def plan_section(section):
    """The Plan that a section makes of its parameters; nothing is trained.

    Raises ParameterError where its parameters do not make runs.
    """
    namespace = {name: parameter.default for name, parameter in section.declared.items()} | section.values
    notebook = nbformat.read(section.path, as_version=4)
    source = "\n".join(c.source for c in notebook.cells if "runs" in c.metadata.get("tags", []))
    try:
        exec(compile(source, str(section.path), "exec"), namespace)
    except ValueError as err:
        given = " ".join(
            f"{name}={value}"
            for name, value in section.values.items()
            if name != "dataset" and value != section.declared[name].default
        )
        raise ParameterError(f"section {section.name}: {err}{f' (given: {given})' if given else ''}") from err
    return Plan(namespace["design"], namespace["runs"], namespace.get("more_runs"))


def _read_parameters(path):
    from papermill import inspect_notebook  # which takes a second to import

    return {
        name: Parameter(name, found["inferred_type_name"], ast.literal_eval(found["default"]), found["help"].strip())
        for name, found in inspect_notebook(path).items()
    }


def _parse_values(section, texts):
    return {
        name: _parse_value(section.declared[name], text) for name, text in texts.items() if name in section.declared
    }


def _fit_defaults(section, values):
    """The values, and for a changed number of epochs those of the default drops that lie within it.

    Drops that a person gave are kept as they are: one past the last epoch is then an error.
    """
    fitted = {}
    for name in ("milestones", "turning_points"):
        if values.get("epochs", 0) >= 1 and name in section.declared and name not in values:
            default = section.declared[name].default
            fitted[name] = [m for m in default if m <= values["epochs"]] or [max(1, values["epochs"] // 2)]
    return values | fitted


def _parse_value(parameter, text):
    try:
        value = text if parameter.type == "str" and text[0] not in "'\"" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if not _has_type(value, parameter.type):
        raise ParameterError(
            f"{parameter.name} must be {_describe(parameter.type)}, got {text}; "
            f"by default it is {parameter.default} ({parameter.help})"
        )
    return value


def _has_type(value, annotation):
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_has_type(item, annotation[5:-1]) for item in value)
    if isinstance(value, bool) and annotation != "bool":
        return False
    return isinstance(value, TYPES[annotation])


def _describe(annotation):
    words = {"int": "a whole number", "float": "a number", "str": "a word", "bool": "True or False"}
    if annotation.startswith("list["):
        return {"int": "a list of whole numbers", "float": "a list of numbers"}[annotation[5:-1]]
    return words[annotation]


def _nearest(name, names):
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
