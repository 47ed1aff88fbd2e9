"""The claims of the reproduced report, each checked by a function that stands under its rule.

Tolerances were written down before the results were looked at. A function takes the results' tables and the Design,
and returns a Verdict with its evidence in numbers. Where two values are close, one seed cannot settle which is larger,
and the verdict is then "inconclusive". Every rule is one that enough seeds settle: by the interval of a mean, or by the
share of seeds in which something holds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrlib.runs.results import Results
from lrlib.study import author
from lrlib.study.experiments import SGD_SWEEP, Design
from lrlib.study.readings import locate_turning_points, measure_roughness, select_last
from lrlib.study.rows import select_run
from lrlib.study.statistics import Judgement, judge_below, judge_equal, judge_share, judge_together
from lrlib.study.words import held_in, measured, needed
from lrlib.suggest import TurningPoints

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
WORDS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)

HALF_DECADE = 0.5  # log10: "about" for a learning rate
ACCURACY_MARGIN = 0.0025  # a quarter of a point: "similar" for an accuracy
LOSS_MARGIN = 0.05  # relative: "almost", "slightly" for a loss
UNSETTLED = Judgement(None)  # of what no seeds can settle


@dataclass(frozen=True)
class Verdict:
    """verdict: "reproduced", "not reproduced" or "inconclusive"; evidence: Markdown with the numbers; needed: how many
    seeds would settle an inconclusive one, as of `lrlib.study.statistics.Judgement`.
    """

    id: str
    section: str
    claim: str
    rule: str
    verdict: str
    evidence: str
    needed: float | None = None


def check_range_test(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C1 to C3. results: of at least design.range_test()."""
    smoothed, points = locate_turning_points(results.steps, SGD_SWEEP)
    return [check_c1(smoothed, points, design), check_c2(points, design), check_c3(points, design)]


def check_no_scheduling(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C4 to C6. results: of at least design.no_scheduling()."""
    epochs = results.epochs
    return [check_c4(epochs, design), check_c5(epochs, design), check_c6(epochs, design)]


def check_multistep(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C7 to C9. results: of at least design.one_drop() and design.multistep()."""
    epochs = results.epochs
    return [check_c7(epochs, design), check_c8(epochs, design), check_c9(epochs, design)]


def check_onecycle(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C10 and C11. results: of at least design.onecycle() and design.multistep()."""
    return [check_c10(results.steps, design), check_c11(results.epochs, design)]


def check_conclusion(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C12 and C13. results: of design.all_runs()."""
    _, points = locate_turning_points(results.steps, SGD_SWEEP)
    return [check_c12(results.epochs, points, design), check_c13(results.epochs, design)]


def check_all(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C1 to C13. results: of design.all_runs()."""
    checks = (check_range_test, check_no_scheduling, check_multistep, check_onecycle, check_conclusion)
    return [verdict for check in checks for verdict in check(results, design)]


def tabulate_verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row per verdict: id, section, claim, verdict, evidence."""
    rows = [(v.id, v.section, v.claim, v.verdict, v.evidence) for v in verdicts]
    return pd.DataFrame(rows, columns=["id", "section", "claim", "verdict", "evidence"])


def tabulate_side_by_side(verdicts: Mapping[str, Sequence[Verdict]]) -> pd.DataFrame:
    """A row per claim: id, claim, and a column of verdicts for each name. verdicts: name -> Verdicts on the same claims."""
    first = next(iter(verdicts.values()))
    columns = {name: [v.verdict for v in found] for name, found in verdicts.items()}
    return pd.DataFrame({"id": [v.id for v in first], "claim": [v.claim for v in first]} | columns)


def tabulate_rules(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row per verdict: id and the rule it was judged by."""
    return pd.DataFrame([(v.id, v.rule) for v in verdicts], columns=["id", "rule"])


def judged_by(rule: str) -> Callable[[Callable[..., Verdict]], Callable[..., Verdict]]:
    """A check with the rule that it judges by as its docstring, which Python started with -OO leaves out elsewhere."""

    def put_over(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
        check.__doc__ = " ".join(rule.split())
        return check

    return put_over


@judged_by("""The smoothed loss loses at most 5 % before its start of fall, then at least half of itself, and afterwards
rises to at least twice its minimum or stops being finite. By the share of seeds.""")
def check_c1(smoothed: Sequence[npt.NDArray[np.float64]], points: Sequence[TurningPoints], design: Design) -> Verdict:
    def has_three_phases(losses, turns):
        finite = np.isfinite(losses)
        exploded = not finite.all() or losses[finite][-1] >= 2 * turns.loss_at_lowest
        start = np.median(losses[finite][: max(3, finite.sum() // 100)])
        level = abs(turns.loss_at_start - start) <= 0.05 * start
        return level and turns.loss_at_lowest <= 0.5 * turns.loss_at_start and exploded

    held = judge_share((has_three_phases(*pair) for pair in zip(smoothed, points)), design.looks)
    last = [np.nan if not np.isfinite(s).all() else s[-1] for s in smoothed]
    end = "not finite at the end" if np.isnan(last).all() else f"{np.nanmean(last):.2f} at the end"
    return _verdict(
        "C1",
        "1",
        "the range-test loss first stays nearly unchanged, then falls, then explodes",
        held,
        f"smoothed training loss {np.mean([p.loss_at_start for p in points]):.2f} at first, "
        f"{np.mean([p.loss_at_lowest for p in points]):.3f} at its lowest, {end}; "
        f"three phases {held_in(held.estimate)}",
    )


@judged_by("The learning rate of the lowest smoothed loss is within half a decade of 0.1. By the share of seeds.")
def check_c2(points: Sequence[TurningPoints], design: Design) -> Verdict:
    lrs = [p.lowest for p in points]
    return _check_lr("C2", "the loss is lowest at about lr = 1e-1", lrs, author.LOWEST_LR, "lowest", design)


@judged_by("""The learning rate at which the smoothed loss has made 5 % of its fall is within half a decade of 0.001.
By the share of seeds.""")
def check_c3(points: Sequence[TurningPoints], design: Design) -> Verdict:
    lrs, claim = [p.start_of_fall for p in points], "the loss starts to fall significantly at about lr = 1e-3"
    return _check_lr("C3", claim, lrs, author.START_OF_FALL_LR, "start of fall", design)


@judged_by("""At every constant learning rate the last epoch's training and test loss are at least 10 % below the first
epoch's. By the share of seeds in which that is so of all.""")
def check_c4(epochs: pd.DataFrame, design: Design) -> Verdict:
    ratios = {}
    for lr in design.learning_rates:
        run = select_run(epochs, design.constant_label(lr))
        first, last = _at_epoch(run, 1), _at_epoch(run, design.epochs)
        ratios[lr] = [(last[key] / first[key]).to_numpy() for key in ("train_loss", "test_loss")]
    held = judge_share(np.max(list(ratios.values()), axis=(0, 1)) <= 0.9, design.looks)
    return _verdict(
        "C4",
        "2.1",
        f"{_lrs(design.learning_rates)} all make the loss decrease",
        held,
        "last over first epoch's loss (training, test): "
        + "; ".join(f"{lr:g}: {pair[0].mean():.3f}, {pair[1].mean():.3f}" for lr, pair in ratios.items())
        + f"; all at most 0.9 {held_in(held.estimate)}",
    )


@judged_by("""Of any two neighbouring learning rates the larger has the lower test loss, averaged over the first five
epochs, by at least 10 %. By the share of seeds in which that is so of all pairs.""")
def check_c5(epochs: pd.DataFrame, design: Design) -> Verdict:
    lrs = sorted(design.learning_rates, reverse=True)
    early = {lr: _mean_early(select_run(epochs, design.constant_label(lr)), "test_loss") for lr in lrs}
    ratios = [early[larger] / early[smaller] for larger, smaller in zip(lrs, lrs[1:])]
    evidence = "test loss over the first five epochs: " + ", ".join(f"{lr:g}: {early[lr].mean():.3f}" for lr in lrs)
    if not ratios:
        return _verdict("C5", "2.1", _C5, UNSETTLED, f"{evidence}; one learning rate alone cannot be compared")
    held = judge_share(np.max(ratios, axis=0) <= 0.9, design.looks)
    return _verdict("C5", "2.1", _C5, held, f"{evidence}; so ordered {held_in(held.estimate)}")


@judged_by("""The last epoch's test accuracies at the two largest learning rates differ by at most 0.25 points: the 95 %
interval of the paired difference lies within that margin (reproduced) or outside it (not). One seed: inconclusive up to
three margins.""")
def check_c6(epochs: pd.DataFrame, design: Design) -> Verdict:
    lrs = sorted(design.learning_rates, reverse=True)[:2]
    claim = f"within {design.epochs} epochs {_lrs(lrs)} reach similar test performance"
    if len(lrs) < 2:
        return _verdict("C6", "2.1", claim, UNSETTLED, "one learning rate alone cannot be compared")
    accuracies = [select_last(epochs, design.constant_label(lr), "test_accuracy") for lr in lrs]
    judged = judge_equal(accuracies[0] - accuracies[1], ACCURACY_MARGIN, design.looks)
    return _verdict(
        "C6",
        "2.1",
        claim,
        _unless_sample(judged, design),
        "; ".join(f"{lr:g}: {100 * a.mean():.2f} %" for lr, a in zip(lrs, accuracies))
        + f"; difference {_points(judged)}{_sample_note(design)}",
    )


@judged_by("""The last epoch's test loss with the middle turning point is at most 5 % above that with any other: the
95 % intervals of the relative excess over each lie below that margin (reproduced) or one lies above it (not). One seed:
inconclusive unless 15 points clear of it.""")
def check_c7(epochs: pd.DataFrame, design: Design) -> Verdict:
    losses = {m: select_last(epochs, design.drop_label([m]), "test_loss") for m in design.turning_points}
    middle = design.middle_turning_point
    claim = f"turning point {middle} reaches almost the lowest test loss of {', '.join(map(str, losses))}"
    if len(losses) == 1:
        return _verdict("C7", "2.2", claim, UNSETTLED, "one turning point alone cannot be compared")
    excess = {
        m: judge_below(losses[middle] / values - 1, LOSS_MARGIN, design.looks, clear=3 * LOSS_MARGIN)
        for m, values in losses.items()
        if m != middle
    }
    return _verdict(
        "C7",
        "2.2",
        claim,
        judge_together(*excess.values()),
        "last test loss: "
        + "; ".join(f"{m}: {values.mean():.4f}" for m, values in losses.items())
        + "".join(f"; {middle} above {m} by {_percent(judged)}" for m, judged in excess.items()),
    )


@judged_by("""With the middle turning point the last epoch's test loss is at most 10 % above the lowest test loss of any
epoch after the drop. By the share of seeds.""")
def check_c8(epochs: pd.DataFrame, design: Design) -> Verdict:
    middle = design.middle_turning_point
    claim = f"turning point {middle} shows no significant over-fitting, only a slight rise of the test loss afterwards"
    run = select_run(epochs, design.drop_label([middle]))
    after = run[run["epoch"] > middle].groupby("seed")["test_loss"]
    rise = (after.last() / after.min() - 1).to_numpy()
    if not len(rise):
        return _verdict("C8", "2.2", claim, UNSETTLED, "no epoch after it")
    held = judge_share(rise <= 0.1, design.looks)
    return _verdict(
        "C8",
        "2.2",
        claim,
        held,
        f"rise from the lowest test loss after the drop to the last: {100 * rise.mean():.1f} % on average, "
        f"at most 10 % {held_in(held.estimate)}",
    )


@judged_by("""The last epoch's test loss with the second drop differs by at most 5 % from that without it: the 95 %
interval of the paired relative difference lies within that margin (reproduced) or outside it (not). One seed:
inconclusive up to three margins.""")
def check_c9(epochs: pd.DataFrame, design: Design) -> Verdict:
    claim = "a second drop, to 1e-3, changes the loss only slightly"
    first = design.milestones[0]
    if len(design.milestones) < 2 or first not in design.turning_points:
        return _verdict("C9", "2.2", claim, UNSETTLED, f"no run with the drop at {first} alone to compare with")
    with_it = select_last(epochs, design.multistep_label, "test_loss")
    without = select_last(epochs, design.drop_label([first]), "test_loss")
    judged = judge_equal(with_it / without - 1, LOSS_MARGIN, design.looks)
    return _verdict(
        "C9",
        "2.2",
        claim,
        judged,
        f"last test loss {with_it.mean():.4f} with the drop at {design.milestones[1]}, {without.mean():.4f} without: "
        f"{_percent(judged)}",
    )


@judged_by("The least learning rate of the OneCycle run is above 0.001 by more than rounding (one part in a million).")
def check_c10(steps: pd.DataFrame, design: Design) -> Verdict:
    lr = select_run(steps, design.onecycle_label).query("seed == 0")["lr"]
    least, at = lr.min(), int(lr.to_numpy().argmin())
    return _verdict(
        "C10",
        "2.3",
        "OneCycle's minimum learning rate stays above 1e-3",
        Judgement(bool(least > 1e-3 * (1 + 1e-6))),
        f"minimum {least:.6g}, at step {at} of {len(lr)} (from 0)",
    )


@judged_by("""Roughness of a test-loss curve is the sum of its rises from one epoch to the next. OneCycle's is below
MultiStep's: by the 95 % interval of the log ratio; with one seed only where the ratio is beyond a factor of two.""")
def check_c11(epochs: pd.DataFrame, design: Design) -> Verdict:
    rough = {
        label: select_run(epochs, label).groupby("seed")["test_loss"].apply(measure_roughness).to_numpy()
        for label in (design.onecycle_label, design.multistep_label)
    }
    one, multi = rough[design.onecycle_label], rough[design.multistep_label]
    curves = author.load_curves().groupby("run")["test_loss"].apply(measure_roughness)
    evidence = (
        f"sum of rises {one.mean():.4f} (OneCycle), {multi.mean():.4f} (MultiStep); "
        f"author's {curves['OneCycle']:.4f}, {curves['MultiStep']:.4f}"
    )
    if (one == 0).any() or (multi == 0).any():
        return _verdict("C11", "2.3", _C11, UNSETTLED, evidence + "; a curve without any rise has no ratio")
    judged = judge_below(np.log(one / multi), 0, design.looks, clear=np.log(2))
    return _verdict("C11", "2.3", _C11, judged, f"{evidence}; log ratio {measured(judged.estimate, '+.2f')}")


@judged_by("""The best of the constant learning rates lies between the range test's two turning points, half a decade
allowed, by the share of seeds; and the better of the two schedules is not below the best of them, both by their means,
by more than 0.25 points (95 % interval of the paired difference; one seed: inconclusive within three margins).""")
def check_c12(epochs: pd.DataFrame, points: Sequence[TurningPoints], design: Design) -> Verdict:
    lrs = np.array(design.learning_rates)
    constant = np.nan_to_num([select_last(epochs, design.constant_label(lr), "test_accuracy") for lr in lrs])
    schedules = {
        label: select_last(epochs, label, "test_accuracy") for label in (design.multistep_label, design.onecycle_label)
    }
    low, high = (np.array([getattr(p, name) for p in points]) for name in ("start_of_fall", "lowest"))
    best_lrs, slack = lrs[constant.argmax(axis=0)], 10**HALF_DECADE
    inside = judge_share((low / slack <= best_lrs) & (best_lrs <= high * slack), design.looks)
    best_lr, best = constant.mean(axis=1).argmax(), max(schedules, key=lambda label: schedules[label].mean())
    shortfall = constant[best_lr] - schedules[best]
    judged = judge_below(shortfall, ACCURACY_MARGIN, design.looks, clear=2 * ACCURACY_MARGIN)
    return _verdict(
        "C12",
        "2.4",
        "the range test finds the scale of learning rate that suits the schedulers",
        _unless_sample(judge_together(inside, judged), design),
        f"range test: {_median(low):.2g} to {_median(high):.2g}; best constant learning rate there "
        f"{held_in(inside.estimate)}, by its mean {lrs[best_lr]:g} ({100 * constant[best_lr].mean():.2f} %); "
        f"best schedule {best} ({100 * schedules[best].mean():.2f} %); constant less schedule "
        f"{_points(judged)}{_sample_note(design)}",
    )


@judged_by("""The last test accuracies of MultiStep and OneCycle differ by at most 0.25 points, and so does each from the
author's: the 95 % intervals of the differences lie within that margin (reproduced) or one lies outside it (not). One
seed: inconclusive up to three margins.""")
def check_c13(epochs: pd.DataFrame, design: Design) -> Verdict:
    accuracies = {
        "MultiStep": select_last(epochs, design.multistep_label, "test_accuracy"),
        "OneCycle": select_last(epochs, design.onecycle_label, "test_accuracy"),
    }
    apart = judge_equal(accuracies["MultiStep"] - accuracies["OneCycle"], ACCURACY_MARGIN, design.looks)
    from_theirs = {
        name: judge_equal(a - author.ACCURACY[name], ACCURACY_MARGIN, design.looks) for name, a in accuracies.items()
    }
    return _verdict(
        "C13",
        "2.4",
        "the final accuracies are similar: 99.27 % and 99.18 %",
        _unless_sample(judge_together(apart, *from_theirs.values()), design),
        "; ".join(
            f"{name} {100 * a.mean():.2f} %, from the author's {_points(from_theirs[name])}"
            for name, a in accuracies.items()
        )
        + f"; difference {_points(apart)}{_sample_note(design)}",
    )


_C5 = "the bigger learning rate converges faster"
_C11 = "OneCycle's test-loss curve is smoother than MultiStep's"


def _verdict(id, section, claim, judged, evidence):
    rule = globals()[f"check_{id.lower()}"].__doc__
    word = {True: REPRODUCED, False: NOT_REPRODUCED, None: INCONCLUSIVE}[judged.verdict]
    if judged.needed is not None:
        evidence += f"; {needed(judged.needed)} like these would settle it"
    return Verdict(id, section, claim, rule, word, evidence, judged.needed)


def _check_lr(id, claim, lrs, expected, what, design):
    decades = np.log10(np.array(lrs) / expected)
    located = f"{lrs[0]:.2g}" if len(lrs) == 1 else f"median {np.median(lrs):.2g}, {min(lrs):.2g} to {max(lrs):.2g}"
    held = judge_share(np.abs(decades) <= HALF_DECADE, design.looks)
    return _verdict(
        id,
        "1",
        claim,
        held,
        f"{what} at {located}, {10 ** np.median(decades):.2g} times the author's {expected:g}; within half a decade "
        f"{held_in(held.estimate)}",
    )


def _at_epoch(run, epoch):
    return run[run["epoch"] == epoch].set_index("seed")


def _mean_early(run, column):
    return run[run["epoch"] <= 5].groupby("seed")[column].mean().to_numpy()


def _unless_sample(judged, design):
    return UNSETTLED if design.is_sample else judged


def _sample_note(design):
    return "; not tested by the sample" if design.is_sample else ""


def _median(lrs):
    return 10 ** np.median(np.log10(lrs))


def _lrs(lrs):
    names = [f"{lr:g}" for lr in lrs]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _points(judged):
    return measured(judged.estimate, "+.2f", "points", scale=100)


def _percent(judged):
    return measured(judged.estimate, "+.1f", "%", scale=100)
