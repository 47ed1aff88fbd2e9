"""What a document found: taken from its executed notebooks, carried by its page, compared with the published one."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from lrlib.runs.plan import Run


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
        return lines + ([", ".join(f"{n} {verdict}" for verdict, n in counts.items())] if counts else [])


@dataclass(frozen=True)
class Made:
    """The files that were made, the folder of the executed notebooks, what was found, and the runs that it is about."""

    paths: list[Path]
    notebooks: Path
    outcome: Outcome
    runs: list[Run]


def take_outcome(notebooks: Iterable[NotebookNode], *, command: str, commit: str) -> Outcome:
    """The Outcome of executed notebooks, which show it by `lrlib.report.display.show_findings`."""
    for output in (output for notebook in notebooks for cell in notebook.cells for output in cell.get("outputs", [])):
        report = output.get("metadata", {}).get("report", {})
        if report.get("kind") == "findings":
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
