"""The claims of the reproduced report: read from claims.toml, measured on the runs, and judged.

A claim's rule, margin and words stand in claims.toml. Here a function a claim measures its statistic: one value a seed.
"""

import itertools
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrlib.reproduction import author, readings
from lrlib.reproduction.design import SGD_SWEEP, Design
from lrlib.reproduction.statistics import Estimate, estimate_mean, estimate_share
from lrlib.runs.results import Results
from lrlib.suggest import TurningPoints

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, ONE_SEED = "reproduced", "not reproduced", "inconclusive", "one seed"
NOTE = "note"  # in place of a verdict
RULES = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))
# The original's settings, as the claims' words name them.
LRS, TURNING_POINTS, MIDDLE = Design.learning_rates, Design.turning_points, 15
WORDS = {"epochs": 30, "learning_rates": "0.1, 0.01 and 0.001", "two_largest": "0.1 and 0.01"}
WORDS |= {"turning_points": "5, 15 and 25", "middle": MIDDLE}
# The settings that a claim is about: it is judged on the original's alone.
ABOUT = dict.fromkeys(("C4", "C5", "C12"), ["learning_rates"]) | dict.fromkeys(("C7", "C8"), ["turning_points"])
ABOUT["C6"] = ["learning_rates", "epochs"]

# What a claim's function returns: a name -> one value a seed for each comparison, and numbers to show beside.
Measured = tuple[dict[str, Any], str]


@dataclass(frozen=True)
class Tables:
    """The tables of some results, and the turning points of their range tests, each made once for all claims."""

    results: Results
    fall_fraction: float

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return readings.count_diverged(self.results.epochs)

    @cached_property
    def steps(self) -> pd.DataFrame:
        return self.results.steps

    @cached_property
    def turning_points(self) -> tuple[list[readings.Floats], list[TurningPoints]]:
        return readings.locate_turning_points(self.steps, SGD_SWEEP, self.fall_fraction)

    def curves(self, label: str, column: str = "test_loss") -> readings.Floats:
        """(n_seeds, n_epochs), in their order."""
        return readings.select_curves(self.epochs, label, column).to_numpy()

    def last(self, label: str, column: str = "test_accuracy") -> readings.Floats:
        return readings.select_last(self.epochs, label, column)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    verdict: "reproduced", "not reproduced", "inconclusive", "one seed", or "note" for C10. evidence: the numbers, as
    Markdown. estimates: name of a comparison -> its share, or its mean as a fraction.
    """

    id: str
    section: str
    claim: str
    verdict: str
    evidence: str
    estimates: dict[str, Estimate]


def judge(results: Results, design: Design, section: str = "") -> list[Verdict]:
    """Verdicts on the claims of a section of the original, such as "2.1", in order; of all claims for "".

    results: of the runs that they are about: the section's, or `design.all_runs()`.
    """
    tables = Tables(results, design.fall_fraction)
    return [judge_claim(id, tables, design) for id, rule in RULES.items() if section in ("", rule["section"])]


def judge_claim(id: str, tables: Tables, design: Design) -> Verdict:
    """The Verdict on one claim, such as "C1"; "inconclusive" without the runs that it is about."""
    if id not in MEASURES:
        raise ValueError(f"{id} has no measure: add it to MEASURES in lrlib/reproduction/claims.py")
    rule = RULES[id]
    claim = _fill(rule["words"], rule)
    about = ABOUT.get(id, []) + ["optimizer"] * (rule["section"] != "1")
    is_run = all(np.isin(getattr(Design, name), getattr(design, name)).all() for name in about)
    measure = MEASURES[id] if is_run else lambda *_: ({}, "not tested with these settings")
    measured, shown = measure(tables, design, rule.get("margin"))
    estimate = estimate_share if rule["rule"] == "most" else estimate_mean
    estimates = {name: estimate(values) for name, values in measured.items()}
    words = [_decide(found, *find_region(rule)) for found in estimates.values()] or [INCONCLUSIVE]
    said = [_describe(*each, rule, word) for each, word in zip(estimates.items(), words, strict=False)]
    verdict = min(words, key=(ONE_SEED, NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED).index)
    verdict = NOTE if rule["rule"] == NOTE else verdict
    return Verdict(id, rule["section"], claim, verdict, "; ".join([*said, shown]), estimates)


def find_region(rule: Mapping[str, Any]) -> tuple[float, float]:
    """Where the 95 % confidence interval of a rule's estimate must lie: between these two."""
    margin = rule.get("margin", 0.0)
    return {"most": (0.5, math.inf), "equal": (-margin, margin), "below": (-math.inf, margin)}[rule["rule"]]


def tabulate_rules() -> pd.DataFrame:
    """A row per claim: id, statistic, and when it counts as reproduced."""
    rows = []
    for id, rule in RULES.items():
        margin = f"{100 * rule.get('margin', 0.0):g} {rule.get('unit', '')}"
        said = {
            "most": "of the share is above 1/2",
            "equal": f"of the mean is within ± {margin}",
            "below": f"of the mean is below {margin if rule.get('margin') else 0}",
            "note": "no verdict",
        }
        rows.append((id, _fill(rule["statistic"], rule), said[rule["rule"]]))
    return pd.DataFrame(rows, columns=["id", "statistic", "reproduced if the 95 % CI"])


def _decide(found, low, high):
    if found.n == 1:
        return ONE_SEED
    if low < found.low and found.high < high:
        return REPRODUCED
    return NOT_REPRODUCED if found.high < low or found.low > high else INCONCLUSIVE


def _describe(name, found, rule, word):
    if rule["rule"] == "most":
        said = f"holds in {round(found.mean * found.n)} of {found.n} seed{'s' * (found.n > 1)}"
        interval = f" (95 % CI of the share {100 * found.low:.0f} to {100 * found.high:.0f} %)"
        return said + interval * (found.n > 1)
    scale, spec = {"points": (100, "+.2f points"), "%": (100, "+.1f %")}.get(rule["unit"], (1, "+.2f"))
    sign, unit = "± " * (rule["rule"] == "equal"), f" {rule['unit']}" * (scale == 100)
    limit = f", an interval that contains the limit of {sign}{scale * rule['margin']:g}{unit}" * (word == INCONCLUSIVE)
    return f"{name}: {found * scale:{spec}}{limit}"


def _fill(text, rule):
    return text.format(margin=rule.get("margin", 0.0), **WORDS).replace("%", " %").replace("  %", " %")


def _read_phases(tables: Tables, design: Design, margin: float) -> Measured:
    smoothed, points = tables.turning_points

    def has_three_phases(losses, turns):
        finite = losses[np.isfinite(losses)]
        level = abs(turns.loss_at_start / np.median(finite[: max(3, len(finite) // 100)]) - 1) <= margin
        rises = len(finite) < len(losses) or finite[-1] >= 2 * turns.loss_at_lowest
        return level and turns.loss_at_lowest <= 0.5 * turns.loss_at_start and rises

    held = [has_three_phases(*pair) for pair in zip(smoothed, points, strict=True)]
    levels = np.median([(p.loss_at_start, p.loss_at_lowest) for p in points], axis=0)
    return {"": held}, f"smoothed loss {levels[0]:.2f} at first and {levels[1]:.3f} at its lowest (medians)"


def _read_turning_point(tables: Tables, design: Design, margin: float, *, name: str, expected: float) -> Measured:
    _, points = tables.turning_points
    lrs = np.array([getattr(point, name) for point in points])
    spread = f", {lrs.min():.2g} to {lrs.max():.2g}" if len(lrs) > 1 else ""
    return {"": np.abs(np.log10(lrs / expected)) <= margin}, f"median {np.median(lrs):.2g}{spread}"


def _read_falls(tables: Tables, design: Design, margin: float) -> Measured:
    ratios = {}
    for lr in LRS:
        curves = [tables.curves(design.constant_label(lr), column) for column in ("train_loss", "test_loss")]
        ratios[lr] = np.max([losses[:, -1] / losses[:, 0] for losses in curves], axis=0)
    shown = ", ".join(f"{lr:g}: {np.median(ratio):.2f}" for lr, ratio in ratios.items())
    return {"": np.max(list(ratios.values()), axis=0) <= 1 - margin}, f"last over first loss, median: {shown}"


def _read_speed(tables: Tables, design: Design, margin: float) -> Measured:
    losses = [tables.curves(design.constant_label(lr))[:, :5].mean(axis=1) for lr in LRS]
    ratios = [larger / smaller for larger, smaller in itertools.pairwise(losses)]
    shown = ", ".join(f"{lr:g}: {loss.mean():.3f}" for lr, loss in zip(LRS, losses, strict=True))
    return {"": np.max(ratios, axis=0) <= 1 - margin}, f"mean test loss of the first five epochs: {shown}"


def _read_two_largest(tables: Tables, design: Design, margin: float) -> Measured:
    return _compare_accuracies(tables, {f"{lr:g}": design.constant_label(lr) for lr in LRS[:2]})


def _read_middle(tables: Tables, design: Design, margin: float) -> Measured:
    losses = {m: tables.last(design.drop_label([m]), "test_loss") for m in TURNING_POINTS}
    excess = {f"{MIDDLE} over {m}": losses[MIDDLE] / loss - 1 for m, loss in losses.items() if m != MIDDLE}
    return excess, "mean last test loss " + ", ".join(f"{m}: {loss.mean():.4f}" for m, loss in losses.items())


def _read_rise(tables: Tables, design: Design, margin: float) -> Measured:
    after = tables.curves(design.drop_label([MIDDLE]))[:, MIDDLE:]
    rise = after[:, -1] / after.min(axis=1) - 1
    return {"": rise <= margin}, f"mean rise {100 * rise.mean():.1f} %"


def _read_second_drop(tables: Tables, design: Design, margin: float) -> Measured:
    first, *others = design.milestones
    if not others or first not in design.turning_points:
        return {}, f"no run with the drop at {first} alone to compare with"
    with_it = tables.last(design.multistep_label, "test_loss")
    without = tables.last(design.drop_label([first]), "test_loss")
    shown = f"mean last test loss {with_it.mean():.4f} with it, {without.mean():.4f} without"
    return {"second drop": with_it / without - 1}, shown


def _read_smallest_lr(tables: Tables, design: Design, margin: None) -> Measured:
    steps = readings.select_run(tables.steps, design.onecycle_label).sort_values(["seed", "step"])
    lr = steps[steps["seed"] == steps["seed"].iloc[0]]["lr"].to_numpy()
    return {}, f"The smallest learning rate is {lr.min():.4g}, at step {lr.argmin() + 1:,} of {len(lr):,}"


def _read_roughness(tables: Tables, design: Design, margin: float) -> Measured:
    labels = (design.onecycle_label, design.multistep_label)
    one, multi = (readings.measure_roughness(tables.curves(label)) for label in labels)
    shown = f"mean roughness {one.mean():.4f} (OneCycle), {multi.mean():.4f} (MultiStep)"
    with np.errstate(divide="ignore", invalid="ignore"):  # a curve without any rise has no ratio: inconclusive
        return {"log ratio": np.log(one / multi)}, shown


def _read_best_constant(tables: Tables, design: Design, margin: float) -> Measured:
    best = max(LRS, key=lambda lr: tables.last(design.constant_label(lr)).mean())
    schedules = {label: label for label in (design.multistep_label, design.onecycle_label)}
    return _compare_accuracies(tables, {f"{best:g}": design.constant_label(best)} | schedules)


def _read_schedules(tables: Tables, design: Design, margin: float) -> Measured:
    return _compare_accuracies(tables, {"MultiStep": design.multistep_label, "OneCycle": design.onecycle_label})


def _compare_accuracies(tables, labels):
    """The last test accuracy of the first of some runs, name -> label, minus that of each other."""
    accuracies = {name: tables.last(label) for name, label in labels.items()}
    (first, ours), *others = accuracies.items()
    shown = ", ".join(f"{name}: {100 * values.mean():.2f} %" for name, values in accuracies.items())
    return {f"{first} minus {name}": ours - values for name, values in others}, shown


MEASURES: dict[str, Callable[..., Measured]] = {
    "C1": _read_phases,
    "C2": partial(_read_turning_point, name="lowest", expected=author.LOWEST_LR),
    "C3": partial(_read_turning_point, name="start_of_fall", expected=author.START_OF_FALL_LR),
    "C4": _read_falls,
    "C5": _read_speed,
    "C6": _read_two_largest,
    "C7": _read_middle,
    "C8": _read_rise,
    "C9": _read_second_drop,
    "C10": _read_smallest_lr,
    "C11": _read_roughness,
    "C12": _read_best_constant,
    "C13": _read_schedules,
}
