"""The claims of the reproduced report, each checked by a function that stands under its rule.

Rules and tolerances were written down before the results were looked at. A function takes the results' tables and
the Design, and returns a Verdict with its evidence in numbers. Where two values are close, one seed cannot settle
which is larger, and the verdict is then "inconclusive".
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
from lrlib.study.statistics import estimate_mean, judge_all, judge_below, judge_equal
from lrlib.suggest import TurningPoints

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
WORDS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)

HALF_DECADE = 0.5  # log10: "about" for a learning rate
ACCURACY_MARGIN = 0.0025  # a quarter of a point: "similar" for an accuracy
LOSS_MARGIN = 0.05  # relative: "almost", "slightly" for a loss


@dataclass(frozen=True)
class Verdict:
    """verdict: "reproduced", "not reproduced" or "inconclusive"; evidence: Markdown with the numbers."""

    id: str
    section: str
    claim: str
    rule: str
    verdict: str
    evidence: str


def check_range_test(results: Results, design: Design) -> list[Verdict]:
    """Verdicts on C1 to C3. results: of at least design.range_test()."""
    smoothed, points = locate_turning_points(results.steps, SGD_SWEEP)
    return [check_c1(smoothed, points), check_c2(points), check_c3(points)]


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
rises to at least twice its minimum or stops being finite. All seeds: reproduced; none: not.""")
def check_c1(smoothed: Sequence[npt.NDArray[np.float64]], points: Sequence[TurningPoints]) -> Verdict:
    def has_three_phases(losses, turns):
        finite = np.isfinite(losses)
        exploded = not finite.all() or losses[finite][-1] >= 2 * turns.loss_at_lowest
        start = np.median(losses[finite][: max(3, finite.sum() // 100)])
        level = abs(turns.loss_at_start - start) <= 0.05 * start
        return level and turns.loss_at_lowest <= 0.5 * turns.loss_at_start and exploded

    held = [has_three_phases(*pair) for pair in zip(smoothed, points)]
    last = [np.nan if not np.isfinite(s).all() else s[-1] for s in smoothed]
    end = "not finite at the end" if np.isnan(last).all() else f"{np.nanmean(last):.2f} at the end"
    return _verdict(
        "C1",
        "1",
        "the range-test loss first stays nearly unchanged, then falls, then explodes",
        judge_all(held),
        f"smoothed training loss {_mean(p.loss_at_start for p in points):.2f} at first, "
        f"{_mean(p.loss_at_lowest for p in points):.3f} at its lowest, {end}; "
        f"three phases in {sum(held)} of {_seeds(len(held))}",
    )


@judged_by(
    "The learning rate of the lowest smoothed loss is within half a decade of 0.1. All seeds: reproduced; none: not."
)
def check_c2(points: Sequence[TurningPoints]) -> Verdict:
    lrs = [p.lowest for p in points]
    return _check_lr("C2", "the loss is lowest at about lr = 1e-1", lrs, author.LOWEST_LR, "lowest")


@judged_by("""The learning rate at which the smoothed loss has made 5 % of its fall is within half a decade of 0.001.
All seeds: reproduced; none: not.""")
def check_c3(points: Sequence[TurningPoints]) -> Verdict:
    lrs = [p.start_of_fall for p in points]
    return _check_lr(
        "C3", "the loss starts to fall significantly at about lr = 1e-3", lrs, author.START_OF_FALL_LR, "start of fall"
    )


@judged_by("""At every constant learning rate the last epoch's training and test loss are at least 10 % below the first
epoch's. All runs: reproduced; none: not.""")
def check_c4(epochs: pd.DataFrame, design: Design) -> Verdict:
    ratios = {}
    for lr in design.learning_rates:
        run = select_run(epochs, design.constant_label(lr))
        first, last = _at_epoch(run, 1), _at_epoch(run, design.epochs)
        ratios[lr] = [(last[key] / first[key]).to_numpy() for key in ("train_loss", "test_loss")]
    return _verdict(
        "C4",
        "2.1",
        f"{_lrs(design.learning_rates)} all make the loss decrease",
        judge_all(ratio <= 0.9 for pair in ratios.values() for values in pair for ratio in values),
        "last over first epoch's loss (training, test): "
        + "; ".join(f"{lr:g}: {pair[0].mean():.3f}, {pair[1].mean():.3f}" for lr, pair in ratios.items()),
    )


@judged_by("""Of any two neighbouring learning rates the larger has the lower test loss, averaged over the first five
epochs, by at least 10 %. All pairs and seeds: reproduced; none: not.""")
def check_c5(epochs: pd.DataFrame, design: Design) -> Verdict:
    lrs = sorted(design.learning_rates, reverse=True)
    early = {lr: _mean_early(select_run(epochs, design.constant_label(lr)), "test_loss") for lr in lrs}
    held = [ratio <= 0.9 for larger, smaller in zip(lrs, lrs[1:]) for ratio in early[larger] / early[smaller]]
    evidence = "test loss over the first five epochs: " + ", ".join(f"{lr:g}: {early[lr].mean():.3f}" for lr in lrs)
    if not held:
        return _verdict("C5", "2.1", _C5, None, f"{evidence}; one learning rate alone cannot be compared")
    return _verdict("C5", "2.1", _C5, judge_all(held), evidence)


@judged_by("""The last epoch's test accuracies at the two largest learning rates differ by at most 0.25 points: the 95 %
interval of the paired difference lies within that margin (reproduced) or outside it (not). One seed: inconclusive up to
three margins.""")
def check_c6(epochs: pd.DataFrame, design: Design) -> Verdict:
    lrs = sorted(design.learning_rates, reverse=True)[:2]
    claim = f"within {design.epochs} epochs {_lrs(lrs)} reach similar test performance"
    if len(lrs) < 2:
        return _verdict("C6", "2.1", claim, None, "one learning rate alone cannot be compared")
    accuracies = [select_last(epochs, design.constant_label(lr), "test_accuracy") for lr in lrs]
    return _verdict(
        "C6",
        "2.1",
        claim,
        _unless_sample(judge_equal(accuracies[0] - accuracies[1], ACCURACY_MARGIN), design),
        "; ".join(f"{lr:g}: {100 * a.mean():.2f} %" for lr, a in zip(lrs, accuracies))
        + f"; difference {_points(accuracies[0] - accuracies[1])}{_sample_note(design)}",
    )


@judged_by("""The last epoch's test loss with the middle turning point is at most 5 % above the lowest of the turning
points: the 95 % interval of the relative excess lies below that margin (reproduced) or above it (not). One seed:
inconclusive unless 15 points clear of it.""")
def check_c7(epochs: pd.DataFrame, design: Design) -> Verdict:
    losses = {m: select_last(epochs, design.drop_label([m]), "test_loss") for m in design.turning_points}
    middle = design.middle_turning_point
    # The means decide which is lowest: the least of each seed would be lower than any of them on average.
    lowest = min(losses, key=lambda m: losses[m].mean())
    excess = losses[middle] / losses[lowest] - 1
    others = ", ".join(str(m) for m in design.turning_points)
    return _verdict(
        "C7",
        "2.2",
        f"turning point {middle} reaches almost the lowest test loss of {others}",
        judge_below(excess, LOSS_MARGIN, clear=3 * LOSS_MARGIN),
        "last test loss: "
        + "; ".join(f"{m}: {values.mean():.4f}" for m, values in losses.items())
        + f"; {middle} above the lowest, {lowest}, by {_percent(excess)}",
    )


@judged_by("""With the middle turning point the last epoch's test loss is at most 10 % above the lowest test loss of any
epoch after the drop. All seeds: reproduced; none: not.""")
def check_c8(epochs: pd.DataFrame, design: Design) -> Verdict:
    middle = design.middle_turning_point
    run = select_run(epochs, design.drop_label([middle]))
    after = run[run["epoch"] > middle].groupby("seed")["test_loss"]
    rise = (after.last() / after.min() - 1).to_numpy()
    return _verdict(
        "C8",
        "2.2",
        f"turning point {middle} shows no significant over-fitting, only a slight rise of the test loss afterwards",
        judge_all(rise <= 0.1) if len(rise) else None,
        f"rise from the lowest test loss after the drop to the last: {_percent(rise)}"
        if len(rise)
        else "no epoch after it",
    )


@judged_by("""The last epoch's test loss with the second drop differs by at most 5 % from that without it: the 95 %
interval of the paired relative difference lies within that margin (reproduced) or outside it (not). One seed:
inconclusive up to three margins.""")
def check_c9(epochs: pd.DataFrame, design: Design) -> Verdict:
    claim = "a second drop, to 1e-3, changes the loss only slightly"
    first = design.milestones[0]
    if len(design.milestones) < 2 or first not in design.turning_points:
        return _verdict("C9", "2.2", claim, None, f"no run with the drop at {first} alone to compare with")
    with_it = select_last(epochs, design.multistep_label, "test_loss")
    without = select_last(epochs, design.drop_label([first]), "test_loss")
    return _verdict(
        "C9",
        "2.2",
        claim,
        judge_equal(with_it / without - 1, LOSS_MARGIN),
        f"last test loss {with_it.mean():.4f} with the drop at {design.milestones[1]}, {without.mean():.4f} without: "
        f"{_percent(with_it / without - 1)}",
    )


@judged_by("The least learning rate of the OneCycle run is above 0.001 by more than rounding (one part in a million).")
def check_c10(steps: pd.DataFrame, design: Design) -> Verdict:
    lr = select_run(steps, design.onecycle_label).query("seed == 0")["lr"]
    least, at = lr.min(), int(lr.to_numpy().argmin())
    return _verdict(
        "C10",
        "2.3",
        "OneCycle's minimum learning rate stays above 1e-3",
        bool(least > 1e-3 * (1 + 1e-6)),
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
        return _verdict("C11", "2.3", _C11, None, evidence + "; a curve without any rise has no ratio")
    return _verdict("C11", "2.3", _C11, judge_below(np.log(one / multi), 0, clear=np.log(2)), evidence)


@judged_by("""The best of the constant learning rates, by mean last test accuracy, lies between the range test's two
turning points, half a decade allowed; and the better of the two schedules is not below it by more than 0.25 points (95
% interval of the paired difference; one seed: inconclusive within three margins).""")
def check_c12(epochs: pd.DataFrame, points: Sequence[TurningPoints], design: Design) -> Verdict:
    low = 10 ** np.median(np.log10([p.start_of_fall for p in points]))
    high = 10 ** np.median(np.log10([p.lowest for p in points]))
    constant = {lr: select_last(epochs, design.constant_label(lr), "test_accuracy") for lr in design.learning_rates}
    schedules = {
        label: select_last(epochs, label, "test_accuracy") for label in (design.multistep_label, design.onecycle_label)
    }
    best_lr = max(constant, key=lambda lr: constant[lr].mean())
    best = max(schedules, key=lambda label: schedules[label].mean())
    shortfall = constant[best_lr] - schedules[best]
    inside = low * 10**-HALF_DECADE <= best_lr <= high * 10**HALF_DECADE
    held = judge_below(shortfall, ACCURACY_MARGIN, clear=2 * ACCURACY_MARGIN) if inside else False
    return _verdict(
        "C12",
        "2.4",
        "the range test finds the scale of learning rate that suits the schedulers",
        _unless_sample(held, design),
        f"range test: {low:.2g} to {high:.2g}; best constant learning rate {best_lr:g} "
        f"({100 * constant[best_lr].mean():.2f} %); best schedule {best} ({100 * schedules[best].mean():.2f} %)"
        f"{_sample_note(design)}",
    )


@judged_by("""The last test accuracies of MultiStep and OneCycle differ by at most 0.25 points (95 % interval of the
paired difference within that margin: reproduced; outside: not; one seed: inconclusive up to three margins), and each
mean is within 0.25 points of the author's (else: not).""")
def check_c13(epochs: pd.DataFrame, design: Design) -> Verdict:
    accuracies = {
        "MultiStep": select_last(epochs, design.multistep_label, "test_accuracy"),
        "OneCycle": select_last(epochs, design.onecycle_label, "test_accuracy"),
    }
    difference = accuracies["MultiStep"] - accuracies["OneCycle"]
    near = all(abs(a.mean() - author.ACCURACY[name]) <= ACCURACY_MARGIN for name, a in accuracies.items())
    held = judge_equal(difference, ACCURACY_MARGIN) if near else False
    return _verdict(
        "C13",
        "2.4",
        "the final accuracies are similar: 99.27 % and 99.18 %",
        _unless_sample(held, design),
        "; ".join(f"{name} {100 * a.mean():.2f} %" for name, a in accuracies.items())
        + f"; difference {_points(difference)}{_sample_note(design)}",
    )


_C5 = "the bigger learning rate converges faster"
_C11 = "OneCycle's test-loss curve is smoother than MultiStep's"


def _verdict(id, section, claim, held, evidence):
    rule = globals()[f"check_{id.lower()}"].__doc__
    word = {True: REPRODUCED, False: NOT_REPRODUCED, None: INCONCLUSIVE}[held]
    return Verdict(id, section, claim, rule, word, evidence)


def _check_lr(id, claim, lrs, expected, what):
    decades = np.log10(np.array(lrs) / expected)
    located = f"{lrs[0]:.2g}" if len(lrs) == 1 else f"median {np.median(lrs):.2g}, {min(lrs):.2g} to {max(lrs):.2g}"
    return _verdict(
        id,
        "1",
        claim,
        judge_all(np.abs(decades) <= HALF_DECADE),
        f"{what} at {located} ({_seeds(len(lrs))}); {10 ** np.median(decades):.2g} times the author's {expected:g}",
    )


def _at_epoch(run, epoch):
    return run[run["epoch"] == epoch].set_index("seed")


def _mean_early(run, column):
    return run[run["epoch"] <= 5].groupby("seed")[column].mean().to_numpy()


def _unless_sample(held, design):
    return None if design.is_sample else held


def _sample_note(design):
    return "; not tested by the sample" if design.is_sample else ""


def _mean(values):
    return float(np.mean(list(values)))


def _lrs(lrs):
    names = [f"{lr:g}" for lr in lrs]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _seeds(n):
    return "1 seed" if n == 1 else f"{n} seeds"


def _interval(values, scale, form, unit):
    found = estimate_mean(scale * np.asarray(values))
    if found.n == 1:
        return f"{found.mean:{form}} {unit} (one seed)"
    return f"{found.mean:{form}} {unit} [{found.low:{form}}, {found.high:{form}}], {found.n} seeds"


def _points(values):
    return _interval(values, 100, "+.2f", "points")


def _percent(values):
    return _interval(values, 100, "+.1f", "%")
