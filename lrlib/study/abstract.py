"""The report's first words, computed: what came of it, in a sentence and in an abstract; Markdown."""

from collections.abc import Sequence

import pandas as pd

from lrlib.study import claims
from lrlib.study.claims import Verdict
from lrlib.study.experiments import Design
from lrlib.study.looks import STEP
from lrlib.study.words import among, count, interval, join, percent, spell


def say_result(verdicts: Sequence[Verdict], design: Design) -> str:
    """One sentence: how many of the claims hold, and on what ground."""
    held, failed, opened = (_list_ids(verdicts, word) for word in claims.WORDS)
    ground = f"with {count(design.seeds, 'seed')} on {_name_dataset(design)}"
    rest = [f"{spell(len(failed))} {'does' if len(failed) == 1 else 'do'} not"] if failed else []
    rest += [f"{spell(len(opened))} {'remains' if len(opened) == 1 else 'remain'} open"] if opened else []
    found = join([f"{spell(len(held))} of its {spell(len(verdicts))} claims {_hold(held)}", *rest])
    return f"Every experiment of the report was run again, {ground}: {found}."


def write_abstract(verdicts: Sequence[Verdict], accuracies: pd.DataFrame, design: Design) -> str:
    """What was asked, what was found, and how sure it is: three short paragraphs.

    accuracies: as `lrlib.study.readings.tabulate_accuracies` gives them.
    """
    held, failed, opened = (_list_ids(verdicts, word) for word in claims.WORDS)
    found = (
        f"{spell(len(held), capital=True)} of the report's {spell(len(verdicts))} claims {_hold(held)} (@tbl-claims)"
    )
    found += f"; {join(failed)} {'does' if len(failed) == 1 else 'do'} not" if failed else ""
    found += f"; {join(opened)} {'remains' if len(opened) == 1 else 'remain'} open" if opened else ""
    methods = [
        f"{row.method} recognises {percent(row.accuracy)} of the test images ({interval(row.low, row.high, 2)}; "
        f"{among(row.author, row.low, row.high, f'the author’s {percent(row.author)}')})"
        for row in accuracies.itertuples()
    ]
    first, second = accuracies["accuracy"]
    return "\n\n".join(
        [
            "**Asked.** A learning-rate range test trains a network for a few epochs while the learning rate rises "
            "from far too small to far too large, and reads a good rate off the loss [@smith2017; @smith2019]. "
            "@xie2022 let such a test choose the rates of two schedules, MultiStep and OneCycle, for LeNet-5 "
            "[@lecun1998] on MNIST, and drew conclusions that are checked here one by one.",
            f"**Found.** {found}. {join(methods)}. Between the two schedules lie {abs(first - second):.2f} points.",
            f"**How sure.** {_say_how_sure(design)} Each claim had its tolerance before its result was looked at "
            "(@tbl-rules). Every number, figure and verdict is computed by the notebooks from which this document is "
            "assembled, and one command makes it again.",
        ]
    )


def _hold(claims):
    return "holds" if len(claims) == 1 else "hold"


def _say_how_sure(design):
    run = f"The author's experiments were run with {count(design.seeds, 'seed')}"
    if design.max_seeds:
        return (
            f"{run}: they were added in steps of {spell(STEP)} until the claims were settled or there were "
            f"{design.max_seeds}, and claims are judged by intervals that allow for repeated looks. The intervals of the "
            "accuracies are over these seeds, for the mean."
        )
    if design.seeds > 1:
        return f"{run}; the intervals are over these, for the mean."
    return (
        f"{run}: the intervals are for these very networks on other images of the kind, and what another seed would "
        "bring they do not say. Where a claim compares two close values the verdict is therefore open."
    )


def _name_dataset(design):
    names = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "sample": "a sample of MNIST"}
    return names.get(design.dataset, design.dataset)


def _list_ids(verdicts, word):
    return [verdict.id for verdict in verdicts if verdict.verdict == word]
