"""Show verdicts on claims: a table of them, and what a report says first."""

from lrlib.report.display import show_findings, show_table
from lrlib.study.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, tabulate_verdicts

SIGNS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", INCONCLUSIVE: "?"}


def sign_verdict(word):
    """A verdict with its sign, so that colour is not all that tells it: `✓ reproduced`."""
    return f"{SIGNS[word]} {word}"


def anchor_claim(id):
    """What a link to the evidence on a claim names."""
    return f"claim-{id.lower()}"


def show_verdicts(verdicts, *, label):
    """Display the verdicts on a section's claims with their evidence, a row each, which links name by
    `anchor_claim`."""
    show_table(
        tabulate_verdicts(verdicts)[["id", "claim", "verdict", "evidence"]],
        label=label,
        caption=f"Claims of the author's section {verdicts[0].section}. The rules are in @tbl-rules.",
        formats={"verdict": sign_verdict},
        widths=[1, 5, 3, 7],
        anchors=[anchor_claim(verdict.id) for verdict in verdicts],
    )


def show_result(sentence, accuracies, verdicts):
    """Display what came of the report: a sentence (Markdown), the accuracies beside the author's, and all verdicts. A
    report has it at its very top.

    accuracies: as `lrlib.study.readings.tabulate_accuracies` gives them.
    """
    scores = {f"{row.method}, test accuracy": f"{row.accuracy:.2f} % (author: {row.author:.2f} %)" for row in accuracies.itertuples()}
    lines = [sentence, "\n".join(f"- {name}: **{value}**" for name, value in scores.items())]
    lines += ["\n".join(f"- [{v.id}](#{anchor_claim(v.id)}) {v.claim} {sign_verdict(v.verdict)}" for v in verdicts)]
    claims = [{"id": v.id, "verdict": v.verdict} for v in verdicts]
    show_findings("\n\n".join(lines), claims=claims, values=scores)
