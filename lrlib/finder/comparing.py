"""Range tests of one model that differ in one setting."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from lrlib.extras import need
from lrlib.finder import drawing
from lrlib.finder.batches import with_batch_size
from lrlib.finder.result import Heuristic, RangeTestResult
from lrlib.finder.step import Optimizer
from lrlib.finder.sweeps import range_test

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Overlay:
    """Range tests of one model that differ in one setting (Smith 2018, "A disciplined approach").

    parameter: its name. results: dict from its value to the RangeTestResult.
    """

    parameter: str
    results: dict[float, RangeTestResult]

    def suggestions(self, heuristic: Heuristic = "suggest_lr") -> "pd.DataFrame":
        """DataFrame, a row a value: the parameter, the fields of Suggestion, and lowest_loss of the median curve."""
        pd = need("pandas", what="a table")
        rows = []
        for value, result in self.results.items():
            lowest = result.median_curve.loss.min(initial=np.inf)
            rows.append({self.parameter: value, **asdict(result.suggest(heuristic)), "lowest_loss": lowest})
        return pd.DataFrame(rows)

    def to_dataframe(self) -> "pd.DataFrame":
        """The results' to_dataframe(), one below the other, with the parameter's value in a first column."""
        pd = need("pandas", what="a table")
        frames = {value: result.to_dataframe() for value, result in self.results.items()}
        return pd.concat(frames, names=[self.parameter]).reset_index(level=0).reset_index(drop=True)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw every result's smoothed median on the axes, a new figure's by default. Returns the axes."""
        ax = drawing.new_axes() if ax is None else ax
        drawing.draw_overlay(ax, {f"{self.parameter} = {v:g}": result for v, result in self.results.items()})
        return ax

    def __repr__(self) -> str:
        lines = []
        for value, result in self.results.items():
            found = result.suggest()
            doubt = "" if found.reliable else f" (NOT RELIABLE: {found.reason})"
            lines.append(f"{self.parameter} = {value:g}: lr {found.lr:.3g}{doubt}")
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        return drawing.html_of(self, repr(self))


def overlay(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    loader: Iterable[Any] | None = None,
    *,
    weight_decay: Iterable[float] | None = None,
    momentum: Iterable[float] | None = None,
    batch_size: Iterable[int] | None = None,
    **settings: Any,
) -> Overlay:
    """One range test for each value of one setting, all from the same state (Smith 2018, "A disciplined approach").

    Args:
        model, optimizer, loss_fn, loader, settings: those of range_test.
        weight_decay: values, set in the parameter groups that have any; in all of them if none has.
        momentum: values, set as momentum, or as the first of the betas, in all groups.
        batch_size: values, with which the loader, a DataLoader, is built again: same dataset, sampler and workers.

    Returns:
        An Overlay. Everything is restored.

    Raises:
        ValueError: not exactly one of the three is given, or the optimizer does not have it.
    """
    given: dict[str, Any] = {"weight_decay": weight_decay, "momentum": momentum, "batch_size": batch_size}
    given = {name: list(values) for name, values in given.items() if values is not None}
    if len(given) != 1 or not all(given.values()):
        raise ValueError(f"overlay takes values of one of weight_decay, momentum, batch_size, got {given or 'none'}")
    [(parameter, values)] = given.items()
    results = {}
    for value in values:
        if parameter == "batch_size":
            results[value] = range_test(model, optimizer, loss_fn, with_batch_size(loader, value), **settings)
            continue
        before = _hyperparameters(optimizer, parameter)
        try:
            for group, key, old in before:
                group[key] = (value, *old[1:]) if key == "betas" else value
            results[value] = range_test(model, optimizer, loss_fn, loader, **settings)
        finally:
            for group, key, old in before:
                group[key] = old
    return Overlay(parameter, results)


def _hyperparameters(optimizer: Any, name: str) -> list[tuple[dict[str, Any], str, Any]]:
    """[(group, key, value now)] of the groups in which overlay sets a new value."""
    groups = optimizer.param_groups
    key = name if name == "weight_decay" or name in groups[0] else "betas"
    found = [(group, key, group[key]) for group in groups if key in group]
    if name == "weight_decay":
        found = [entry for entry in found if entry[2]] or found
    if not found:
        raise ValueError(f"optimizer must have {name}, got {type(optimizer).__name__}; compare another setting")
    return found
