"""What the suggestion was to reach, set before it was measured, and whether it does."""

import pandas as pd

from lrlib.study import deepobs
from lrlib.study.benchmark import DEFAULT, HALVING, OURS, PLAIN, count_reliable, summarize
from lrlib.study.beyond import CONSTANT
from lrlib.study.external import summarize_external
from lrlib.study.words import count

MEAN_LIMIT, WORST_LIMIT = 1.0, 5.0  # percent of what the best rate gains, at a constant rate for the short budget
# Choices that are no rule's, beside which the suggestion need not be first.
NO_RULES = (DEFAULT, "random search", "Prodigy", "D-Adapt")


def tabulate_bars(choices: pd.DataFrame, external: pd.DataFrame) -> pd.DataFrame:
    """A row per bar: bar (in words), found, limit, reached ("yes" or "no").

    choices: `Benchmark.choices`; external: of `judge_external`. Of either that is empty there are no bars.
    """
    rows = [*(_own(choices) if len(choices) else []), *(_external(external) if len(external) else [])]
    table = pd.DataFrame(rows, columns=["bar", "found", "limit", "is_reached"])
    return table.assign(reached=["yes" if reached else "no" for reached in table["is_reached"]]).drop(
        columns="is_reached"
    )


def _own(choices):
    table = summarize(choices)
    for (training, steps), group in table.groupby(["training", "steps"], sort=False):
        of = group.set_index("choice")
        rivals = of[[not name.startswith(NO_RULES) and name not in (OURS, PLAIN) for name in of.index]]
        least = rivals["regret"].idxmin()
        ours, theirs, budget = of.loc[OURS, "regret"], rivals.loc[least, "regret"], f"{training}, {steps:,} steps"
        yield (
            f"mean regret below every other rule's and {HALVING}'s ({budget})",
            f"{ours:.2f} %",
            f"{theirs:.2f} % ({least})",
            ours < theirs,
        )
    first = table[table["training"] == CONSTANT]
    steps = first["steps"].min()
    ours = first[(first["steps"] == steps) & (first["choice"] == OURS)].iloc[0]
    at = f"at a constant rate for {steps:,} steps"
    yield f"mean regret {at}", f"{ours['regret']:.2f} %", f"{MEAN_LIMIT:g} %", ours["regret"] <= MEAN_LIMIT
    yield (
        f"worst regret {at}",
        f"{ours['worst']:.2f} % ({ours['worst_cell']})",
        f"{WORST_LIMIT:g} %",
        ours["worst"] <= WORST_LIMIT,
    )
    diverged = int(count_reliable(choices).set_index("said").loc["reliable", "diverged"])
    yield "suggestions called reliable that diverge", str(diverged), "0", diverged == 0


def _external(judged):
    table = summarize_external(judged).set_index("choice")
    cells = count(int(table.loc[OURS, "cells"]), "DeepOBS cell")
    for measure, name in (("loss_last", "last"), ("loss_best", "best")):
        for statistic, limit in zip(("median", "mean"), deepobs.SEVEN_RATES[measure]):
            found = table.loc[OURS, f"{name}_{statistic}"]
            bar = f"{statistic} log10 regret of the {name} test loss over {cells}, below seven short constant rates'"
            yield bar, f"{found:+.3f}", f"{limit:+.3f}", found < limit
    adam = judged[judged["optimizer"] == "adam"]
    means = adam.groupby("choice")["loss_last"].mean()
    if len(means):
        bar = "mean log10 regret of the last test loss with Adam, below that of lr 1e-3"
        yield bar, f"{means[OURS]:+.3f}", f"{means[DEFAULT]:+.3f}", means[OURS] < means[DEFAULT]
