"""Show verdicts on claims: a table of them, and what a report says first."""

from lrlib.report.display import show_markdown, show_table
from lrlib.report.provenance import read_making
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
    """Display what came of the report: a sentence (Markdown), the accuracies beside the author's, all verdicts, and the
    command that makes the report again. A report has it at its very top.

    accuracies: as `lrlib.study.readings.tabulate_accuracies` gives them.
    """
    making = read_making()
    command = making.command if making else "make report"
    scores = [
        {"name": row.method, "value": f"{row.accuracy:.2f} %", "author": f"{row.author:.2f} %"}
        for row in accuracies.itertuples()
    ]
    strip = [
        {"id": v.id, "claim": v.claim, "verdict": v.verdict, "sign": SIGNS[v.verdict], "anchor": anchor_claim(v.id)}
        for v in verdicts
    ]
    lines = [
        sentence,
        "\n".join(
            f"- {score['name']}: **{score['value']}** test accuracy; the author: {score['author']}" for score in scores
        ),
        " · ".join(f"{item['id']} {sign_verdict(item['verdict'])}" for item in strip),
        f"Made again by `{command}`",
    ]
    show_markdown("\n\n".join(lines), kind="result", sentence=sentence, scores=scores, verdicts=strip, command=command)
