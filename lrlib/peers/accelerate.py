"""The range test of what Accelerate has prepared, in one process or several. Accelerate is not imported."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lrlib.finder.result import RangeTestResult
from lrlib.finder.sweeps import range_test as sweep


def range_test(
    accelerator: Any,
    model: nn.Module,
    optimizer: Any,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    train_loader: Iterable[Any],
    **settings: Any,
) -> RangeTestResult:
    """lrlib.range_test with accelerator.backward; each process calls it, and each gets the same result.

    model, optimizer, train_loader: as accelerator.prepare gave them. settings: those of lrlib.range_test. Gradients are
    not accumulated inside as accelerator.accumulate does: give accumulation_steps. The accelerator's own record of the
    loader that it is in, which a sweep leaves in the middle, is put back too.
    """
    state = accelerator.gradient_state
    loaders = list(state.dataloader_references)
    synchronised = state.sync_gradients
    state._set_sync_gradients(True)
    try:
        result = sweep(model, optimizer, loss_fn, train_loader, scaler=accelerator, **settings)
    finally:
        state.dataloader_references = loaders
        state._set_sync_gradients(synchronised)
    name = type(getattr(optimizer, "optimizer", optimizer)).__name__  # what prepare() has wrapped
    return replace(result, settings=replace(result.settings, optimizer=name))
