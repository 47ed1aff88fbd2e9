"""What a document found: read from its executed notebooks, carried by its page, compared with the published one."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nbformat import NotebookNode


@dataclass(frozen=True)
class Outcome:
    """What a document found, and what made it.

    Args:
        verdicts: claim's id -> verdict.
        values: name -> headline value as printed.
        command: the command that made it.
        commit: the commit in words.
    """

    verdicts: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
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


def take_outcome(notebooks: Iterable[NotebookNode], *, command: str, commit: str) -> Outcome:
    """The Outcome of executed notebooks, which show it by `lrlib.report.display.show_findings`."""
    for notebook in notebooks:
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                report = output.get("metadata", {}).get("report", {})
                if report.get("kind") == "findings":
                    verdicts = {claim["id"]: claim["verdict"] for claim in report.get("claims", [])}
                    return Outcome(verdicts, dict(report.get("values", {})), command, commit)
    return Outcome(command=command, commit=commit)


def read_outcome(page: Path) -> Outcome | None:
    """The Outcome that a page carries; None if there is no page, or it carries none."""
    if not page.exists():
        return None
    found = re.search(r'<script type="application/json" id="outcome">(.*?)</script>', page.read_text("utf-8"), re.S)
    return Outcome(**json.loads(found[1])) if found else None


def list_changes(before: Outcome | None, now: Outcome) -> list[str]:
    """What differs between two Outcomes, as sentences; none if there was nothing before."""
    if before is None:
        return []
    changed = [
        f"{name} changed from {old[name]} to {value}"
        for old, new in ((before.verdicts, now.verdicts), (before.values, now.values))
        for name, value in new.items()
        if name in old and old[name] != value
    ]
    return (
        [f"Since the published report ({before.command}, {before.commit[:12]}): {'; '.join(changed)}."]
        if changed
        else []
    )
