"""Range tests of one model that differ in one setting."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lrlib.finder import drawing
from lrlib.finder.batches import with_batch_size
from lrlib.finder.result import RangeTestResult
from lrlib.finder.sweeps import range_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Overlay:
    """Range tests of one model that differ in one setting (Smith 2018, "A disciplined approach").

    parameter: its name. results: dict from its value to the RangeTestResult.
    """

    parameter: str
    results: dict[float, RangeTestResult]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw every result's smoothed median on the axes, a new figure's by default. Returns the axes."""
        ax = drawing.new_axes() if ax is None else ax
        drawing.draw_overlay(ax, {f"{self.parameter} = {v:g}": result for v, result in self.results.items()})
        return ax

    def __repr__(self) -> str:
        found = {value: result.suggest() for value, result in self.results.items()}
        return "\n".join(
            f"{self.parameter} = {value:g}: lr {s.lr:.3g}{'' if s.reliable else f' (NOT RELIABLE: {s.reason})'}"
            for value, s in found.items()
        )

    def _repr_html_(self) -> str | None:
        return drawing.html_of(self, repr(self))


def overlay(
    model: nn.Module,
    optimizer: Any,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    loader: Iterable[Any] | None = None,
    *,
    weight_decay: Iterable[float] | None = None,
    momentum: Iterable[float] | None = None,
    batch_size: Iterable[int] | None = None,
    **settings: Any,
) -> Overlay:
    """Run one range test for each value of one setting, all from the same state.

    Args:
        model, optimizer, loss_fn, loader: those of range_test.
        weight_decay: values, set in the parameter groups that have any; in all of them if none has.
        momentum: values, set as momentum, or as the first of the betas, in all groups.
        batch_size: values, with which the loader, a DataLoader, is built again: same dataset, sampler and workers.
        settings: those of range_test.

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
    groups = optimizer.param_groups
    key = parameter if parameter != "momentum" or "momentum" in groups[0] else "betas"
    before = [(group, group[key]) for group in groups if key in group]
    if parameter == "weight_decay":
        before = [entry for entry in before if entry[1]] or before
    if not before and parameter != "batch_size":
        raise ValueError(f"optimizer must have {parameter}, got {type(optimizer).__name__}; compare another setting")
    results = {}
    try:
        for value in values:
            for group, old in before:
                group[key] = (value, *old[1:]) if key == "betas" else value
            batches = with_batch_size(loader, value) if parameter == "batch_size" else loader
            results[value] = range_test(model, optimizer, loss_fn, batches, **settings)
    finally:
        for group, old in before:
            group[key] = old
    return Overlay(parameter, results)
