"""Verdicts as a report shows them: a table for each section, and the list that it begins with."""

from collections.abc import Sequence

import pandas as pd

from lrlib.report.display import show_table
from lrlib.reproduction.claims import INCONCLUSIVE, NOT_REPRODUCED, NOTE, ONE_SEED, REPRODUCED, Verdict

SIGNS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", INCONCLUSIVE: "?", ONE_SEED: "–", NOTE: "·"}


def sign_verdict(word: str) -> str:
    """A verdict with its sign, which can be read without colour: `✓ reproduced`."""
    return f"{SIGNS[word]} {word}"


def show_verdicts(verdicts: Sequence[Verdict], label: str) -> None:
    """Display the verdicts on a section's claims with their evidence; `#claim-c1` leads to the row of C1."""
    show_table(
        pd.DataFrame(verdicts)[["id", "claim", "verdict", "evidence"]],
        label=label,
        caption=f"Claims of the original's section {verdicts[0].section}. The rules are in @tbl-rules.",
        formats={"verdict": sign_verdict},
        widths=[1, 5, 3, 7],
        anchors=[f"claim-{verdict.id.lower()}" for verdict in verdicts],
    )


def list_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Each claim in words with its verdict, as a Markdown list whose items lead to the evidence."""
    return "\n".join(f"- {sign_verdict(v.verdict)}: [{v.id}. {v.claim}](#claim-{v.id.lower()})" for v in verdicts)
