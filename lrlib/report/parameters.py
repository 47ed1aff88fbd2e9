"""Parameters of sections: reading those that a notebook declares, and the values that a person gives."""

import ast
import contextlib
import difflib
import io
import re
import tokenize
from collections import Counter
from dataclasses import dataclass

from lrlib.errors import LrlibError

TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "bool": "True or False",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of words",
}


class ParameterError(LrlibError):
    """A parameter, section or value that the report does not take; said in one line."""

    status = 2


@dataclass(frozen=True)
class Parameter:
    """A parameter that a notebook declares; type is its annotation, such as "list[float]", else its value's."""

    name: str
    type: str
    default: object
    help: str


def read_parameters(source: str) -> dict[str, Parameter]:
    """name -> Parameter for each name that a parameters cell gives a value, typed or not; comments beside are the help.

    The cell is run, so a value may be an expression. Raises Exception, whatever it raises.
    """
    comments = _read_comments(source)
    found: dict[str, Parameter] = {}
    namespace: dict[str, object] = {}
    for statement in ast.parse(source).body:
        exec(compile(ast.Module([statement], []), "parameters", "exec"), namespace)
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in namespace:
                value = namespace[target.id]
                annotation = getattr(statement, "annotation", None)
                kind = ast.unparse(annotation).strip("'\"") if annotation else _infer(value)
                found[target.id] = Parameter(target.id, kind, value, comments.get(statement.end_lineno, ""))
    return found


def find_commented_out(source: str) -> list[str]:
    """Names that comment lines of a parameters cell would give a value, were they none."""
    return re.findall(r"^\s*#\s*([A-Za-z_]\w*)\s*(?::[^=#\n]+)?=(?!=)", source, re.M)


def _read_comments(source):
    """line -> the comment on it."""
    found = {}
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string.lstrip("#").strip()
    return found


def _infer(value):
    if isinstance(value, list | tuple) and value:
        kinds = {type(item).__name__ for item in value}
        kind = kinds.pop() if len(kinds) == 1 else "float" if kinds == {"int", "float"} else ""
        return f"list[{kind}]" if kind else "list"
    return type(value).__name__


def parse_assignments(text: str) -> dict[str, str]:
    """`"turning_points=[10, 20] epochs=20"` -> {"turning_points": "[10, 20]", "epochs": "20"}.

    Raises ParameterError for what is not name=value, or a name that is given twice.
    """
    words = re.split(r"\s+(?=[^\s=\[\]]+=)", text.strip()) if text.strip() else []
    for word in words:
        if not re.match(r"[A-Za-z_]\w*=.", word):
            raise ParameterError(f"parameters must be name=value with spaces between, got {word!r}; e.g. epochs=20")
    pairs = [word.split("=", 1) for word in words]
    for name, n in Counter(name for name, _ in pairs).items():
        if n > 1:
            values = " and ".join(value for each, value in pairs if each == name)
            raise ParameterError(f"{name} is given {n} times, {values}; give it once")
    return {name: value for name, value in pairs}


def parse_value(parameter: Parameter, text: str) -> object:
    """The value that a text on the command line stands for. Raises ParameterError where it is of another type."""
    try:
        value = text if parameter.type == "str" and text[:1] not in ("'", '"') else ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if not _has_type(value, parameter.type) or value == "":
        what = WORDS.get(parameter.type, parameter.type)
        about = f" ({parameter.help})" if parameter.help else ""
        raise ParameterError(
            f"{parameter.name} must be {what}, got {text or 'nothing'}; by default it is {parameter.default}{about}"
        )
    return value


def _has_type(value, annotation):
    """Whether a value is of an annotated type; of one that is not among TYPES every value is."""
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_has_type(item, annotation[5:-1]) for item in value)
    if isinstance(value, bool) and annotation in TYPES and annotation != "bool":
        return False
    return isinstance(value, TYPES.get(annotation, object))


def name_nearest(name: str, names: list[str]) -> str:
    """The end of a sentence that refuses a name: which one may be meant."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
