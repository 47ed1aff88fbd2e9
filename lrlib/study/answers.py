"""What the sections say of their results: sentences with computed numbers, as Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.runs.results import Results
from lrlib.study import author
from lrlib.study.abstract import say_regret
from lrlib.study.claims import Verdict
from lrlib.study.evidence import TORCH_DEFAULT, TUNING_FREE, Evidence
from lrlib.study.experiments import Design
from lrlib.study.looks import STEP
from lrlib.study.regret import CONSTANT
from lrlib.study.rows import select_run
from lrlib.study.statistics import estimate_mean
from lrlib.study.words import compare, count, interval, join, percent, rate, signed, spell, times


def describe_turning_points(turning: pd.DataFrame, results: Results, label: str) -> str:
    """Where the SGD range test turns. turning: a row per seed with "start of fall" and "lowest"."""
    last = select_run(results.steps, label).groupby("seed").tail(10)["loss"].mean()
    end = (
        f"have a training loss of {last:.2f}"
        if np.isfinite(last) and not len(results.diverged)
        else "end in a loss that is not finite"
    )
    return (
        f"The loss starts to fall at a learning rate of {rate(turning['start of fall'].median())} and is lowest at "
        f"{rate(turning['lowest'].median())}{_of_seeds(len(turning))}. By eye the author read "
        f"{author.START_OF_FALL_LR:g} and {author.LOWEST_LR:g}. The last steps of the sweep {end}."
    )


def compare_optimizers(sgd: pd.DataFrame, adam: pd.DataFrame) -> str:
    """How far below SGD's turning points Adam's are: frames with a row per seed, "start of fall" and "lowest"."""
    theirs, ours = (frame[["start of fall", "lowest"]].median() for frame in (adam, sgd))
    factors = [times(ours[point] / theirs[point]) for point in theirs.index]
    return (
        f"Adam's loss starts to fall at {rate(theirs['start of fall'])} and is lowest at {rate(theirs['lowest'])}: "
        f"{factors[0]} and {factors[1]} times below SGD's. What a range test finds is a rate for one optimizer, not "
        "for a network."
    )


def name_extremes(table: pd.DataFrame) -> str:
    """Which runs end with the lowest and the highest test loss. table: of `readings.tabulate_ends`."""
    best, worst = table.loc[table["test_loss"].idxmin()], table.loc[table["test_loss"].idxmax()]
    return (
        f"The lowest test loss at the end is that of {best['run']}: {best['test_loss']:.4f}, with "
        f"{percent(best['test_accuracy'])} of the images recognised. The highest is that of {worst['run']}: "
        f"{worst['test_loss']:.4f}, with {percent(worst['test_accuracy'])}."
    )


def name_best_drop(table: pd.DataFrame) -> str:
    """Which turning point is best, and what the choice rests on."""
    best = table.loc[table["test_loss"].idxmin()]
    return (
        f"{best['run']} ends with the lowest test loss, {best['test_loss']:.4f}. The turning point is chosen here as "
        "the author chose it: by the test set on which the accuracy is then reported (erratum 5)."
    )


def describe_cycle(steps: pd.DataFrame, label: str) -> str:
    """What OneCycle does to the learning rate and the momentum, read off its steps."""
    cycle = steps.query("run == @label and seed == 0")
    peak = cycle.loc[cycle["lr"].idxmax()]
    first, last = cycle.iloc[0], cycle.iloc[-1]
    return (
        f"The learning rate starts at {first['lr']:g}, peaks at {peak['lr']:g} in step {peak['step']:,.0f} of "
        f"{len(cycle):,} and ends at {last['lr']:g}. The momentum moves against it, from {first['momentum']:.2f} down "
        f"to {cycle['momentum'].min():.2f} and back to {last['momentum']:.2f}. PyTorch's scheduler does so unless "
        "told otherwise; so MultiStep and OneCycle differ in more than their learning rates (erratum 6)."
    )


def compare_accuracies(accuracies: pd.DataFrame) -> str:
    """The two final accuracies beside the author's. accuracies: of `lrlib.study.readings.tabulate_accuracies`."""
    multistep, onecycle = accuracies.itertuples()
    ours, theirs = (multistep.accuracy - onecycle.accuracy, multistep.author - onecycle.author)
    return (
        f"MultiStep recognises {percent(multistep.accuracy)} of the test images "
        f"({interval(multistep.low, multistep.high, 2)}) and OneCycle {percent(onecycle.accuracy)} "
        f"({interval(onecycle.low, onecycle.high, 2)}); the author found {percent(multistep.author)} and "
        f"{percent(onecycle.author)}. MultiStep less OneCycle is {signed(ours, 2)} points here and "
        f"{signed(theirs, 2)} there, and the latter is {abs(theirs) / 100 * author.N_TEST:.0f} images of "
        f"{author.N_TEST:,}."
    )


def list_verdicts(verdicts: Sequence[Verdict], words: Sequence[str]) -> str:
    """Which claims have which verdict."""
    found = {word: [v.id for v in verdicts if v.verdict == word] for word in words}
    return "; ".join(f"{word.capitalize()}: {join(ids) if ids else 'none'}" for word, ids in found.items()) + "."


def describe_looks(design: Design) -> str:
    """By what intervals claims are judged, and how often these miss."""
    least = 100 * design.looks.share_errors[0] ** (1 / STEP)
    shares = (
        "A claim that is judged by the share of seeds in which it holds is reproduced where that share is more than "
        "one half by its lower bound, and not where it is less by its upper one; each bound holds in 95 % of cases "
        f"[@clopper1934]. Five of five seeds say that it holds in {least:.0f} % of all seeds or more, and say no more."
    )
    if design.seeds < STEP:
        shares = (
            "A claim that is judged by the share of seeds in which it holds is reproduced where it holds in all of "
            "them, and not where in none; with fewer than five seeds that says little."
        )
    if design.seeds == 1:
        return f"One seed shows no spread, so there are no intervals over seeds. {shares}"
    if not design.max_seeds:
        return (
            f"The number of seeds, {spell(design.seeds)}, was fixed in advance: results were looked at once, and the "
            f"intervals are plain 95 % intervals, Student's t for means. {shares}"
        )
    errors = join(f"{100 * error:.2g} % at {n}" for n, error in zip(design.looks.seeds, design.looks.mean_errors))
    return (
        f"Seeds were added in steps of {spell(STEP)} until every claim was settled that seeds settle, or there were "
        f"{design.max_seeds}. Plain 95 % intervals that are looked at again and again miss in more than 5 % of cases. "
        "So those of means are wider here, and hold at all looks together in 95 % of cases, where values are spread "
        "normally (repeated confidence intervals [@jennison2000]): they are Student's t, with errors, found by "
        f"simulation, of {errors} seeds. A claim is settled by the first look that settles it, and the interval beside "
        "it is that look's. "
        f"{shares} They hold at all looks together as well. All this is so for a limit that was set before the first "
        "look, and for each claim by itself: that some one of thirteen verdicts is wrong is likelier."
    )


def describe_stability(summary: pd.DataFrame, evidence: Evidence) -> str:
    """How far range tests with other seeds, lengths and settings agree. summary: of
    `readings.summarize_suggestions`."""
    usual = evidence.sweep_label()
    of_usual = summary[summary["run"] == usual].set_index("rule")
    spread = of_usual["spread_decades"]
    stable, steadiest = (spread <= 0.5).sum(), spread.idxmin()
    between = np.log10(of_usual["lr"].max() / of_usual["lr"].min())
    moved = summary[summary["rule"] == "suggest_lr"].set_index("run")["lr"] / of_usual.loc["suggest_lr", "lr"]
    lengths = [
        f"{_factor(moved[evidence.sweep_label(epochs=n)])} with {count(n, 'epoch')}" for n in evidence.sweep_epochs[1:]
    ]
    others = [
        f"{_factor(ratio)} with {label.removeprefix('SGD, ')}" for label, ratio in moved.items() if "epoch" not in label
    ]
    sentences = [
        f"Over {count(evidence.sweep_seeds, 'seed')} {spell(stable)} of the {spell(len(spread))} rules "
        f"{'is' if stable == 1 else 'are'} stable with SGD. The steadiest is `{steadiest}`, whose suggestions lie "
        f"within a factor of {times(10 ** spread[steadiest])}; those of the package's own `suggest_lr` lie within a "
        f"factor of {times(10 ** spread['suggest_lr'])}. Between the medians of the lowest and the highest rule lies "
        f"a factor of {times(10**between)}: which rule is used matters {'more' if between > spread.max() else 'less'} "
        "than which seed."
    ]
    if lengths:
        sentences.append(f"Of the rate that it usually suggests, `suggest_lr` gives {join(lengths)}.")
    if others:
        sentences.append(f"Other settings move it too: it gives {join(others)}.")
    return " ".join(sentences)


def place_readings(summary: pd.DataFrame, evidence: Evidence) -> str:
    """Where the two rates that the author read by eye lie among the suggestions."""
    low, high = author.START_OF_FALL_LR, author.LOWEST_LR
    medians = summary[summary["run"] == evidence.sweep_label()].set_index("rule")["lr"]
    inside = int(medians.between(low, high).sum())
    return (
        f"The two rates that the author read by eye, {low:g} and {high:g}, differ by a factor of {times(high / low)}, "
        f"and the medians of {spell(inside)} of the {spell(len(medians))} rules lie between them. The upper one is "
        f"{_factor(high / medians['suggest_lr'])} of what `suggest_lr` gives."
    )


def name_best_rates(best: Mapping[tuple[str, int], tuple[float, npt.NDArray[np.float64]]]) -> str:
    """The best rates of the search. best: (training, budget) -> (rate, log10 test losses)."""
    found = [
        f"{rate(lr)} {_say_training(training, budget)} (test loss {10 ** losses.mean():.4f})"
        for (training, budget), (lr, losses) in best.items()
    ]
    return f"The best rates of the search are {join(found)}."


def describe_judgement(rule: str, judged: pd.DataFrame) -> str:
    """What `lrlib.study.regret.judge_rule` found, in words."""
    sentences = []
    for row in judged.itertuples():
        other = "no other rule does better"
        if row.least != rule:
            other = f"`{row.least}` does better, {compare(row.least_regret, 'the best')}"
        search = "no random search is as good"
        if row.draws:
            search = f"a random search needs {count(row.draws, 'training')} to be as good"
        sentences.append(
            f"- {_say_training(row.training, row.budget).capitalize()}, `{rule}` ends with a test loss "
            f"{say_regret(row)}; {other}; {search}."
        )
    return "\n".join(sentences)


def describe_without_sweep(table: pd.DataFrame, trained: Mapping[str, str]) -> str:
    """What those reach who make no range test but train for its epochs besides. trained: the installed of
    TUNING_FREE."""
    free = table[(table["training"] == CONSTANT) & table["choice"].isin([TORCH_DEFAULT, *TUNING_FREE])]
    sentences = []
    for spent, rows in free.groupby("spent", sort=False):
        found = [f"{compare(row.regret, 'the best')} with {row.choice}" for row in rows.itertuples()]
        sentences.append(f"after {count(spent, 'epoch')} it is {join(found)}")
    missing = [name for name in TUNING_FREE if name not in trained]
    note = f" Left out, since their packages are not installed: {join(missing)}." if missing else ""
    return f"Without a range test the test loss comes, at equal compute, to this: {'; '.join(sentences)}.{note}"


def compare_cycles(ours: Mapping[tuple[str, int], npt.NDArray[np.float64]], inv_epochs: int) -> str:
    """The shortest cycle beside the decaying rate; "" where one was not run. ours: (policy, epochs) -> percent, one a
    seed."""
    cycles = [key for key in ours if key[0] != "inv"]
    if not inv_epochs or not cycles:
        return ""
    shortest, decaying = min(cycles, key=lambda key: key[1]), ours["inv", inv_epochs]
    found = estimate_mean(ours[shortest] - decaying)
    outcome = "more than" if found.low > 0 else "less than" if found.high < 0 else "not to be told apart from"
    return (
        f"One cycle of {count(shortest[1], 'epoch')} gives {percent(ours[shortest].mean())}, {outcome} the "
        f"{percent(decaying.mean())} of {count(inv_epochs, 'epoch')} of the decaying rate: {signed(found.mean, 2)} "
        f"points ({interval(found.low, found.high, 2, '')}, over {count(found.n, 'pair')} of runs)."
    )


def compare_with_theirs(table: pd.DataFrame) -> str:
    """Our accuracies less Smith and Topin's and less the repeat's, row by row. table: of
    `super_convergence.read_accuracies`."""
    both = table.dropna(subset=["ours", "theirs"])
    if both.empty:
        return ""
    apart = [
        f"{signed(row['ours'] - row['theirs'], 2)} points from theirs and {signed(row['ours'] - row['repeat'], 2)} from "
        f"the repeat's ({row['row']})"
        for _, row in both.iterrows()
    ]
    return f"Our accuracies are {join(apart)}."


def name_left_out(left_out: Mapping[tuple[str, int], int]) -> str:
    """Which rows of Smith and Topin's table were not run, and what they would take. left_out: (policy, epochs) ->
    epochs to train."""
    if not left_out:
        return "Every row of their table was run."
    names = join(f"{policy} over {count(epochs, 'epoch')}" for policy, epochs in left_out)
    return (
        f"Left out for their length: {names}, {count(sum(left_out.values()), 'epoch')} of training in all; "
        "`cycle_epochs` and `inv_epochs` run them."
    )


def describe_pairs(pairs: pd.DataFrame) -> str:
    """Which paired differences can be told from chance. pairs: of `readings.compare_pairs`, with a column pair."""
    clear = [f"{p.quantity} of {p.pair}" for p in pairs.itertuples() if p.low > 0 or p.high < 0]
    if not clear:
        return f"None of the {spell(len(pairs))} differences can be told from chance with so many seeds."
    return f"Of the {spell(len(pairs))} differences {spell(len(clear))} can hardly be chance alone: {'; '.join(clear)}. The others can."


def describe_choices(choices: pd.DataFrame) -> str:
    """What choosing on the test set does to the numbers that are then reported. choices: of `selection.choose`."""
    same = int((choices["chosen"] == choices["by_test"]).sum())
    gain = (choices["test_loss"] - choices["by_test_loss"]).mean()
    points = 100 * (choices["by_test_accuracy"] - choices["test_accuracy"]).mean()
    return (
        f"In {spell(same)} of {spell(len(choices))} seeds both ways choose the same. Choosing on the test set makes "
        f"the reported loss look {100 * gain / choices['test_loss'].mean():.1f} % lower on average ({gain:.4f}), and "
        f"moves the reported accuracy by {signed(points, 2)} points."
    )


def describe_changes(both: pd.DataFrame, one: str, many: str) -> str:
    """Which verdicts more seeds change. both: id and a column of verdicts each for one and many."""
    changed = both[both[one] != both[many]]["id"]
    said = f"{spell(len(changed), capital=True)} of the {spell(len(both))} verdicts {'changes' if len(changed) == 1 else 'change'} between {one} and {many}"
    return f"{said}: {join(changed)}." if len(changed) else f"{said}."


def compare_datasets(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    """What of the first dataset's verdicts and readings holds on the second. frame: of `claims.tabulate_side_by_side`;
    table: of
    `readings.summarize_dataset`, two rows.
    """
    (_, here), (_, there) = table.iterrows()
    compared = frame[frame["id"] != "C13"]
    same = int((compared[here["dataset"]] == compared[there["dataset"]]).sum())
    return (
        f"On {there['dataset']} {spell(same)} of {spell(len(compared))} verdicts are those on {here['dataset']}. The "
        f"lowest point of the range test moves from {rate(here['lowest'])} to {rate(there['lowest'])}, and the best "
        f"of the constant rates is {there['best constant lr']:g} there."
    )


def _factor(ratio):
    return f"{times(ratio)} times" if ratio >= 2 else f"{100 * ratio:.0f} %"


def _say_training(training, budget):
    if training == CONSTANT:
        return f"after {count(budget, 'epoch')} at a constant rate"
    return f"as the peak of one cycle of {count(budget, 'epoch')}"


def _of_seeds(n):
    return "" if n == 1 else f" (medians over {n} seeds)"
