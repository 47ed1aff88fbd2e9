"""What section 3.6 says of its results: sentences with computed numbers, as Markdown."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lrlib.study.benchmark import DEFAULT, HALVING, LOSES_MUCH, OURS, PLAIN
from lrlib.study.beyond import ONE_CYCLE, Beyond
from lrlib.study.horizon import AS_IT_IS, DEEPOBS, RULE
from lrlib.study.statistics import bootstrap_mean
from lrlib.study.words import count, interval, join, signed, spell


def say_setting(settings: Beyond) -> str:
    """How much is trained."""
    runs = settings.runs()
    cells, external = settings.cells, settings.deepobs_cells
    steps = {cell.problem: cell.steps_per_epoch for cell in (*cells, *external)}
    updates = sum(run.epochs * steps[run.problem] for run in dict.fromkeys(runs))
    return (
        f"Trained here: {count(len(cells), 'cell')} ({join(cell.name for cell in cells) if cells else 'none'}), and "
        f"swept: {count(len(external), 'cell')} of DeepOBS; with {count(settings.beyond_seeds, 'seed')}, in "
        f"{count(len(runs), 'run')} of {updates:,} updates in all, where runs do not share their beginning."
    )


def say_missing(missing: Mapping[str, str], tools: Sequence[str]) -> str:
    """What is left out since it is not there, and how to have it. missing: problem -> why; tools: packages."""
    said = [f"- `{problem}` is left out: {why}" for problem, why in missing.items()]
    if tools:
        said.append(
            f"- Left out, since their packages are not installed: {join(tools)}; `pip install '.[evidence]'` brings "
            "them."
        )
    return "\n".join(said)


def compare_rules(table: pd.DataFrame) -> str:
    """A sentence a budget: what the suggestion loses, and what the best of the others. table: of `summarize`."""
    sentences = []
    for (training, steps), group in table.groupby(["training", "steps"], sort=False):
        of = group.set_index("choice")
        ours, others = of.loc[OURS], of.drop(index=[OURS, PLAIN])
        least = others["regret"].idxmin()
        sentences.append(
            f"- {_say_budget(training, steps)} `suggest(total_steps=...)` loses {ours['regret']:.1f} % of what the "
            f"best rate gains ({interval(ours['low'], ours['high'], 1)}; at worst {ours['worst']:.1f} %, on "
            f"{ours['worst_cell']}), and not told the length {of.loc[PLAIN, 'regret']:.1f} %. Of all others {least} "
            f"does best, with {others.loc[least, 'regret']:.1f} %; {HALVING} at equal compute loses "
            f"{of.loc[HALVING, 'regret']:.1f} %, and PyTorch's default rate {of.loc[DEFAULT, 'regret']:.1f} %."
        )
    return "\n".join(sentences)


def say_reliability(table: pd.DataFrame) -> str:
    """How far "reliable" and "not reliable" can be believed. table: of `count_reliable`."""
    if not table["suggestions"].sum():
        return ""
    good, bad = (table.set_index("said").loc[said] for said in ("reliable", "not reliable"))
    found = "None was called reliable."
    if good["suggestions"]:
        found = (
            f"Of {count(int(good['suggestions']), 'suggestion')} called reliable {spell(int(good['loses_much']))} lost "
            f"more than {LOSES_MUCH} % and {spell(int(good['diverged']))} diverged."
        )
    if not bad["suggestions"]:
        return f"{found} None was called unreliable."
    n_right, n_bad = int(bad["loses_much"]), int(bad["suggestions"])
    lost, verdict = "none", "they were better than was said"
    if n_right:
        lost, verdict = spell(n_right), "rightly called so"
    return f"{found} Of {spell(n_bad)} called not reliable {lost} lost more than {LOSES_MUCH} %: {verdict}."


def say_doubts(edges: Sequence[str], untrained: Sequence[str]) -> str:
    """Where the grid may not hold the best rate, and where none trains. Both: of `Benchmark.doubts`."""
    said = []
    if edges:
        said.append(f"The best rate is the least or the largest of the grid, and may lie beyond it, on {join(edges)}.")
    if untrained:
        said.append(f"Left out, since no rate trains with every seed: {join(untrained)}.")
    return " ".join(said)


def compare_bases(table: pd.DataFrame) -> str:
    """What beginning a cycle at the suggested lower bound comes to; "" where nothing trains.

    table: of `Benchmark.compare_bases`.
    """
    if table.empty:
        return ""
    lower, default = table["lower"].mean(), table["default"].mean()
    more = table.assign(more=table["lower"] - table["default"])
    found = bootstrap_mean(more.groupby("seed")["more"].mean())
    of_cells = more.groupby(["problem", "optimizer"])["more"].mean()
    verdict = "begin there" if found.high < 0 else "keep PyTorch's" if found.low > 0 else "either will do"
    within = f" ({interval(found.low, found.high, 1, 'points')})" if table["seed"].nunique() > 1 else ""
    return (
        f"*The base of a cycle*: up from `.lower` to `.upper` a cycle loses {lower:.1f} % in the mean over the cells; "
        f"up from PyTorch's default, a 25th of the peak, {default:.1f} %. That is a difference of "
        f"{signed(found.mean, 1)} points{within}, and `.lower` is ahead on {spell(int((of_cells < 0).sum()))} of "
        f"{count(len(of_cells), 'cell')}: {verdict}."
    )


def say_forms(table: pd.DataFrame) -> str:
    """What the length of the training is good for, and forms that were not fitted on what judges them.

    table: of `compare_forms`.
    """
    if table.empty:
        return "It takes two problems to judge a form on one that it was not fitted on."
    sentences = []
    for training, group in table.groupby("training", sort=False):
        of = group.set_index("form")["regret"]
        fitted = of.drop(index=[AS_IT_IS, RULE], errors="ignore")
        if fitted.empty:
            continue
        unit, digits = ("in log10", 3) if training == DEEPOBS else ("%", 1)
        told = f"; told it, as `suggest_lr` is, {of[RULE]:.{digits}f}" if RULE in of else ""
        sentences.append(
            f"- {training}: without the length the rate loses {of[AS_IT_IS]:.{digits}f} {unit}{told}; the best form "
            f"that is fitted on other problems, *{fitted.idxmin()}*, {fitted.min():.{digits}f}."
        )
    return "\n".join(sentences)


def say_bars(table: pd.DataFrame) -> str:
    """How many of the bars are reached."""
    reached = int((table["reached"] == "yes").sum())
    return f"{spell(reached, capital=True)} of {spell(len(table))} bars {'is' if reached == 1 else 'are'} reached."


def write_beyond_lenet(table: pd.DataFrame, cells: int) -> str:
    """What a practitioner can take from it, in a paragraph; "" where nothing was trained. table: of `summarize`."""
    if table.empty:
        return ""
    said = []
    for choice, name in (
        (OURS, "the suggested rate"),
        (DEFAULT, "PyTorch's default rate"),
        (HALVING, "successive halving with as many steps as the range test"),
    ):
        rows = table[table["choice"] == choice].itertuples()
        found = [f"{row.regret:.1f} % {_say_budget(row.training, row.steps).lower()}" for row in rows]
        said.append(f"{name} gives away {join(found)}")
    fitted = " The rule for a peak was raised on these very problems." if ONE_CYCLE in set(table["training"]) else ""
    return (
        f"**Will it be right for mine?** On {count(cells, 'pair')} of a problem and an optimizer, of what the best "
        f"rate would have gained over no training {'; '.join(said)}.{fitted}"
    )


def _say_budget(training, steps):
    how = "As the peak of one cycle of" if training == ONE_CYCLE else "At a constant rate for"
    return f"{how} {count(int(steps), 'step')}"
