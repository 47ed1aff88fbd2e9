"""The range test for what `accelerator.prepare` returns, in one process or several."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lrlib.finder.sweeps as sweeps
from lrlib.finder.restorers import of_dict
from lrlib.finder.result import RangeTestResult


def range_test(
    accelerator: Any, model: Any, optimizer: Any, loss_fn: Any = None, loader: Any = None, **settings: Any
) -> RangeTestResult:
    """Run lrlib.range_test with accelerator.backward, and restore the accelerator's own state too.

    Args:
        accelerator: the Accelerator. Its gradient accumulation does not apply; pass accumulation_steps.
        model, optimizer, loader: as accelerator.prepare returned them.
        loss_fn, settings: those of lrlib.range_test.

    Returns:
        The same RangeTestResult in every process; losses are means over processes.

    Example:
        >>> result = lrlib.peers.accelerate.range_test(accelerator, model, optimizer, loss_fn, loader)
    """
    with restored(accelerator):
        return sweeps.range_test(model, optimizer, loss_fn, loader, scaler=accelerator, **settings)


@contextmanager
def restored(accelerator: Any) -> Iterator[None]:
    """Restore which loader the accelerator is in, and let it synchronise gradients meanwhile."""
    restore = of_dict(vars(accelerator.gradient_state))
    accelerator.gradient_state._set_sync_gradients(True)
    try:
        yield
    finally:
        restore()
