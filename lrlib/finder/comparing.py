"""Range tests of one model that differ in one setting."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lrlib.finder import drawing
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
        ax, results = ax or drawing.new_axes(), list(self.results.values())
        for i, (value, result) in enumerate(self.results.items()):
            curve = result.median_curve
            ax.plot(curve.lr, curve.loss, color=f"C{i}", label=f"{self.parameter} = {value:g}")
            ax.fill_between(curve.lr, curve.low, curve.high, color=f"C{i}", alpha=0.15, linewidth=0)
        drawing.frame(ax, results, f"Range tests of {results[0].settings.optimizer}")
        ax.legend(fontsize="small")
        return ax

    def __repr__(self) -> str:
        lines = []
        for value, result in self.results.items():
            found = result.suggest()
            doubt = "" if found.reliable else f" (NOT RELIABLE: {found.reason})"
            lines.append(f"{self.parameter} = {value:g}: lr {found.lr:.3g}{doubt}")
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        return drawing.html_of(self)


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
        batch_size: values, set in the batch sampler of the loader, a DataLoader.
        settings: those of range_test.

    Returns:
        An Overlay. Everything is restored.

    Raises:
        ValueError: not exactly one of the three is given, or the optimizer or loader does not have it.
    """
    given: dict[str, Any] = {"weight_decay": weight_decay, "momentum": momentum, "batch_size": batch_size}
    given = {name: list(values) for name, values in given.items() if values is not None}
    if len(given) != 1 or not all(given.values()):
        raise ValueError(f"overlay takes values of one of weight_decay, momentum, batch_size, got {given or 'none'}")
    [(parameter, values)] = given.items()
    owners = optimizer.param_groups
    if parameter == "batch_size":
        owners = [getattr(getattr(loader, "batch_sampler", None), "__dict__", {})]
    key = "betas" if parameter == "momentum" and "momentum" not in owners[0] else parameter
    before = [(owner, owner[key]) for owner in owners if key in owner]
    if parameter == "weight_decay":
        before = [entry for entry in before if entry[1]] or before
    if not before:
        owner = type(loader if parameter == "batch_size" else optimizer).__name__
        raise ValueError(f"{parameter} must be a setting of the optimizer or DataLoader, got {owner}; compare another")
    results = {}
    try:
        for value in values:
            for owner, old in before:
                owner[key] = (value, *old[1:]) if key == "betas" else value
            results[value] = range_test(model, optimizer, loss_fn, loader, **settings)
    finally:
        for owner, old in before:
            owner[key] = old
    return Overlay(parameter, results)
