"""What a range test found: losses, why it stopped, suggestions, files and pictures."""

import base64
import html
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrlib import suggest as heuristics
from lrlib.finder.drawing import finish, plot_medians, plot_range_test
from lrlib.finder.extras import need
from lrlib.finder.files import Columns, ending_of, from_text, to_text, write_whole
from lrlib.suggest import Suggestion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
REACHED_END = "reached end_lr"  # how the stop_reason of a sweep begins that nothing ended before
Heuristic = Callable[[Floats, Floats], Suggestion]


@dataclass(frozen=True)
class Settings:
    """How the sweeps were made; the names are those of range_test. None: not known of a history that lrlib.read reads.

    group_ratios: each parameter group's lr over that of the first group above 0, whose lr the curves show.
    cycles_momentum: whether the optimizer has a momentum that a cyclical schedule can cycle.
    fresh_weights: whether each sweep began from weights of its own (init_fn).
    num_rates: of a staircase; None of another sweep. look_steps: updates of the look that chose the ends, 0 without.
    val_metric: "loss", "accuracy", a function's name, or None without val_loader.
    """

    start_lr: float
    end_lr: float
    num_iter: int
    step_mode: str
    smooth_f: float | None
    diverge_th: float | None
    accumulation_steps: int
    max_spread_decades: float
    val_metric: str | None
    val_every: int
    autocast_dtype: str | None
    device: str | None
    optimizer: str
    group_ratios: tuple[float, ...]
    cycles_momentum: bool
    fresh_weights: bool
    clip_norm: float | None = None
    clip_value: float | None = None
    num_rates: int | None = None
    look_steps: int = 0


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the learning rates.

    lr, loss: float64 of shape (n_steps,), the rate that each step used and its training loss before the step;
    the last loss may be NaN or infinite. val_step: int64 of shape (n_val,), the steps (from 0) after which the
    model was validated; val: float64 of shape (n_val,). seconds: of the steps alone, without keeping state.
    In a staircase a step is a rate, and its loss the mean over the last quarter of the updates for which it was held.
    seed, seconds: None of a history that lrlib.read has read.
    """

    seed: int | None
    lr: Floats
    loss: Floats
    val_step: NDArray[np.int64]
    val: Floats
    val_metric: str | None
    stop_reason: str
    seconds: float | None

    def __post_init__(self) -> None:
        for name, dtype in (("lr", np.float64), ("loss", np.float64), ("val_step", np.int64), ("val", np.float64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def curve(self) -> tuple[Floats, Floats]:
        """(lr, loss) that suggestions are read from: validation where there is any, accuracy as 1 - accuracy.

        Where a sweep that is validated stopped between two validations, NaN stands at its last rate: the training
        exploded there.
        """
        if self.val_metric is None:
            return self.lr, self.loss
        step, val = self.val_step, 1 - self.val if self.val_metric == "accuracy" else self.val
        last = len(self.lr) - 1
        if not self.stop_reason.startswith(REACHED_END) and (len(step) == 0 or step[-1] < last):
            step, val = np.append(step, last), np.append(val, np.nan)
        return self.lr[step], val

    @property
    def smoothed(self) -> Floats:
        """The training loss without its noise, float64 of shape (n_steps,)."""
        return heuristics.smooth(self.lr, self.loss)


@dataclass(frozen=True, eq=False)
class RangeTestResult:
    """The sweeps of a range test, and what they suggest.

    seconds_state: time spent keeping the training state and putting it back, apart from the sweeps.
    versions: of lrlib, torch, numpy and Python.
    """

    sweeps: tuple[Sweep, ...]
    settings: Settings
    versions: dict[str, str]
    seconds_state: float | None

    def suggest(self, heuristic: Heuristic = heuristics.suggest_lr, *, total_steps: int | None = None) -> Suggestion:
        """The median suggestion of the sweeps, with its spread in decades: a Suggestion, whatever the curves look like.

        heuristic: a function of lrlib.suggest, or any (lr, loss) -> Suggestion.
        total_steps: updates of the training to come: lr is for a constant rate held for so many, and lower the longer
            it is; upper is for the peak of one cycle of so many, lower for its base. Without it lr is for a training as
            long as a sweep. For suggest_lr alone, whose docstring says how.
        Raises ValueError if total_steps is below 1 or below the sweeps' own num_iter, or given with another heuristic.
        """
        each = self.suggest_each(heuristic, total_steps=total_steps)
        if len(each) > 1 and self._identical():
            counted = f"the {len(each)} sweeps are identical, their data came in one order: they count as one"
            return replace(each[0], reason=f"{each[0].reason} ({counted})")
        return heuristics.combine(each, max_spread_decades=self.settings.max_spread_decades)

    def suggest_each(
        self, heuristic: Heuristic = heuristics.suggest_lr, *, total_steps: int | None = None
    ) -> list[Suggestion]:
        """One Suggestion a sweep, in their order: a list. Arguments and errors are those of suggest."""
        if total_steps is not None:
            if heuristic is not heuristics.suggest_lr:
                raise ValueError(
                    f"total_steps must be given with suggest_lr alone, got {total_steps!r} with "
                    f"{getattr(heuristic, '__name__', heuristic)}; other rules do not know how long a training is"
                )
            heuristics.check_total_steps(total_steps, self.settings.num_iter)
            heuristic = partial(heuristics.suggest_lr, total_steps=total_steps, sweep_steps=self.settings.num_iter)
        return [self._with_val_every(heuristic(*sweep.curve()), sweep) for sweep in self.sweeps]

    def one_cycle(
        self, *, total_steps: int, div_factor: float = 20, heuristic: Heuristic = heuristics.suggest_lr
    ) -> dict[str, Any]:
        """Keyword arguments for torch.optim.lr_scheduler.OneCycleLR(optimizer, **result.one_cycle(total_steps=...)).

        The peak is the suggestion's upper bound (Smith & Topin 2018), the start a twentieth of it (Smith 2018,
        "A disciplined approach": a tenth to a twentieth). One max_lr a parameter group, in the optimizer's ratios.
        Momentum is cycled only where the optimizer uses one. Warns if the suggestion is not reliable.
        """
        suggestion = self._suggestion_or_warning(heuristic)
        return {
            "max_lr": self._per_group(suggestion.upper),
            "total_steps": total_steps,
            "div_factor": div_factor,
            "cycle_momentum": self.settings.cycles_momentum,
        }

    def cyclic(
        self, *, step_size_up: int, mode: str = "triangular", heuristic: Heuristic = heuristics.suggest_lr
    ) -> dict[str, Any]:
        """Keyword arguments for torch.optim.lr_scheduler.CyclicLR(optimizer, **result.cyclic(step_size_up=...)).

        Between the suggestion's lower and upper bound (Smith 2015, section 3.3; section 3.2 there sets step_size_up to
        the steps of 2 to 10 epochs). One base_lr and max_lr a parameter group, in the optimizer's ratios. Warns if
        the suggestion is not reliable.
        """
        suggestion = self._suggestion_or_warning(heuristic)
        return {
            "base_lr": self._per_group(suggestion.lower),
            "max_lr": self._per_group(suggestion.upper),
            "step_size_up": step_size_up,
            "mode": mode,
            "cycle_momentum": self.settings.cycles_momentum,
        }

    def median_curve(self) -> "pd.DataFrame":
        """The sweeps' smoothed curves in one: DataFrame lr, median_loss, least, greatest, n_sweeps, a row a step.

        Where some sweeps have stopped, it is over those that have not.
        """
        pd = need("pandas", what="a table", extra="plot")
        curves = [sweep.curve() for sweep in self.sweeps]
        longest = max(curves, key=lambda curve: len(curve[0]))[0]
        smoothed = np.full((len(curves), len(longest)), np.nan)
        for row, (lr, loss) in zip(smoothed, curves, strict=True):
            row[: len(loss)] = heuristics.smooth(lr, loss)
        reached = np.isfinite(smoothed).any(axis=0)
        smoothed = smoothed[:, reached]
        return pd.DataFrame(
            {
                "lr": longest[reached],
                "median_loss": np.nanmedian(smoothed, axis=0),
                "least": np.nanmin(smoothed, axis=0, initial=np.inf),
                "greatest": np.nanmax(smoothed, axis=0, initial=-np.inf),
                "n_sweeps": np.isfinite(smoothed).sum(axis=0),
            }
        )

    @property
    def objective(self) -> str:
        """In words, what the suggestions are read from."""
        named = {None: "training loss", "loss": "validation loss", "accuracy": "1 - validation accuracy"}
        return named.get(self.settings.val_metric, str(self.settings.val_metric))

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a step: sweep, seed, step (from 0), lr, loss, smoothed, val (NaN where not validated)."""
        pd = need("pandas", what="a table", extra="plot")
        frames = []
        for number, sweep in enumerate(self.sweeps):
            n_steps = len(sweep.lr)
            val = np.full(n_steps, np.nan)
            val[sweep.val_step] = sweep.val
            columns = {"sweep": number, "seed": sweep.seed, "step": np.arange(n_steps), "lr": sweep.lr}
            frames.append(pd.DataFrame({**columns, "loss": sweep.loss, "smoothed": sweep.smoothed, "val": val}))
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: "Axes | None" = None, *, marks: Iterable[Suggestion] | None = None) -> "Axes":
        """Draw the curves on the axes, a new figure's unless given, and return them.

        marks: the suggestions to mark; this result's own unless given.
        """
        if ax is None:
            plt = need("matplotlib.pyplot", what="a plot", extra="plot")
            _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        median = self.median_curve()
        suggestions = [self.suggest()] if marks is None else list(marks)
        plot_range_test(ax, [sweep.curve() for sweep in self.sweeps], median, suggestions)
        return finish(ax, [median], objective=self.objective, log=self.settings.step_mode != "linear")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to path, whose ending says how: .json, or .csv with everything but the steps in a first comment line.

        The file is complete or not there: it is written under another name first.
        """
        write_whole(path, to_text(ending_of(path), self._head(), self._columns()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RangeTestResult":
        """The result that save wrote to path: the same values, to the bit.

        Raises ValueError if the file is not one that save wrote.
        """
        text = Path(path).read_text(encoding="utf-8")
        try:
            return cls._from_parts(*from_text(ending_of(path), text))
        except (KeyError, TypeError, IndexError, json.JSONDecodeError) as err:
            raise ValueError(
                f"{path} must be a range test that save() wrote, got something else; save it again"
            ) from err

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeTestResult) and to_text("json", self._head(), self._columns()) == to_text(
            "json", other._head(), other._columns()
        )

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def __repr__(self) -> str:
        settings, suggestion = self.settings, self.suggest()
        swept = (
            f"{settings.start_lr:.3g} to {settings.end_lr:.3g}, {settings.step_mode}, up to {settings.num_iter} steps"
        )
        counted = "1 sweep" if len(self.sweeps) == 1 else f"{len(self.sweeps)} sweeps"
        lines = [f"Range test of {settings.optimizer}: {counted}, lr {swept}", _in_words(suggestion)]
        seeds = ["" if sweep.seed is None else f" (seed {sweep.seed})" for sweep in self.sweeps]
        unit = "steps" if settings.num_rates is None else "rates"
        lines += [f"sweep {i}{seeds[i]}: {len(s.lr)} {unit}, {s.stop_reason}" for i, s in enumerate(self.sweeps)]
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        return _page(self)

    def _with_val_every(self, suggestion: Suggestion, sweep: Sweep) -> Suggestion:
        """The suggestion, its reason naming val_every where the sweep was validated too rarely to be read."""
        n_points, needed = int(np.isfinite(sweep.curve()[1]).sum()), heuristics.MIN_POINTS
        if sweep.val_metric is None or n_points >= needed or self.settings.val_every == 1:
            return suggestion
        reason = (
            f"too few validations: {n_points}, and it takes {needed}; use a val_every below {self.settings.val_every}, "
            "or more steps"
        )
        return replace(suggestion, reliable=False, reason=reason)

    def _identical(self) -> bool:
        first = self.sweeps[0]
        return all(np.array_equal(first.loss, sweep.loss, equal_nan=True) for sweep in self.sweeps[1:])

    def _per_group(self, lr: float) -> float | list[float]:
        lrs = [lr * ratio for ratio in self.settings.group_ratios]
        return lrs[0] if len(lrs) == 1 else lrs

    def _suggestion_or_warning(self, heuristic: Heuristic) -> Suggestion:
        suggestion = self.suggest(heuristic)
        if not suggestion.reliable:
            warnings.warn(f"the suggested lr is not reliable: {suggestion.reason}", stacklevel=3)
        return suggestion

    def _head(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "versions": self.versions,
            "seconds_state": self.seconds_state,
            "sweeps": [{"seed": s.seed, "stop_reason": s.stop_reason, "seconds": s.seconds} for s in self.sweeps],
        }

    def _columns(self) -> list[Columns]:
        return [(s.lr.tolist(), s.loss.tolist(), s.val_step.tolist(), s.val.tolist()) for s in self.sweeps]

    @classmethod
    def _from_parts(cls, head: dict[str, Any], columns: list[Columns]) -> "RangeTestResult":
        settings = Settings(**{**head["settings"], "group_ratios": tuple(head["settings"]["group_ratios"])})
        sweeps = [
            Sweep(
                seed=saved["seed"],
                lr=np.array(lr, dtype=np.float64),
                loss=np.array(loss, dtype=np.float64),
                val_step=np.array(val_step, dtype=np.int64),
                val=np.array(val, dtype=np.float64),
                val_metric=settings.val_metric,
                stop_reason=saved["stop_reason"],
                seconds=saved["seconds"],
            )
            for saved, (lr, loss, val_step, val) in zip(head["sweeps"], columns, strict=True)
        ]
        return cls(tuple(sweeps), settings, head["versions"], head["seconds_state"])


@dataclass(frozen=True, eq=False)
class Overlay:
    """Range tests of one model that differ in one setting (Smith 2018, "A disciplined approach").

    parameter: its name. results: dict from its value to the RangeTestResult.
    """

    parameter: str
    results: dict[float, RangeTestResult]

    def suggestions(self, heuristic: Heuristic = heuristics.suggest_lr) -> "pd.DataFrame":
        """DataFrame, a row a value: the parameter, the fields of Suggestion, and lowest_loss of the median curve."""
        pd = need("pandas", what="a table", extra="plot")
        return pd.DataFrame(
            [
                {
                    self.parameter: value,
                    **asdict(result.suggest(heuristic)),
                    "lowest_loss": result.median_curve().median_loss.min(),
                }
                for value, result in self.results.items()
            ]
        )

    def to_dataframe(self) -> "pd.DataFrame":
        """The results' to_dataframe(), one below the other, with the parameter's value in a first column."""
        pd = need("pandas", what="a table", extra="plot")
        frames = {value: result.to_dataframe() for value, result in self.results.items()}
        return pd.concat(frames, names=[self.parameter]).reset_index(level=0).reset_index(drop=True)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw every result's smoothed median on the axes, a new figure's unless given. Returns the axes."""
        if ax is None:
            plt = need("matplotlib.pyplot", what="a plot", extra="plot")
            _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        curves = {f"{self.parameter} = {value:g}": result.median_curve() for value, result in self.results.items()}
        plot_medians(ax, curves)
        *_, last = self.results.values()
        return finish(ax, list(curves.values()), objective=last.objective, log=last.settings.step_mode != "linear")

    def __repr__(self) -> str:
        lines = [
            f"{self.parameter} = {value:g}: {_in_words(result.suggest())}" for value, result in self.results.items()
        ]
        return "\n  ".join([f"Range tests over {self.parameter}", *lines])

    def _repr_html_(self) -> str:
        return _page(self)


def _in_words(suggestion: Suggestion) -> str:
    spread = "" if suggestion.spread_decades is None else f", spread {suggestion.spread_decades:.2f} decades"
    verdict = "reliable" if suggestion.reliable else "NOT RELIABLE"
    bounds = f"{suggestion.lower:.3g} to {suggestion.upper:.3g}"
    return f"suggested lr = {suggestion.lr:.3g} ({bounds}){spread}; {verdict}: {suggestion.reason}"


def _page(shown: RangeTestResult | Overlay) -> str:
    """HTML of a result or an overlay: its first line, its picture, its other lines."""
    figure = need("matplotlib.figure", what="a picture", extra="plot").Figure(figsize=(7, 4), layout="constrained")
    shown.plot(figure.add_subplot())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    description = html.escape(repr(shown))
    summary, *lines = description.split("\n  ")
    items = "".join(f"<li>{line}</li>" for line in lines)
    picture = f'<img alt="{description}" src="data:image/png;base64,{data}">'
    return f"<div><p><b>{summary}</b></p>{picture}<ul>{items}</ul></div>"
