"""What moved since the published report: verdicts and accuracies, read off the two pages' own data."""

import html
import io
import re
from dataclasses import dataclass
from urllib.parse import unquote

import pandas as pd

from lrlib.project import project_folder
from lrlib.study.words import join, percent


@dataclass(frozen=True)
class Outcome:
    """What a report came to. verdicts: id -> word; accuracies: method -> percent; command, commit: what made it, or ""."""

    verdicts: dict
    accuracies: dict
    command: str = ""
    commit: str = ""


def published_page():
    """Where the published page lies, if there is one."""
    return project_folder() / "report" / "report.html"


def read_outcome(page):
    """The Outcome that a page's tables hold; None where there is no page or it lacks them."""
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    tables = {name: _read_table(text, name) for name in ("claims", "accuracies", "provenance")}
    if tables["claims"] is None or tables["accuracies"] is None:
        return None
    about = {} if tables["provenance"] is None else dict(tables["provenance"][["item", "value"]].to_numpy())
    command, commit = str(about.get("command", "")).strip("`"), str(about.get("commit", "")).split(",")[0]
    return Outcome(*_take(tables["claims"], tables["accuracies"]), command, commit)


def take_outcome(verdicts, accuracies):
    """The Outcome of verdicts and of accuracies as `lrlib.study.readings.tabulate_accuracies` gives them."""
    claims = pd.DataFrame({"id": [v.id for v in verdicts], "verdict": [v.verdict for v in verdicts]})
    return Outcome(*_take(claims, accuracies))


def tell_changes(published, made):
    """What moved between two Outcomes, as sentences; none where nothing did, or there was nothing before.

    Accuracies are compared as they are printed, to a hundredth of a point.
    """
    if published is None or made is None:
        return []
    verdicts = [
        f"{id} from {published.verdicts.get(id, 'unknown')} to {word}"
        for id, word in made.verdicts.items()
        if published.verdicts.get(id) != word
    ]
    accuracies = [
        f"{method} from {percent(published.accuracies[method])} to {percent(accuracy)}"
        for method, accuracy in made.accuracies.items()
        if method in published.accuracies and percent(published.accuracies[method]) != percent(accuracy)
    ]
    if not verdicts and not accuracies:
        return []
    origin = ", ".join(filter(None, [f"`{published.command}`" * bool(published.command), published.commit[:12]]))
    since = f"since the published report{f' ({origin})' if origin else ''}"
    found = {"Verdicts": verdicts, "Accuracies": accuracies}
    return [f"{what} that moved {since}: {join(moved)}." for what, moved in found.items() if moved]


def tell_since_published(verdicts, accuracies):
    """What moved since the published report, as Markdown; "" where nothing did. Arguments as of take_outcome."""
    return "\n\n".join(tell_changes(read_outcome(published_page()), take_outcome(verdicts, accuracies)))


def _take(claims, accuracies):
    return dict(zip(claims["id"], claims["verdict"], strict=True)), dict(
        zip(accuracies["method"], accuracies["accuracy"].astype(float), strict=True)
    )


def _read_table(text, name):
    link = re.search(rf'<a download="tbl-{name}\.csv" href="data:text/csv[^,"]*,([^"]*)"', text)
    return pd.read_csv(io.StringIO(unquote(html.unescape(link[1])))) if link else None
