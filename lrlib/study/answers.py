"""What the sections say of their results: sentences with computed numbers, as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrlib.runs.results import Results
from lrlib.study import author
from lrlib.study.claims import Verdict
from lrlib.study.experiments import Design
from lrlib.study.looks import STEP
from lrlib.study.rows import select_run
from lrlib.study.words import interval, join, percent, rate, signed, spell, times


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


def _of_seeds(n):
    return "" if n == 1 else f" (medians over {n} seeds)"
