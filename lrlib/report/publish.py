"""Publishing: a made document goes to `report/`, and its README shows values of it."""

import os
import re
import tempfile
from pathlib import Path

import nbformat

from lrlib.errors import LrlibError
from lrlib.project import store_folder
from lrlib.report.documents import Document
from lrlib.report.outcome import Made
from lrlib.runs.published import write
from lrlib.runs.store import Store, write_whole

_BLOCK = re.compile(r"(<!-- (?P<name>[a-z0-9-]+) -->\n)(?P<content>.*?)(<!-- /(?P=name) -->)", re.S)
MADE = "made"  # the block that says what made the published document


class PublishError(LrlibError):
    """A README or folder that cannot be published to."""


def check_publishable(document: Document) -> None:
    """Raise PublishError unless the README and the folder of published documents can be written."""
    try:
        document.readme.read_text(encoding="utf-8")
        for folder in (document.readme.parent, document.published.parent):
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
    except OSError as err:
        raise PublishError(
            f"cannot write {document.readme} or {document.published.parent} ({err.strerror or err}); permit writing"
        ) from err


def fill_block(text: str, name: str, content: str) -> str:
    """A README's text with content, whole lines, between its lines `<!-- name -->` and `<!-- /name -->`.

    Raises PublishError if it has no such lines.
    """
    if not any(match["name"] == name for match in _BLOCK.finditer(text)):
        raise PublishError(f"the README has no lines <!-- {name} --> and <!-- /{name} -->; add them")
    return _BLOCK.sub(lambda found: f"{found[1]}{content}{found[4]}" if found["name"] == name else found[0], text)


def publish_document(document: Document, made: Made) -> list[Path]:
    """Copy a made document and its results to `report/`, and fill the blocks of its README. Returns the paths.

    A block `<!-- label -->` … `<!-- /label -->` holds the table, text or figure of that label, and `made` what made the
    document. Raises PublishError for a label that the document does not have.
    """
    outputs, folder = _read_outputs(made.notebooks), document.published.parent
    text, figures = document.readme.read_text(encoding="utf-8"), {}
    for match in _BLOCK.finditer(text):
        name = match["name"]
        if name == MADE:
            content = f"Made by `{made.outcome.command}` from commit `{made.outcome.commit}`."
        elif name not in outputs:
            raise PublishError(f"{document.readme}: unknown output {name!r}; available: {', '.join(outputs)}")
        elif "image/svg+xml" in outputs[name][0]:
            figures[f"{name}.svg"] = outputs[name][0]["image/svg+xml"]
            place = os.path.relpath(folder / f"{name}.svg", document.readme.parent)
            content = f"![{' '.join(outputs[name][1]['alt'].split())}]({place})"
        else:
            content = re.sub(r"-{3,}", "---", outputs[name][0]["text/markdown"])
        text = fill_block(text, name, f"{content}\n")
    if made.runs:
        write(document.results, made.runs, commit=made.outcome.commit, store=Store(store_folder()))
    for path in made.paths:
        write_whole(folder / path.name, path.read_bytes())
    for name, svg in figures.items():
        write_whole(folder / name, svg.encode())
    write_whole(document.readme, text.encode())
    return [folder / path.name for path in made.paths]


def _read_outputs(notebooks):
    """label -> (data, report metadata) of what the executed notebooks show."""
    found = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                report = output.get("metadata", {}).get("report", {})
                if "label" in report:
                    found.setdefault(report["label"], (output["data"], report))
    return found
