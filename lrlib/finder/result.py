"""The result of a range test: losses, why each sweep stopped, suggestions, schedules, files and pictures."""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lrlib import suggest as heuristics
from lrlib.extras import need
from lrlib.finder import drawing
from lrlib.finder.checks import group_momenta, group_ratios
from lrlib.finder.refine import refined
from lrlib.finder.settings import Settings, whole
from lrlib.smoothing import Floats
from lrlib.suggest import Suggestion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

REACHED_END = "reached end_lr"  # how the stop_reason of a sweep begins that nothing ended before
Heuristic = str | Callable[[Floats, Floats], Suggestion]
HEURISTICS = ("suggest_lr", "steepest", "minimum_over_ten", "valley", "smith_bounds")
FORMAT = 3  # of saved results
MOMENTUM_SHARE = 0.5  # of the steps a decade, over which a momentum may average
NEXT = """\
apply: result.apply(optimizer), or OneCycleLR(optimizer, **result.one_cycle(total_steps))
see:   result.plot(path="range-test.png"), result.sweeps
other lengths of training: result.suggest(total_steps=10_000)"""


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the learning rates.

    lr, loss: float64 of shape (n_steps,), the learning rate that each step used and its training loss before the step;
    the last loss may be NaN or infinite. val_step: int64 of shape (n_val,), the steps (from 0) after which it was
    validated; val: float64 of shape (n_val,). seed: None of a history that lrlib.read has read. fault: why no learning
    rate can be read from it, where its curve does not say so itself.
    """

    seed: int | None
    lr: Floats
    loss: Floats
    val_step: NDArray[np.int64]
    val: Floats
    val_metric: str | None
    stop_reason: str
    fault: str | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("lr", np.float64), ("loss", np.float64), ("val_step", np.int64), ("val", np.float64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def curve(self) -> tuple[Floats, Floats]:
        """(lr, loss) that suggestions are read from: validation where there is any, accuracy as 1 - accuracy.

        Where a validated sweep diverged between two validations, its last loss is NaN.
        """
        if self.val_metric is None:
            return self.lr, self.loss
        step, val = self.val_step, 1 - self.val if self.val_metric == "accuracy" else self.val
        last = len(self.lr) - 1
        if not self.stop_reason.startswith(REACHED_END) and (len(step) == 0 or step[-1] < last):
            step, val = np.append(step, last), np.append(val, np.nan)
        return self.lr[step], val

    @property
    def diverged(self) -> bool:
        """Whether the loss diverged or was not finite."""
        finite = np.isfinite(self.loss).all() and np.isfinite(self.val).all()
        return not finite or "diverged" in self.stop_reason

    @cached_property
    def smoothed(self) -> Floats:
        """The training loss without its noise, float64 of shape (n_steps,)."""
        return heuristics.smooth(self.lr, self.loss)

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f" seed {self.seed}:"
        return f"<Sweep{seed} {len(self.lr)} steps, lr {self.lr[0]:.3g} to {self.lr[-1]:.3g}, {self.stop_reason}>"


class MedianCurve(NamedTuple):
    """The sweeps' smoothed curves in one, arrays of shape (n,): the median, the lowest and the highest of them."""

    lr: Floats
    loss: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, repr=False)
class RangeTestResult:
    """The sweeps of a range test, and what they suggest.

    holds: with refine, one Sweep at a constant learning rate for each that was held. versions: of lrlib, torch, numpy
    and Python.
    """

    sweeps: tuple[Sweep, ...]
    settings: Settings
    versions: dict[str, str]
    holds: tuple[Sweep, ...] = ()
    _suggested: dict[Any, Suggestion] = field(default_factory=dict, init=False)

    def suggest(self, heuristic: Heuristic = "suggest_lr", *, total_steps: int | None = None) -> Suggestion:
        """The median suggestion of the sweeps, with its spread.

        Args:
            heuristic: "suggest_lr", "steepest", "minimum_over_ten", "valley", "smith_bounds", or any function
                (lr, loss) -> Suggestion.
            total_steps: updates of the training to come, at least 1, for "suggest_lr"; the default is the length of a
                sweep.

        Returns:
            A Suggestion for any curves, computed once. With holds, "suggest_lr" reads them too.

        Raises:
            ValueError: the heuristic is unknown, or total_steps is given with another one or is below 1.
        """
        key, settings = (heuristic, total_steps), self.settings
        if key in self._suggested:
            return self._suggested[key]
        each, (first, *others) = self.suggest_each(heuristic, total_steps=total_steps), self.sweeps
        if others and all(np.array_equal(first.loss, other.loss, equal_nan=True) for other in others):
            counted = f"the {len(each)} sweeps saw identical batches; shuffle to get a spread"
            found = replace(each[0], reason=f"{each[0].reason} ({counted})")
        else:
            every = 1 if settings.val_metric is None else settings.val_every
            spacing = every * np.log10(settings.end_lr / settings.start_lr) / max(settings.num_iter - 1, 1)
            found = heuristics.combine(each, spacing_decades=float(spacing))
        if self.holds and found.heuristic == "suggest_lr":
            found = refined(found, first, self.holds, settings)
        if isinstance(heuristic, str):  # a function as a key could not be pickled
            self._suggested[key] = found
        return found

    def suggest_each(self, heuristic: Heuristic = "suggest_lr", *, total_steps: int | None = None) -> list[Suggestion]:
        """One Suggestion a sweep, in their order: a list. Arguments and errors are those of suggest."""
        rule: Any = heuristic
        if not callable(rule):
            if rule not in HEURISTICS:
                raise ValueError(f"heuristic must be one of {', '.join(HEURISTICS)}, got {heuristic!r}; choose one")
            rule = getattr(heuristics, rule)
        if total_steps is not None and rule is not heuristics.suggest_lr:
            raise ValueError(f"total_steps applies to suggest_lr, got it with {heuristic!r}; leave it out")
        length = self.settings.num_iter if total_steps is None else whole("total_steps", total_steps, 1)
        each = []
        for sweep in self.sweeps:
            lengths = {"total_steps": length, "sweep_steps": len(sweep.lr)} if rule is heuristics.suggest_lr else {}
            each.append(_judged(rule(*sweep.curve(), **lengths), sweep, self.settings))
        return each

    def apply(self, optimizer: Any, *, total_steps: int | None = None) -> Suggestion:
        """Set the suggested learning rate in the optimizer's groups, for a constant rate.

        The groups keep their ratios (timm's lr_scale included). Nothing is set if the suggestion is not reliable; a
        warning says so.

        Args:
            optimizer: with any number of groups.
            total_steps: updates of the training to come; see `suggest`.

        Returns:
            The suggestion.
        """
        suggestion = self.suggest(total_steps=total_steps)
        if not suggestion.reliable:
            warnings.warn(f"lr was not set: the suggestion is not reliable: {suggestion.reason}", stacklevel=2)
            return suggestion
        for group, ratio in zip(optimizer.param_groups, group_ratios(optimizer), strict=True):
            for key in ("lr", "initial_lr"):  # schedulers that are made later start from initial_lr where there is one
                if isinstance(group.get(key), Tensor):
                    group[key].fill_(suggestion.lr * ratio)
                elif key in group:
                    group[key] = suggestion.lr * ratio
        return suggestion

    def one_cycle(
        self, total_steps: int, *, optimizer: Any = None, div_factor: float = 20, heuristic: Heuristic = "suggest_lr"
    ) -> dict[str, Any]:
        """Keyword arguments for torch.optim.lr_scheduler.OneCycleLR(optimizer, **result.one_cycle(total_steps)).

        The peak is the suggestion's upper bound (Smith & Topin 2018), the start a twentieth of it (Smith 2018, "A
        disciplined approach"). Momentum m, if the optimizer has one, moves between 1 - 1.5 (1 - m) at the peak and
        1 - 0.5 (1 - m): for m = 0.9 these are torch's 0.85 and 0.95. For m = 0.99 torch's own bounds move the best peak
        tenfold, as lr / (1 - m) says (measured on a small MLP, 300 steps, one seed).

        Args:
            total_steps: updates of the training.
            optimizer: the one that the schedule is for, if its groups differ from those that were swept.
            div_factor: the peak over the first learning rate.
            heuristic: as in `suggest`.

        Returns:
            A dict; max_lr and the momentum bounds are lists where there are several groups. Warns if the suggestion is
            not reliable.
        """
        total_steps = whole("total_steps", total_steps, 1)
        lrs, momentum = self._for_a_schedule(heuristic, optimizer)
        return {"max_lr": lrs["upper"], "total_steps": total_steps, "div_factor": div_factor, **momentum}

    def cyclic(
        self, step_size_up: int, *, optimizer: Any = None, mode: str = "triangular", heuristic: Heuristic = "suggest_lr"
    ) -> dict[str, Any]:
        """Keyword arguments for torch.optim.lr_scheduler.CyclicLR(optimizer, **result.cyclic(step_size_up)).

        Between the suggestion's lower and upper bound (Smith 2015, section 3.3; section 3.2 there sets step_size_up to
        the steps of 2 to 10 epochs), with the momentum of `one_cycle`.

        Args:
            step_size_up: updates from the lower bound to the upper.
            mode: "triangular", "triangular2" or "exp_range".
            optimizer, heuristic: as in `one_cycle`.

        Returns:
            A dict. Warns if the suggestion is not reliable.
        """
        lrs, momentum = self._for_a_schedule(heuristic, optimizer)
        bounds = {"base_lr": lrs["lower"], "max_lr": lrs["upper"]}
        return {**bounds, "step_size_up": step_size_up, "mode": mode, **momentum}

    def warmup_cosine(
        self, total_steps: int, *, optimizer: Any = None, warmup: float = 0.05, heuristic: Heuristic = "suggest_lr"
    ) -> dict[str, Any]:
        """Keyword arguments for OneCycleLR(optimizer, **result.warmup_cosine(total_steps)): warm-up, cosine decay.

        The learning rate rises to the suggested lr and falls to nearly 0; the momentum stays. A cycle's peak would be
        too high for so long: the test loss of a small MLP was 2 and 11 % higher (momentum 0.9 and 0.99, one seed).

        Args:
            total_steps: updates of the training, at least 10.
            warmup: share of the steps in which the learning rate rises.
            optimizer, heuristic: as in `one_cycle`.

        Returns:
            A dict. Warns if the suggestion is not reliable.
        """
        total_steps = whole("total_steps", total_steps, 10)
        lrs, _ = self._for_a_schedule(heuristic, optimizer)
        made = {"max_lr": lrs["lr"], "total_steps": total_steps, "pct_start": max(warmup, 2 / total_steps)}
        return {**made, "div_factor": 25.0, "final_div_factor": 1e4, "cycle_momentum": False}

    @cached_property
    def median_curve(self) -> MedianCurve:
        """Median, lowest and highest of the sweeps' smoothed curves, up to where the first of them stopped."""
        curves = [sweep.curve() for sweep in self.sweeps]
        n_steps = min(len(lr) for lr, _ in curves)
        smoothed = np.array([heuristics.smooth(lr, loss)[:n_steps] for lr, loss in curves])
        known = np.isfinite(smoothed).all(axis=0)
        lr, smoothed = curves[0][0][:n_steps][known], smoothed[:, known]
        return MedianCurve(lr, np.median(smoothed, axis=0), smoothed.min(axis=0), smoothed.max(axis=0))

    @property
    def objective(self) -> str:
        """In words, what the suggestions are read from."""
        named = {None: "training loss", "loss": "validation loss", "accuracy": "1 - validation accuracy"}
        return named.get(self.settings.val_metric, str(self.settings.val_metric))

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a step: sweep, seed, step (from 0), lr, loss, smoothed, val (NaN where not validated)."""
        pd = need("pandas", what="a table")
        frames = []
        for number, sweep in enumerate(self.sweeps):
            columns = {"sweep": number, "seed": sweep.seed, "step": range(len(sweep.lr)), "lr": sweep.lr}
            frames.append(pd.DataFrame({**columns, "loss": sweep.loss, "smoothed": sweep.smoothed, "val": np.nan}))
            frames[-1].loc[sweep.val_step, "val"] = sweep.val
        return pd.concat(frames, ignore_index=True)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        path: str | os.PathLike[str] | None = None,
        marks: "Iterable[Suggestion | str | float] | Suggestion | str | float | None" = None,
    ) -> "Axes":
        """Draw the losses over the learning rate.

        Args:
            ax: matplotlib axes; a new figure's by default.
            path: where to save the picture.
            marks: suggestions, names of heuristics or learning rates to mark. The default is this result's own
                suggestion, if it is reliable.

        Returns:
            The axes.
        """
        if isinstance(ax, (str, os.PathLike)):
            raise TypeError(f"ax must be matplotlib axes, got {ax!r}; save the picture with plot(path={str(ax)!r})")
        marks = self.suggest() if marks is None else marks
        marks = [marks] if isinstance(marks, (Suggestion, str, int, float)) else marks
        named = [self.suggest(mark) if isinstance(mark, str) else mark for mark in marks]
        ax = drawing.draw_range_test(ax, self, named)
        if path is not None:
            figure: Any = ax.get_figure()
            figure.savefig(path, dpi=150)
        return ax

    def log(self, writer: Any) -> None:
        """Log the suggestion and the picture to an experiment tracker.

        Args:
            writer: a SummaryWriter of TensorBoard, the module mlflow, or a W&B run (or the module wandb).
        """
        drawing.log(self, writer)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a .json file, which is complete or not there. For CSV use to_dataframe().to_csv(path)."""
        path = _checked_path(path)
        temporary = path.with_name(f"{path.name}.{uuid4().hex}")
        try:
            temporary.write_text(self._to_json(), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RangeTestResult":
        """The result that save wrote to path: the same values, bit for bit. Raises ValueError for any other file."""
        text = _checked_path(path).read_text(encoding="utf-8")
        try:
            saved = json.loads(text)
            if saved["format"] != FORMAT:
                raise ValueError(f"{path} has format {saved['format']}, not {FORMAT}; use the lrlib that wrote it")
            settings = saved["settings"]
            settings.update({key: tuple(settings[key]) for key in ("group_ratios", "momentum")})
            sweeps, holds = (tuple(Sweep(**sweep) for sweep in saved[key]) for key in ("sweeps", "holds"))
            return cls(sweeps, Settings(**settings), saved["versions"], holds)
        except (KeyError, TypeError, IndexError, AttributeError, json.JSONDecodeError) as err:
            raise ValueError(f"{path} is not a result that save() wrote ({type(err).__name__}); save it again") from err

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeTestResult) and self._to_json() == other._to_json()

    def __repr__(self) -> str:
        return f"{in_words(self.suggest())}\n{NEXT}"

    def _repr_html_(self) -> str | None:
        return drawing.html_of(self)

    def _for_a_schedule(self, heuristic: Heuristic, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """lr, lower and upper for the groups, and the momentum's settings. Warns if the suggestion is not reliable."""
        suggestion, ratios, momenta = self.suggest(heuristic), self.settings.group_ratios, self.settings.momentum
        if not suggestion.reliable:
            warnings.warn(f"the suggested lr is not reliable: {suggestion.reason}", stacklevel=3)
        if optimizer is not None:
            ratios, momenta = group_ratios(optimizer), group_momenta(optimizer)
        lrs = {key: _each([getattr(suggestion, key) * ratio for ratio in ratios]) for key in ("lr", "lower", "upper")}
        if not any(momenta):
            return lrs, {"cycle_momentum": False}
        base, greatest = [max(0.0, 1 - 1.5 * (1 - m)) for m in momenta], [1 - 0.5 * (1 - m) for m in momenta]
        return lrs, {"cycle_momentum": True, "base_momentum": _each(base), "max_momentum": _each(greatest)}

    def _to_json(self) -> str:
        def listed(array: np.ndarray) -> list[float | str]:  # NaN and infinity as strings
            return [number if np.isfinite(number) else repr(number) for number in array.tolist()]

        saved = {**asdict(self), "format": FORMAT}
        del saved["_suggested"]
        return json.dumps(saved, allow_nan=False, default=listed)


def in_words(suggestion: Suggestion) -> str:
    """Three lines: the learning rate and for how many steps, the cycle, and whether to trust them."""
    return (
        f"suggested lr {suggestion.lr:.3g}, constant, for a training of about {suggestion.total_steps:,} steps\n"
        f"peak of a cycle {suggestion.upper:.3g}, base of cyclic() {suggestion.lower:.3g}\n"
        f"confidence {suggestion.confidence}: {suggestion.reason}"
    )


def _judged(suggestion: Suggestion, sweep: Sweep, settings: Settings) -> Suggestion:
    """The suggestion, with what the sweep knows and its curve does not show."""
    low = partial(replace, suggestion, confidence="low")
    if sweep.fault is not None:
        is_known = np.isfinite(sweep.loss[:1]).all()
        return low(reason=sweep.fault) if is_known else low(reason=sweep.fault, lr=np.nan, lower=np.nan, upper=np.nan)
    n_points, needed = int(np.isfinite(sweep.curve()[1]).sum()), heuristics.MIN_POINTS
    if sweep.val_metric is not None and n_points < needed:
        return low(reason=f"too few validations: {n_points} of at least {needed}; raise num_iter")
    # Momentum m averages over 1 / (1 - m) steps. In a sweep that moves far meanwhile the loss answers to a smaller lr:
    # 0.95 was read right at 43 steps a decade, 0.99 wrong by a factor of 7 to 13 either way.
    decades = np.log10(settings.end_lr / settings.start_lr)
    needed = int(np.ceil(settings.memory * decades / MOMENTUM_SHARE))
    if suggestion.reliable and needed > settings.num_iter:
        averaged = f"momentum {max(settings.momentum):g} averages over {settings.memory:.0f} steps"
        return low(reason=f"{averaged}: use num_iter={needed} or refine=True")
    if suggestion.confidence == "high" and (doubt := settings.overfits()) is not None:
        return replace(suggestion, confidence="medium", reason=doubt)
    return suggestion


def _each(values: list[float]) -> float | list[float]:
    """As torch's schedulers take it: a list where there are several parameter groups."""
    return values[0] if len(values) == 1 else values


def _checked_path(path: str | os.PathLike[str]) -> Path:
    if Path(path).suffix.lower() != ".json":
        raise ValueError(f"path must end in .json, got {path}; to_dataframe().to_csv() exports a table")
    return Path(path)
