"""The learning-rate range test for anyone's model, optimizer and loader."""

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lrlib.finder.batches import with_batch_size, without_end
from lrlib.finder.checks import (
    MIN_ITER,
    base_rates,
    check_gradients,
    check_loader,
    check_optimizer,
    check_settings,
    check_step,
)
from lrlib.finder.look import look_around
from lrlib.finder.one_sweep import READ_EVERY as READ_EVERY
from lrlib.finder.one_sweep import READ_EVERY_ELSEWHERE as READ_EVERY_ELSEWHERE
from lrlib.finder.one_sweep import OneSweep
from lrlib.finder.randomness import seed_everything
from lrlib.finder.ranks import Ranks
from lrlib.finder.restore import kept
from lrlib.finder.result import Overlay, RangeTestResult, Settings
from lrlib.finder.step import Optimizer, Training, device_of, plain_step, sharded_root

VALIDATIONS = 30  # of a sweep, unless told


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    train_loader: Iterable[Any],
    *,
    val_loader: Iterable[Any] | None = None,
    start_lr: float | None = 1e-6,
    end_lr: float | None = 10,
    num_iter: int = 300,
    step_mode: str = "exp",
    num_rates: int = 20,
    smooth_f: float = 0.05,
    diverge_th: float = 5,
    accumulation_steps: int = 1,
    repeats: int = 3,
    seed: int = 0,
    init_fn: Callable[[Any], Any] | None = None,
    step_fn: Callable[[Any], Tensor] | None = None,
    val_every: int | None = None,
    val_batches: int = 8,
    val_metric: str | Callable[[Any], Any] = "loss",
    scaler: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    backward_fn: Callable[[Tensor], Any] | None = None,
    autocast_dtype: torch.dtype | None = None,
    also: Sequence[Any] = (),
    device: torch.device | str | None = None,
    offload: str | None = None,
    max_spread_decades: float = 0.5,
    progress: bool = True,
) -> RangeTestResult:
    """Train for a few steps at a rising learning rate, from the same state `repeats` times, and put everything back.

    Afterwards all that can be reached from model, optimizer, loss_fn, scaler and also, the random state, and the state
    of the loaders are to the bit what they were, also after an exception or Ctrl-C, and so they are before each sweep.
    What cannot be put back (an iterator, a container that is not Python's) is refused by name before the first step;
    the docstring of lrlib.finder.restore.kept says it all. Cost: repeats * num_iter steps.

    model: a torch.nn.Module; if its root is in eval mode it is swept in train mode, else each submodule keeps its
        mode. optimizer: any torch optimizer whose step() needs no closure.
    loss_fn(outputs, targets) -> scalar loss, for batches of (inputs, targets); inputs that are a tuple, a list or a
        mapping are spread over the model's arguments, a PackedSequence is one. May be None with step_fn.
    train_loader: any iterable of batches that can be iterated again, also one that begins again and returns itself; it
        is, where it is shorter than the sweep. A DataLoader that shuffles gives every sweep another order.
    step_fn(batch) -> scalar loss: any other forward pass (dict batches, several losses); batches are on the device
        already. Backward and update are done here.

    start_lr, end_lr: the first and the last rate, of the first parameter group whose lr is above 0; the other groups
        keep their ratio to it, and those at 0 are frozen and stay so. Where all are at 0, as a warm-up scheduler
        begins, the ratios are those of initial_lr. start_lr None is the optimizer's own rate where end_lr is given.
        end_lr None, with start_lr None or a number: a first coarse look, in at most 65 updates, finds where the
        loss falls and explodes, and what was not given is taken from it, so that the sweeps spend their steps there;
        where the look shows neither, 1e-6 and 10. It is made and undone like a sweep; settings.look_steps is its cost.
        Worth it where the scale of model or loss is unknown. Where 1e-6 to 10 holds the curve it gains nothing: a
        ramp with more steps a decade falls earlier, and so is read lower.
    num_iter: updates a sweep, at least 10; step_mode: "exp", "linear" or "staircase". In "exp" the rate of update k is
        start_lr * (end_lr / start_lr) ** (k / (num_iter - 1)). In "staircase" there are num_rates of them, as far
        apart as in "exp", and each is held for num_iter // num_rates updates from the sweep's first state, with the
        same batches: a ramp's late rates profit from its early ones, held rates do not. Its loss is the mean over the
        last quarter of these updates; validation comes after them.
    smooth_f, diverge_th: a sweep stops where the running mean of the loss (weight smooth_f on the newest,
        bias-corrected; 0: no mean) is above diverge_th * best. Where best is below a tenth of what the loss has
        lost, that tenth takes its place in the margin, so that a loss near or below zero does not stop at once.
        NaN and infinity stop too, and so does an exception that the explosion brings about (the loss has risen or is
        not finite, or weights are not or are far off): stop_reason names it. It comes out where no sweep got anywhere.
    accumulation_steps: batches an update; the loss is their mean.
    repeats: sweeps; sweep r is seeded with seed + r (Python, NumPy, torch, the loaders' generators).
    init_fn(model): called after seeding, to begin each sweep from weights of its own.
    val_loader: if given, suggestions are read from it: its first val_batches batches, fixed for all sweeps, every
        val_every updates; None validates about thirty times a sweep. val_metric: "loss" (loss_fn, or step_fn, in eval
        mode), "accuracy" (argmax over the last dimension), or a function (batch) -> number to be made small. Means
        are over samples, not batches: graphs, sequences, and images in lists are counted as such.
    scaler: a torch.amp.GradScaler. clip_norm, clip_value: at most one; gradients are clipped to that norm, or each
        of their values to it, of the whole update, unscaled, before the optimizer's step. Its step_pre_hooks
        see gradients that are unscaled and clipped.
    backward_fn(loss): takes the place of loss.backward(), for example accelerator.backward; not with a scaler.
    autocast_dtype: for example torch.bfloat16; None leaves autocast as it is outside.
    also: a list of further modules, optimizers, schedulers that a step_fn steps, and any object with state_dict and
        load_state_dict (a GAN's other half, a moving average of the weights), kept like the model. Those that
        step_fn, val_metric, backward_fn, init_fn or a hook use are found by themselves; attached schedulers need no
        mention.
    device: where batches go; None is the device of the model's first parameter.
    offload: None keeps the one copy of model and optimizer state in memory, "disk" in a temporary file.
    Several processes (torch.distributed initialised: DDP, FSDP) all call this at the same place: losses and metrics are
        means over them, all stop at the same step and return one result; where one raises, all do, those of a sharded
        model at the group's timeout if that was in a backward pass. Whatever has
        set_epoch (DistributedSampler) gets an epoch of its own for every pass, and afterwards its own back.
    max_spread_decades: sweeps that disagree by more make the suggestion unreliable.

    Returns a RangeTestResult. Raises ValueError or TypeError, one sentence, for input that cannot work; any other
    exception of the user's code passes through with a note of the step and the batch.
    """
    check_settings(
        start_lr=start_lr,
        end_lr=end_lr,
        num_iter=num_iter,
        step_mode=step_mode,
        num_rates=num_rates,
        val_every=val_every,
        smooth_f=smooth_f,
        diverge_th=diverge_th,
        clip_norm=clip_norm,
        clip_value=clip_value,
        counts={
            "accumulation_steps": accumulation_steps,
            "repeats": repeats,
            "val_every": 1 if val_every is None else val_every,
            "val_batches": val_batches,
        },
    )
    check_step(loss_fn, step_fn, val_loader, val_metric)
    check_optimizer(model, optimizer)
    check_gradients(
        optimizer,
        scaler=scaler,
        backward_fn=backward_fn,
        clips=clip_norm is not None or clip_value is not None,
        sharded=sharded_root(model) is not None,
    )
    check_loader("train_loader", train_loader)

    groups, rates = optimizer.param_groups, base_rates(optimizer)
    first_rate = next(rate for rate in rates if rate > 0)
    if end_lr is not None:
        start_lr = first_rate if start_lr is None else start_lr
    if end_lr is not None and start_lr is not None and not start_lr < end_lr:
        raise ValueError(
            f"start_lr must be below end_lr, got {start_lr} and {end_lr}; give start_lr, or a larger end_lr"
        )
    device = torch.device(device) if device is not None else device_of(model)
    ranks = Ranks(device)
    is_staircase = step_mode == "staircase"
    settings = Settings(
        start_lr=math.nan if start_lr is None else float(start_lr),
        end_lr=math.nan if end_lr is None else float(end_lr),
        num_iter=num_iter,
        step_mode=step_mode,
        smooth_f=float(smooth_f),
        diverge_th=float(diverge_th),
        accumulation_steps=accumulation_steps,
        max_spread_decades=float(max_spread_decades),
        val_metric=None if val_loader is None else _name_of(val_metric),
        val_every=1 if is_staircase else val_every or max(1, num_iter // VALIDATIONS),
        autocast_dtype=None if autocast_dtype is None else str(autocast_dtype),
        device=str(device),
        optimizer=type(optimizer).__name__,
        group_ratios=tuple(rate / first_rate for rate in rates),
        cycles_momentum=any(group.get("momentum") or group.get("betas") for group in groups),
        fresh_weights=init_fn is not None,
        clip_norm=None if clip_norm is None else float(clip_norm),
        clip_value=None if clip_value is None else float(clip_value),
        num_rates=num_rates if is_staircase else None,
    )
    training = Training(
        model=model,
        optimizer=optimizer,
        loss_of=step_fn or plain_step(model, loss_fn),
        settings=settings,
        scaler=scaler,
        backward_fn=backward_fn,
        autocast_dtype=autocast_dtype,
        device=device,
        val_metric=val_metric,
        ranks=ranks,
    )

    loaders = [loader for loader in (train_loader, val_loader) if loader is not None]
    sweeps, errors = [], []
    began = time.perf_counter()
    with (
        training.replicas,
        kept(
            model,
            optimizer,
            scaler=scaler,
            loss_fn=loss_fn,
            also=also,
            functions=[f for f in (step_fn, backward_fn, val_metric, init_fn) if callable(f)],
            loaders=loaders,
            offload=offload,
        ) as state,
    ):
        seed_everything(seed, state.generators)
        val_subset = [] if val_loader is None else list(islice(val_loader, val_batches))
        del val_subset[ranks.least(len(val_subset)) :]  # with DDP as many forward passes everywhere
        if val_loader is not None and not val_subset:
            raise ValueError("val_loader must give at least one batch, got none; check its dataset and drop_last")

        def begin(repeat: int) -> Iterator[Any]:
            """A sweep's first state, and its batches."""
            seed_everything(seed + repeat, state.generators)
            if init_fn is not None:
                init_fn(model)
            if not model.training:
                model.train()
            return without_end(train_loader, epoch=(seed + repeat) % 2**31, epochs_apart=repeats)

        with tqdm(
            total=repeats * num_iter, desc="range test", unit="step", disable=not progress or ranks.rank > 0
        ) as bar:
            if end_lr is None:
                settings = training.settings = look_around(
                    training, state, partial(begin, 0), bar, start_lr=start_lr, seed=seed
                )
                bar.update(-bar.n)
            for repeat in range(repeats):
                if repeat > 0:
                    state.put_back()
                sweep = OneSweep(training, state, bar)
                sweeps.append(sweep.run(partial(begin, repeat), val_subset, seed=seed + repeat))
                errors += [] if sweep.error is None else [sweep.error]
                bar.update((repeat + 1) * num_iter - bar.n)
        if errors and not any(np.isfinite(sweep.loss).sum() >= MIN_ITER for sweep in sweeps):
            errors[0].add_note(f"range_test: no sweep got anywhere; the first: {sweeps[0].stop_reason}")
            raise errors[0]
    seconds_state = time.perf_counter() - began - sum(sweep.seconds or 0 for sweep in sweeps)
    return ranks.of_first(RangeTestResult(tuple(sweeps), settings, _versions(), seconds_state))


def overlay(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    train_loader: Iterable[Any],
    *,
    weight_decay: Iterable[float] | None = None,
    momentum: Iterable[float] | None = None,
    batch_size: Iterable[int] | None = None,
    **range_test_settings: Any,
) -> Overlay:
    """One range test for each value of one setting, all from the same state (Smith 2018, "A disciplined approach").

    Give the values of exactly one:
    weight_decay: set in the parameter groups that have any; in all of them if none has.
    momentum: set as momentum, or as the first of the betas, in all groups.
    batch_size: the train_loader, then a DataLoader, is built again with it: same dataset, sampler and workers.
    The other arguments are range_test's. Everything is afterwards what it was before. Returns an Overlay.
    """
    given: dict[str, Any] = {"weight_decay": weight_decay, "momentum": momentum, "batch_size": batch_size}
    given = {name: values for name, values in given.items() if values is not None}
    if len(given) != 1:
        raise ValueError(
            "overlay takes values of exactly one of weight_decay, momentum, batch_size, "
            f"got {list(given) or 'none'}; call it once for each"
        )
    [(parameter, values)] = given.items()
    values = list(values)
    if not values:
        raise ValueError(f"{parameter} must hold at least one value, got none; give those to compare")
    results = {}
    for value in values:
        if parameter == "batch_size":
            loader = with_batch_size(train_loader, value)
            results[value] = range_test(model, optimizer, loss_fn, loader, **range_test_settings)
            continue
        before = _hyperparameters(optimizer, parameter)
        try:
            for group, key, old in before:
                group[key] = (value, *old[1:]) if key == "betas" else value
            results[value] = range_test(model, optimizer, loss_fn, train_loader, **range_test_settings)
        finally:
            for group, key, old in before:
                group[key] = old
    return Overlay(parameter, results)


def _name_of(val_metric: Any) -> str:
    if isinstance(val_metric, str):
        return val_metric
    name = getattr(val_metric, "__name__", type(val_metric).__name__)
    return f"function {name}"  # so that a user's function named accuracy is not taken for ours


def _hyperparameters(optimizer: Any, name: str) -> list[tuple[dict[str, Any], str, Any]]:
    """[(group, key, value now)] of the groups in which overlay sets a new value."""
    groups = optimizer.param_groups
    if name == "momentum":
        key = "momentum" if "momentum" in groups[0] else "betas"
        found = [(group, key, group[key]) for group in groups if key in group]
    else:
        found = [(group, name, group[name]) for group in groups if name in group]
        found = [entry for entry in found if entry[2]] or found
    if not found:
        raise ValueError(
            f"optimizer must have {name} to sweep over it, got {type(optimizer).__name__}; choose another setting"
        )
    return found


def _versions() -> dict[str, str]:
    found = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    try:
        return {"lrlib": version("lrlib"), **found}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return found
