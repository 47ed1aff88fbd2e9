"""A document's findings, which its page carries and which are compared with the published ones; and publishing it.

A published document is in `report/`, and its README shows values of it.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from lrlib.errors import LrlibError
from lrlib.project import store_folder
from lrlib.report.documents import Document
from lrlib.runs.plan import Run
from lrlib.runs.published import write
from lrlib.runs.store import Store, write_whole

_BLOCK = re.compile(r"(<!-- (?P<name>[a-z0-9-]+) -->\n)(?P<content>.*?)(<!-- /(?P=name) -->)", re.S)


@dataclass(frozen=True)
class Outcome:
    """What a document found, and what made it."""

    verdicts: dict[str, str] = field(default_factory=dict)  # claim's id -> verdict
    values: dict[str, str] = field(default_factory=dict)  # name -> headline value as printed
    command: str = ""
    commit: str = ""

    def to_json(self) -> str:
        """Text for a script element of the page."""
        return json.dumps(asdict(self), ensure_ascii=False).replace("<", "\\u003c")

    def summarize(self) -> list[str]:
        """Lines for the terminal: headline values, and how many claims have which verdict."""
        counts = Counter(self.verdicts.values())
        lines = [f"{name}: {value}" for name, value in self.values.items()]
        return lines + ([", ".join(f"{verdict}: {n}" for verdict, n in counts.items())] if counts else [])


def list_outputs(notebooks: Iterable[NotebookNode]) -> list[NotebookNode]:
    """What executed notebooks show by `lrlib.report.display`: outputs with a metadata `report`."""
    outputs = [output for notebook in notebooks for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "report" in output.get("metadata", {})]


def take_outcome(outputs: Iterable[NotebookNode], *, command: str, commit: str) -> Outcome:
    """The Outcome that outputs of `show_findings` hold."""
    for report in (output.metadata.report for output in outputs):
        if report.kind == "findings":
            return Outcome(dict(report.verdicts), dict(report["values"]), command, commit)
    return Outcome(command=command, commit=commit)


def read_outcome(page: Path) -> Outcome | None:
    """The Outcome that a page carries; None if there is no page, or it carries none."""
    text = page.read_text("utf-8") if page.exists() else ""
    found = re.search(r'<script type="application/json" id="outcome">(.*?)</script>', text, re.S)
    return Outcome(**json.loads(found[1])) if found else None


def list_changes(before: Outcome | None, now: Outcome) -> list[str]:
    """What differs between two Outcomes, as lines; none if there was nothing before."""
    before = before or Outcome()
    old = before.verdicts | before.values
    changed = [
        f"  {name} changed from {old[name]} to {value}"
        for name, value in (now.verdicts | now.values).items()
        if old.get(name, value) != value
    ]
    return [f"Since the published document ({before.command}, {before.commit[:12]}):", *changed] if changed else []


def fill_block(text: str, name: str, content: str) -> str:
    """A README's text with content, whole lines, between its lines `<!-- name -->` and `<!-- /name -->`.

    Raises LrlibError if it has no such lines.
    """
    if not any(match["name"] == name for match in _BLOCK.finditer(text)):
        raise LrlibError(f"the README has no lines <!-- {name} --> and <!-- /{name} -->; add them")
    return _BLOCK.sub(lambda found: f"{found[1]}{content}{found[4]}" if found["name"] == name else found[0], text)


def publish_document(
    document: Document, paths: list[Path], outputs: list[NotebookNode], outcome: Outcome, runs: list[Run]
) -> list[Path]:
    """Copy a made document and its results to `report/`, and fill the blocks of its README. Returns the paths.

    A block `<!-- label -->` … `<!-- /label -->` holds the table, text or figure of that label, and `made` what made the
    document. Raises LrlibError for a label that the document does not have.
    """
    labelled = {output.metadata.report.label: output for output in outputs if "label" in output.metadata.report}
    folder, text = document.published.parent, document.readme.read_text(encoding="utf-8")
    files = {folder / path.name: path.read_bytes() for path in paths}
    for match in _BLOCK.finditer(text):
        name = match["name"]
        if name == "made":
            content = f"Made by `{outcome.command}` from commit `{outcome.commit}`."
        elif name not in labelled:
            raise LrlibError(f"{document.readme}: unknown output {name!r}; available: {', '.join(labelled)}")
        elif "image/svg+xml" in labelled[name].data:
            drawing = folder / f"{name}.svg"
            files[drawing] = labelled[name].data["image/svg+xml"].encode()
            place = os.path.relpath(drawing, document.readme.parent)
            content = f"![{' '.join(labelled[name].metadata.report.alt.split())}]({place})"
        else:
            content = re.sub(r"-{3,}", "---", labelled[name].data["text/markdown"])
        text = fill_block(text, name, f"{content}\n")
    if runs:
        write(document.results, runs, commit=outcome.commit, store=Store(store_folder()))
    files[document.readme] = text.encode()
    for path, data in files.items():
        write_whole(path, data)
    return [folder / path.name for path in paths]
