"""The claims of the reproduced report: read from claims.toml, measured on the runs, and judged.

A claim's rule, margin and words stand in claims.toml. Here a function a claim measures its statistic: one value a seed.
"""

import itertools
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrlib.reproduction import author
from lrlib.reproduction.design import SGD_SWEEP, Design
from lrlib.reproduction.readings import (
    count_diverged,
    locate_turning_points,
    measure_roughness,
    select_last,
    select_run,
)
from lrlib.reproduction.statistics import Estimate, estimate_mean, estimate_share
from lrlib.runs.results import Results

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, ONE_SEED = "reproduced", "not reproduced", "inconclusive", "one seed"
NOTE = "note"  # in place of a verdict
TAG = "claims-frozen"
RULES = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))

# What a claim's function returns: a name -> one value a seed for each comparison, and numbers to show beside.
Measured = tuple[dict[str, Any], str]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    verdict: "reproduced", "not reproduced", "inconclusive", "one seed", or "note" for C10. evidence: the numbers, as
    Markdown. estimates: name of a comparison -> its share, or its mean as a fraction.
    """

    id: str
    section: str
    claim: str
    verdict: str
    evidence: str
    estimates: dict[str, Estimate] = field(default_factory=dict)


def judge(results: Results, design: Design, section: str = "") -> list[Verdict]:
    """Verdicts on the claims, in order.

    Args:
        results: of the runs that the claims are about: the section's, or `design.all_runs()`.
        section: of the original, such as "2.1"; "" for all claims.
    """
    return [_judge(id, results, design) for id, rule in RULES.items() if section in ("", rule["section"])]


def tabulate_verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row per verdict: id, section, claim, verdict, evidence."""
    rows = [(v.id, v.section, v.claim, v.verdict, v.evidence) for v in verdicts]
    return pd.DataFrame(rows, columns=["id", "section", "claim", "verdict", "evidence"])


def tabulate_rules() -> pd.DataFrame:
    """A row per claim: id, statistic, and when it counts as reproduced."""
    rows = [(id, _fill(rule["statistic"], rule), describe_rule(rule)) for id, rule in RULES.items()]
    return pd.DataFrame(rows, columns=["id", "statistic", "reproduced if the 95 % CI"])


def describe_rule(rule: Mapping[str, Any]) -> str:
    """The condition of "reproduced", in words."""
    margin = f"{100 * rule.get('margin', 0.0):g} {rule.get('unit', '')}"
    said = {
        "most": "of the share is above 1/2",
        "equal": f"of the mean is within ± {margin}",
        "below": f"of the mean is below {margin if rule.get('margin') else 0}",
        "note": "no verdict",
    }
    return said[rule["rule"]]


def describe_freeze() -> str:
    """The tag and the commit that froze the rules, as an aside; "" if unknown."""
    command = ["git", "rev-parse", "--short", f"{TAG}^{{commit}}"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" (tag `{TAG}`, commit `{found.stdout.strip()}`)"


def _judge(id, results, design):
    rule = RULES[id]
    claim = _fill(rule["words"], rule, design)
    if rule["rule"] == NOTE:
        return Verdict(id, rule["section"], claim, NOTE, MEASURES[id](results, design, None)[1])
    measured, shown = MEASURES[id](results, design, rule["margin"])
    estimate = estimate_share if rule["rule"] == "most" else estimate_mean
    estimates = {name: estimate(values) for name, values in measured.items()}
    said = [_describe(name, found, rule) for name, found in estimates.items()]
    word = _combine([_decide(found, rule) for found in estimates.values()])
    return Verdict(id, rule["section"], claim, word, "; ".join([*said, shown]), estimates)


def _decide(found, rule):
    if found.n == 1:
        return ONE_SEED
    if rule["rule"] == "most":
        held, failed = found.low > 0.5, found.high < 0.5
    elif rule["rule"] == "below":
        held, failed = found.high < rule["margin"], found.low > rule["margin"]
    else:
        held = -rule["margin"] < found.low and found.high < rule["margin"]
        failed = found.low > rule["margin"] or found.high < -rule["margin"]
    return REPRODUCED if held else NOT_REPRODUCED if failed else INCONCLUSIVE


def _combine(words):
    for word in (ONE_SEED, NOT_REPRODUCED, INCONCLUSIVE):
        if word in words:
            return word
    return REPRODUCED if words else INCONCLUSIVE


def _describe(name, found, rule):
    if rule["rule"] == "most":
        held = f"holds in {round(found.mean * found.n)} of {found.n} seed{'s' * (found.n > 1)}"
        return (
            held if found.n == 1 else f"{held} (95 % CI of the share {100 * found.low:.0f} to {100 * found.high:.0f} %)"
        )
    if rule["unit"] == "points":
        return f"{name}: {found * 100:+.2f points}"
    return f"{name}: {found * 100:+.1f %}" if rule["unit"] == "%" else f"{name}: {found:+.2f}"


def _fill(text, rule, design=None):
    words = {"margin": rule.get("margin", 0.0)}
    if design:
        lrs = sorted(design.learning_rates, reverse=True)
        words |= {
            "epochs": design.epochs,
            "learning_rates": join(f"{lr:g}" for lr in lrs),
            "two_largest": join(f"{lr:g}" for lr in lrs[:2]),
            "middle": design.middle_turning_point,
            "turning_points": join(map(str, design.turning_points)),
        }
    return text.format(**words).replace("%", " %").replace("  %", " %")


def join(words: Iterable[object]) -> str:
    """`a, b and c`."""
    *most, last = [str(word) for word in words]
    return f"{', '.join(most)} and {last}" if most else last


def _last(results, label, column="test_accuracy"):
    return select_last(count_diverged(results.epochs), label, column)


def _read_c1(results: Results, design: Design, margin: float) -> Measured:
    smoothed, points = locate_turning_points(results.steps, SGD_SWEEP, design.fall_fraction)

    def has_three_phases(losses, turns):
        finite = losses[np.isfinite(losses)]
        level = abs(turns.loss_at_start / np.median(finite[: max(3, len(finite) // 100)]) - 1) <= margin
        rises = len(finite) < len(losses) or finite[-1] >= 2 * turns.loss_at_lowest
        return level and turns.loss_at_lowest <= 0.5 * turns.loss_at_start and rises

    held = [has_three_phases(*pair) for pair in zip(smoothed, points, strict=True)]
    levels = np.median([(p.loss_at_start, p.loss_at_lowest) for p in points], axis=0)
    return {"": held}, f"smoothed loss {levels[0]:.2f} at first and {levels[1]:.3f} at its lowest (medians)"


def _read_c2(results: Results, design: Design, margin: float) -> Measured:
    _, points = locate_turning_points(results.steps, SGD_SWEEP, design.fall_fraction)
    return _near([p.lowest for p in points], author.LOWEST_LR, margin)


def _read_c3(results: Results, design: Design, margin: float) -> Measured:
    _, points = locate_turning_points(results.steps, SGD_SWEEP, design.fall_fraction)
    return _near([p.start_of_fall for p in points], author.START_OF_FALL_LR, margin)


def _near(lrs, expected, decades):
    held = np.abs(np.log10(np.array(lrs) / expected)) <= decades
    spread = f", {min(lrs):.2g} to {max(lrs):.2g}" if len(lrs) > 1 else ""
    return {"": held}, f"median {np.median(lrs):.2g}{spread}"


def _read_c4(results: Results, design: Design, margin: float) -> Measured:
    epochs, ratios = count_diverged(results.epochs), {}
    for lr in design.learning_rates:
        by_seed = select_run(epochs, design.constant_label(lr)).sort_values("epoch").groupby("seed")
        losses = by_seed[["train_loss", "test_loss"]]
        ratios[lr] = (losses.last() / losses.first()).max(axis=1).to_numpy()
    shown = ", ".join(f"{lr:g}: {np.median(ratio):.2f}" for lr, ratio in ratios.items())
    return {"": np.max(list(ratios.values()), axis=0) <= 1 - margin}, f"last over first loss, median: {shown}"


def _read_c5(results: Results, design: Design, margin: float) -> Measured:
    epochs, lrs = count_diverged(results.epochs), sorted(design.learning_rates, reverse=True)
    early = epochs[epochs["epoch"] <= 5]
    losses = [select_run(early, design.constant_label(lr)).groupby("seed")["test_loss"].mean().to_numpy() for lr in lrs]
    shown = "mean test loss of the first five epochs: "
    shown += ", ".join(f"{lr:g}: {loss.mean():.3f}" for lr, loss in zip(lrs, losses, strict=True))
    if len(lrs) < 2:
        return {}, "one learning rate alone cannot be compared"
    ratios = [larger / smaller for larger, smaller in itertools.pairwise(losses)]
    return {"": np.max(ratios, axis=0) <= 1 - margin}, shown


def _read_c6(results: Results, design: Design, margin: float) -> Measured:
    lrs = sorted(design.learning_rates, reverse=True)[:2]
    if len(lrs) < 2:
        return {}, "one learning rate alone cannot be compared"
    first, second = (_last(results, design.constant_label(lr)) for lr in lrs)
    shown = ", ".join(f"{lr:g}: {100 * a.mean():.2f} %" for lr, a in zip(lrs, (first, second), strict=True))
    return {f"{lrs[0]:g} minus {lrs[1]:g}": first - second}, shown


def _read_c7(results: Results, design: Design, margin: float) -> Measured:
    losses = {m: _last(results, design.drop_label([m]), "test_loss") for m in design.turning_points}
    middle = design.middle_turning_point
    excess = {f"{middle} over {m}": losses[middle] / loss - 1 for m, loss in losses.items() if m != middle}
    shown = "mean last test loss " + ", ".join(f"{m}: {loss.mean():.4f}" for m, loss in losses.items())
    return excess, shown if excess else "one turning point alone cannot be compared"


def _read_c8(results: Results, design: Design, margin: float) -> Measured:
    run = select_run(count_diverged(results.epochs), design.drop_label([design.middle_turning_point]))
    after = run[run["epoch"] > design.middle_turning_point].sort_values("epoch").groupby("seed")["test_loss"]
    if not len(after):
        return {}, "no epoch follows the drop"
    rise = (after.last() / after.min() - 1).to_numpy()
    return {"": rise <= margin}, f"mean rise {100 * rise.mean():.1f} %"


def _read_c9(results: Results, design: Design, margin: float) -> Measured:
    first, *others = design.milestones
    if not others or first not in design.turning_points:
        return {}, f"no run with the drop at {first} alone to compare with"
    with_it = _last(results, design.multistep_label, "test_loss")
    without = _last(results, design.drop_label([first]), "test_loss")
    shown = f"mean last test loss {with_it.mean():.4f} with it, {without.mean():.4f} without"
    return {"second drop": with_it / without - 1}, shown


def _read_c10(results: Results, design: Design, margin: None) -> Measured:
    lr = select_run(results.steps, design.onecycle_label).query("seed == 0").sort_values("step")["lr"].to_numpy()
    return {}, f"The smallest learning rate is {lr.min():.4g}, at step {lr.argmin() + 1:,} of {len(lr):,}"


def _read_c11(results: Results, design: Design, margin: float) -> Measured:
    epochs = count_diverged(results.epochs)
    one, multi = (
        select_run(epochs, label).groupby("seed")["test_loss"].apply(measure_roughness).to_numpy()
        for label in (design.onecycle_label, design.multistep_label)
    )
    shown = f"mean roughness {one.mean():.4f} (OneCycle), {multi.mean():.4f} (MultiStep)"
    with np.errstate(divide="ignore", invalid="ignore"):  # a curve without any rise has no ratio: inconclusive
        return {"log ratio": np.log(one / multi)}, shown


def _read_c12(results: Results, design: Design, margin: float) -> Measured:
    constant = {lr: _last(results, design.constant_label(lr)) for lr in design.learning_rates}
    best = max(constant, key=lambda lr: constant[lr].mean())
    schedules = {label: _last(results, label) for label in (design.multistep_label, design.onecycle_label)}
    shown = f"{best:g}: {100 * constant[best].mean():.2f} %, "
    shown += ", ".join(f"{label}: {100 * a.mean():.2f} %" for label, a in schedules.items())
    return {f"{best:g} minus {label}": constant[best] - a for label, a in schedules.items()}, shown


def _read_c13(results: Results, design: Design, margin: float) -> Measured:
    multi, one = (_last(results, label) for label in (design.multistep_label, design.onecycle_label))
    shown = f"MultiStep {100 * multi.mean():.2f} %, OneCycle {100 * one.mean():.2f} %"
    return {"MultiStep minus OneCycle": multi - one}, shown


_READERS = (
    _read_c1, _read_c2, _read_c3, _read_c4, _read_c5, _read_c6, _read_c7,
    _read_c8, _read_c9, _read_c10, _read_c11, _read_c12, _read_c13,
)  # fmt: skip
MEASURES: dict[str, Callable[..., Measured]] = dict(zip(RULES, _READERS, strict=True))
