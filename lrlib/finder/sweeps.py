"""The learning-rate range test for anyone's model, optimizer and loader."""

import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrlib.finder.batches import without_end
from lrlib.finder.checks import (
    check_gradients,
    check_loader,
    check_model,
    check_step,
    check_validation,
    group_momenta,
    group_ratios,
)
from lrlib.finder.one_sweep import OneSweep, Sweep
from lrlib.finder.randomness import seed_everything
from lrlib.finder.refine import hold
from lrlib.finder.restore import Snapshot
from lrlib.finder.result import RangeTestResult
from lrlib.finder.settings import MIN_ITER, Settings
from lrlib.finder.step import Training, plain_step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a notebook without ipywidgets
    from tqdm.auto import tqdm

VAL_BATCHES = 8


def range_test(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    loader: Iterable[Any] | None = None,
    *,
    step_fn: Callable[[Any], Tensor] | None = None,
    start_lr: float = Settings.start_lr,
    end_lr: float = Settings.end_lr,
    num_iter: int = Settings.num_iter,
    repeats: int = Settings.repeats,
    refine: bool = Settings.refine,
    seed: int = Settings.seed,
    diverge_th: float | None = Settings.diverge_th,
    max_seconds: float | None = Settings.max_seconds,
    accumulation_steps: int = Settings.accumulation_steps,
    clip_norm: float | None = Settings.clip_norm,
    scaler: Any = None,
    val_loader: Iterable[Any] | None = None,
    val_metric: str | Callable[[Any], Any] = "loss",
    extra_state: Sequence[Any] = (),
    progress: bool = True,
) -> RangeTestResult:
    """Train for a few steps while the learning rate rises, `repeats` times from the same state, and restore everything.

    Afterwards model, optimizer, random state and loader are bit-identical to before, even after an exception or Ctrl-C.
    State that cannot be restored raises an error that names it; lrlib.finder.restore.Snapshot lists what is covered.

    Args:
        model: a torch.nn.Module on any device; in eval mode it is swept in train mode.
        optimizer: any torch optimizer whose step() needs no closure. Its parameter groups keep their ratios.
        loss_fn: loss_fn(outputs, targets) -> scalar, for batches of (inputs, targets). A tuple, list or dict of inputs
            is unpacked into the model's arguments. None with step_fn.
        loader: any re-iterable of batches, restarted when exhausted. Tensors are moved to the device of the model's
            first parameter. Shuffling gives every sweep another order.

        step_fn: step_fn(batch) -> scalar loss, instead of loss_fn, for any other forward pass. Backward and the update
            are done by range_test. For mixed precision put torch.autocast into it, or around the call.

        start_lr, end_lr: first and last learning rate, of the first parameter group whose lr is not 0. Step k uses
            start_lr * (end_lr / start_lr) ** (k / (num_iter - 1)), whatever a scheduler does meanwhile.
        num_iter: updates a sweep, at least 10. The cost is repeats * num_iter updates.
        repeats: sweeps. They give the suggestion its spread.
        refine: make one sweep, then hold three to five learning rates for (repeats - 1) * num_iter // 5 updates each,
            from the same state with the same batches. For the same cost the suggestion is better, above all for
            fine-tuning and for a momentum near 1.
        seed: sweep r starts with seed + r, for Python, NumPy, torch and the loader's generators.
        diverge_th: a sweep stops when the running mean of the loss exceeds diverge_th times its lowest value. Near or
            below zero the noise of the first losses is the scale. None stops at NaN and infinity only.
        max_seconds: no further update starts after so many seconds. Complete sweeps count.

        accumulation_steps: batches an update; the loss is their mean.
        clip_norm: largest gradient norm of an update.
        scaler: a torch.amp.GradScaler; or an Accelerator or Fabric, whose backward(loss) is called.

        val_loader: if given, suggestions are read from it: its first 8 batches, about 30 times a sweep.
        val_metric: "loss", "accuracy" (outputs (N, classes)), or a function (batch) -> number to be minimised.

        extra_state: a list of what else training changes, with attributes or a state_dict. Modules, optimizers,
            schedulers and moving averages that step_fn, loss_fn, val_metric or a hook uses are found without it.
        progress: show a bar with lr and loss in terminals and notebooks.

    Returns:
        A RangeTestResult: print(result), result.suggest(), result.apply(optimizer), result.plot().

    Raises:
        TypeError, ValueError: input that cannot work, in one sentence, before the first step.
        Exception: any exception of your code, with a note of the step. Only where the loss, an output or a parameter is
            no longer finite does an exception end the sweep; it is raised if no sweep has 10 finite losses.

    Example:
        >>> result = lrlib.range_test(model, optimizer, loss_fn, loader)
        >>> result.apply(optimizer)

        A step of your own:

        >>> def step_fn(batch):
        ...     return model(**batch).loss
        >>> result = lrlib.range_test(model, optimizer, loader=loader, step_fn=step_fn)
        >>> schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, **result.one_cycle(total_steps=10_000))

    In several processes (DDP, FSDP) each calls it at the same place. Losses are means over them, and all return the
    same result.

    References:
        Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
    """
    check_model(model, optimizer)
    check_step(loss_fn, step_fn, loader)
    check_validation(val_loader, val_metric, loss_fn)
    check_loader("loader", loader)
    if val_loader is not None:
        check_loader("val_loader", val_loader)
    settings = Settings(
        start_lr=start_lr,
        end_lr=end_lr,
        num_iter=num_iter,
        repeats=repeats,
        refine=refine,
        seed=seed,
        diverge_th=diverge_th,
        max_seconds=max_seconds,
        accumulation_steps=accumulation_steps,
        clip_norm=clip_norm,
        val_metric=None if val_loader is None else _name_of(val_metric),
        optimizer=type(optimizer).__name__,
        group_ratios=group_ratios(optimizer)[0],
        momentum=group_momenta(optimizer),
        passes=_passes(loader, num_iter, accumulation_steps),
    ).checked()
    check_gradients(model, optimizer, scaler=scaler, clip_norm=settings.clip_norm)
    assert loader is not None
    training = Training(
        model=model,
        optimizer=optimizer,
        loss_of=step_fn or plain_step(model, loss_fn),
        settings=settings,
        scaler=scaler,
        val_metric=val_metric,
    )
    functions = [function for function in (step_fn, val_metric) if callable(function)]
    loaders = [each for each in (loader, val_loader) if each is not None]
    began = time.perf_counter()
    with Snapshot(
        model, optimizer, scaler=scaler, loss_fn=loss_fn, extra_state=extra_state, functions=functions, loaders=loaders
    ) as state:
        sweeps, holds = _sweep(training, state, loader, val_loader, progress=progress, began=began)
    seconds_state = time.perf_counter() - began - sum(sweep.seconds or 0 for sweep in [*sweeps, *holds])
    return training.ranks.of_first(
        RangeTestResult(tuple(sweeps), settings, _versions(), seconds_state, holds=tuple(holds))
    )


def _sweep(
    training: Training, state: Snapshot, loader: Any, val_loader: Any, *, progress: bool, began: float
) -> tuple[list[Sweep], list[Sweep]]:
    """All sweeps and holds, each from the same state, which is left to be restored."""
    settings, ranks = training.settings, training.ranks
    seed_everything(settings.seed, state.generators)
    val_subset = [] if val_loader is None else list(islice(val_loader, VAL_BATCHES))
    del val_subset[ranks.least(len(val_subset)) :]  # with DDP as many forward passes everywhere
    if val_loader is not None and not val_subset:
        raise ValueError("val_loader must yield at least one batch, got none; check its dataset and drop_last")

    def begin(repeat: int) -> Iterator[Any]:
        """A sweep's first state, and its batches."""
        seed = settings.seed + repeat
        seed_everything(seed, state.generators)
        return without_end(loader, epoch=seed % 2**31, epochs_apart=settings.repeats)

    deadline = began + (settings.max_seconds or math.inf)
    total = settings.repeats * settings.num_iter
    is_shown = progress and ranks.rank == 0 and _is_interactive()
    sweeps: list[Sweep] = []
    holds: list[Sweep] = []
    errors: list[Exception] = []
    with tqdm(total=total, desc=f"range test, up to {total} steps", unit="step", disable=not is_shown) as bar:
        for repeat in range(1 if settings.refine else settings.repeats):
            if repeat > 0:
                state.restore()
            sweep = OneSweep(training, bar, seed=settings.seed + repeat, deadline=deadline)
            made = sweep.run(partial(begin, repeat), val_subset)
            if sweep.is_late and sweeps:
                break
            sweeps.append(made)
            errors += [] if sweep.error is None else [sweep.error]
            if sweep.is_late:
                break
            bar.update((repeat + 1) * settings.num_iter - bar.n)
        if settings.refine and not sweep.is_late and np.isfinite(made.loss).sum() >= MIN_ITER:

            def run(lr: float) -> Sweep | None:
                state.restore()
                one = OneSweep(training, bar, seed=settings.seed, deadline=deadline, lrs=[lr] * settings.hold_steps)
                held = one.run(partial(begin, 0), val_subset)
                return None if one.is_late else held

            holds = hold(run, made, settings)
        bar.update(total - bar.n)
    if errors and not any(np.isfinite(sweep.loss).sum() >= MIN_ITER for sweep in sweeps):
        errors[0].add_note(f"range_test: no sweep got anywhere; the first: {sweeps[0].stop_reason}")
        raise errors[0]
    if any(not sweep.diverged and sweep.fault is None for sweep in sweeps):
        _check_effect(training, state)
    return sweeps, holds


def _check_effect(training: Training, state: Snapshot) -> None:
    """Raise ValueError if the first update does not depend on the learning rate."""

    def parameters() -> list[tuple[float, float]]:
        values = [p.detach().double() for group in training.optimizer.param_groups for p in group["params"]]
        return [(float(value.sum()), float(value.norm())) for value in values]

    found = []
    for lr in (training.settings.start_lr, training.settings.end_lr):
        state.restore()
        before = parameters()
        seed_everything(training.settings.seed)
        with training.watched():
            try:
                training.update(iter(training.first_batches), lr)
            except Exception:  # at end_lr anything may fail, which is an effect
                return
        found.append(parameters())
    if found[0] == found[1] != before:
        raise ValueError(
            f"the learning rate has no effect on {type(training.optimizer).__name__}: its first update is the same at "
            f"lr {training.settings.start_lr:g} and {training.settings.end_lr:g}; turn off the learning rate that it "
            "makes itself"
        )


def _passes(loader: Any, num_iter: int, accumulation_steps: int) -> float:
    """How often a sweep goes over the loader; 1 if that has no length."""
    try:
        return num_iter * accumulation_steps / len(loader)
    except (TypeError, NotImplementedError, ZeroDivisionError):
        return 1.0


def _is_interactive() -> bool:
    """Whether a progress bar would be seen as one: in a terminal or a notebook, not in a log file."""
    in_notebook = any("notebook" in cls.__module__ for cls in tqdm.__mro__)
    return in_notebook or bool(getattr(sys.stderr, "isatty", bool)())


def _name_of(val_metric: Any) -> str:
    if isinstance(val_metric, str):
        return val_metric
    name = getattr(val_metric, "__name__", type(val_metric).__name__)
    return f"function {name}"  # so that a user's function named accuracy is not taken for ours


def _versions() -> dict[str, str]:
    found = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    try:
        return {"lrlib": version("lrlib"), **found}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return found
