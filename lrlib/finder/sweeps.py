"""The learning-rate range test for anyone's model, optimizer and loader."""

import math
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lrlib
from lrlib.finder import checks
from lrlib.finder.batches import tensors_of, without_end
from lrlib.finder.refine import FACTOR, first_lr, next_exponent, read_hold
from lrlib.finder.restore import Snapshot
from lrlib.finder.restorers import seed_everything
from lrlib.finder.result import REACHED_END, RangeTestResult, Sweep
from lrlib.finder.settings import MAX_HOLDS, MIN_ITER, Settings
from lrlib.finder.step import Training
from lrlib.smoothing import read_curve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a notebook without ipywidgets
    from tqdm.auto import tqdm

VAL_BATCHES = 8
SMOOTH_F = 0.05  # weight of the newest loss in the running mean that tells divergence
N_START = 20  # losses from which the noise is estimated; with fewer, a sweep ends only if one is not finite


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
            start_lr * (end_lr / start_lr) ** (k / (num_iter - 1)), also if a scheduler is stepped meanwhile.
        num_iter: updates a sweep, at least 10. The cost is repeats * num_iter updates.
        repeats: sweeps. They give the suggestion its spread.
        refine: make one sweep, then hold three to five learning rates for (repeats - 1) * num_iter // 5 updates each,
            from the same state with the same batches. For the same cost the suggestion is better, above all for
            fine-tuning and for a momentum near 1.
        seed: sweep r starts with seed + r, for Python, NumPy, torch and the loader's generators.
        diverge_th: a sweep stops when the running mean of the loss exceeds diverge_th times its lowest value. Near or
            below zero the noise of the first losses is the scale. None stops at NaN and infinity only.
        max_seconds: after this time no further update starts. Complete sweeps count.

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
    checks.check_model(model, optimizer)
    checks.check_step(loss_fn, step_fn)
    checks.check_validation(val_loader, val_metric, loss_fn)
    checks.check_loader("loader", loader)
    if val_loader is not None:
        checks.check_loader("val_loader", val_loader)
    name = getattr(val_metric, "__name__", type(val_metric).__name__)
    metric = val_metric if isinstance(val_metric, str) else f"function {name}"  # a user's accuracy is not ours
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
        val_metric=None if val_loader is None else metric,
        optimizer=type(optimizer).__name__,
        group_ratios=checks.group_ratios(optimizer),
        momentum=checks.group_momenta(optimizer),
        passes=_passes(loader, num_iter, accumulation_steps),
    ).checked()
    checks.check_gradients(model, optimizer, scaler=scaler, clip_norm=settings.clip_norm)
    training = Training(model, optimizer, loss_fn, step_fn, settings, scaler, val_metric)
    deadline = time.perf_counter() + (settings.max_seconds or math.inf)
    total = settings.repeats * settings.num_iter
    # disable=None: shown in a terminal or a notebook, not in a log file.
    shown = {"unit": "step", "disable": None if progress and training.ranks.rank == 0 else True}
    with (
        Snapshot(model, optimizer, scaler, loss_fn, extra_state, (step_fn, val_metric), (loader, val_loader)) as state,
        tqdm(total=total, desc=f"range test, up to {total} steps", **shown) as bar,
    ):
        sweeps, holds = Runner(training, state, loader, val_loader, bar, deadline).run_all()
    versions = {each.__name__: each.__version__ for each in (lrlib, torch, np)} | {"python": platform.python_version()}
    return RangeTestResult(tuple(sweeps), settings, versions, tuple(holds))


@dataclass
class Runner:
    """Makes sweeps and holds, each from the same state, until max_seconds are over."""

    training: Training
    state: Snapshot
    loader: Any
    val_loader: Any
    bar: Any
    deadline: float
    is_late: bool = False  # max_seconds were over
    errors: list[Exception] = field(default_factory=list)  # that ended a sweep

    def run_all(self) -> tuple[list[Sweep], list[Sweep]]:
        """All sweeps and holds. The state is left to be restored."""
        training, settings = self.training, self.training.settings
        seed_everything(settings.seed, self.state.generators)
        self.val_subset = [] if self.val_loader is None else list(islice(self.val_loader, VAL_BATCHES))
        # DDP needs the same number of forward passes in all processes.
        del self.val_subset[int(training.ranks.reduce(len(self.val_subset), operation="MIN")[0]) :]
        if self.val_loader is not None and not self.val_subset:
            raise ValueError("val_loader must yield at least one batch, got none; check its dataset and drop_last")

        share = np.arange(settings.num_iter) / (settings.num_iter - 1)
        rising = settings.start_lr * (settings.end_lr / settings.start_lr) ** share
        rising = rising[rising <= np.finfo(np.float32).max]
        sweeps, holds = list[Sweep](), list[Sweep]()
        for repeat in range(1 if settings.refine else settings.repeats):
            sweep = self.run(settings.seed + repeat, rising.tolist())
            if not (self.is_late and sweeps):
                sweeps.append(sweep)
            if self.is_late:
                break
            self.bar.update((repeat + 1) * settings.num_iter - self.bar.n)
        are_usable = [np.isfinite(sweep.loss).sum() >= MIN_ITER for sweep in sweeps]
        if settings.refine and are_usable[0] and np.isfinite(sweeps[0].curve()[1]).any() and not self.is_late:
            holds = self.hold(sweeps[0])
        self.bar.update(self.bar.total - self.bar.n)
        if self.errors and not any(are_usable):
            self.errors[0].add_note(f"range_test: no sweep got anywhere; the first: {sweeps[0].stop_reason}")
            raise self.errors[0]
        if any(not sweep.diverged and sweep.fault is None for sweep in sweeps):
            _check_effect(training, self.state)
        return sweeps, holds

    def run(self, seed: int, lrs: list[float]) -> Sweep:
        """One pass over the learning rates. Raises the user's exceptions, except one after a divergence."""
        training, settings = self.training, self.training.settings
        self.state.restore()
        seed_everything(seed, self.state.generators)
        batches = without_end(self.loader, epoch=seed % 2**31, epochs_apart=settings.repeats)
        watch, losses, val = Watch(settings.diverge_th), list[float](), dict[int, float]()
        with training.watched():
            for step, lr in enumerate(lrs):
                is_last = step + 1 == len(lrs)
                try:
                    losses.append(training.update(batches, lr))
                    self.bar.set_postfix_str(f"lr {lr:.2g}, loss {losses[-1]:.3g}", refresh=False)
                    self.bar.update()
                    reason = watch.stop_reason(losses[-1], lr)
                    if self.val_subset and reason is None and (is_last or (step + 1) % settings.val_every == 0):
                        val[step] = training.validate(self.val_subset)
                        if not math.isfinite(val[step]):
                            reason = f"the validation {settings.val_metric} was {val[step]} at lr {lr:.3g}"
                except Exception as err:
                    reason = self._divergence(err, step, lr)
                    self.errors.append(err)
                    if len(losses) == step:
                        losses.append(math.nan)
                    else:  # it was raised in the validation
                        val[step] = math.nan
                if reason is None and self.deadline < math.inf and not is_last:
                    self.is_late = training.ranks.reduce(time.perf_counter() > self.deadline)[0] > 0
                    reason = f"max_seconds ended it at lr {lr:.3g}" if self.is_late else None
                if reason is not None:
                    break
        fault = None  # why no learning rate can be read from this sweep, if its curve does not say so itself
        if not math.isfinite(losses[0]):
            fault = f"the loss is {losses[0]} before any update: check the model, the loss and the data"
        elif len(losses) <= training.n_skipped:
            fault = "the GradScaler skipped every update, so nothing was trained: lower its init_scale"
        elif self.is_late:
            fault = "max_seconds ended the sweep: allow more seconds, or lower num_iter"
        used, loss, steps, values = (np.array(each) for each in (lrs[: len(losses)], losses, [*val], [*val.values()]))
        reason = reason or f"{REACHED_END} {lrs[-1]:.3g}"
        return Sweep(seed, used, loss, steps, values, settings.val_metric, reason, fault)

    def hold(self, sweep: Sweep) -> list[Sweep]:
        """Hold learning rates downhill from where a sweep says, until the best has a worse one on both sides."""
        settings, holds, scored = self.training.settings, list[Sweep](), dict[int, float]()
        first, start = first_lr(*sweep.curve()), read_curve(*sweep.curve()).start
        while len(holds) < MAX_HOLDS and (exponent := next_exponent(scored, start)) is not None:
            lr = first * FACTOR**exponent
            if not settings.start_lr <= lr <= settings.end_lr:
                break
            held = self.run(settings.seed, [lr] * settings.hold_steps)
            if self.is_late:
                break
            holds.append(held)
            scored[exponent] = read_hold(held, sweep, settings.hold_steps).loss
        return holds

    def _divergence(self, err: Exception, step: int, lr: float) -> str:
        """What is not finite where an exception was raised. Raises the exception if everything is finite."""
        evidence = self.training.evidence() if self.training.ranks.n == 1 else None
        if evidence is None:
            shapes = [tuple(tensor.shape) for tensor in tensors_of(self.training.batch)]
            err.add_note(f"range_test: at step {step}, on tensors of shapes {shapes}; everything is restored")
            raise err
        said = (str(err).splitlines() or [""])[0][:200]
        return f"{evidence} at lr {lr:.3g}, where {type(err).__name__} was raised: {said}"


class Watch:
    """Tells when a loss has diverged."""

    def __init__(self, diverge_th: float | None) -> None:
        self.diverge_th, self.losses = diverge_th, list[float]()
        self.mean, self.first, self.best = 0.0, math.nan, math.nan

    def stop_reason(self, loss: float, lr: float) -> str | None:
        """None to go on."""
        if not math.isfinite(loss):
            return f"the loss was {loss} at lr {lr:.3g}"
        self.losses.append(loss)
        self.mean += SMOOTH_F * (loss - self.mean)
        corrected = self.mean / (1 - (1 - SMOOTH_F) ** len(self.losses))
        if len(self.losses) == 1:
            self.first = self.best = corrected
        self.best = min(self.best, corrected)
        if self.diverge_th is None or len(self.losses) < N_START:
            return None
        # The scale of the loss: its lowest value; near or below zero what it has fallen by, or its noise at the start.
        noise = float(np.median(np.abs(np.diff(self.losses[:N_START])))) * 1.4826 / math.sqrt(2)
        scale = max(abs(self.best), (self.first - self.best) / 10, noise)
        if corrected > self.best + (self.diverge_th - 1) * scale:
            return f"the loss diverged at lr {lr:.3g}: its running mean went from {self.best:.3g} to {corrected:.3g}"
        return None


def _check_effect(training: Training, state: Snapshot) -> None:
    """Raise ValueError if the first update does not depend on the learning rate."""

    def norms() -> list[float]:
        parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
        return [float(p.detach().double().norm()) for p in parameters]

    settings, found = training.settings, []
    for lr in (settings.start_lr, settings.end_lr):
        state.restore()
        before = norms()
        seed_everything(settings.seed)
        with training.watched():
            try:
                training.update(iter(training.first_batches), lr)
            except Exception:  # at end_lr anything may fail, which is an effect
                return
        found.append(norms())
    if found[0] == found[1] != before:
        raise ValueError(f"the learning rate has no effect on {settings.optimizer}'s step(); turn off its own schedule")


def _passes(loader: Any, num_iter: int, accumulation_steps: int) -> float:
    """How often a sweep goes over the loader; 1 if that has no length."""
    try:
        return num_iter * accumulation_steps / len(loader)
    except (TypeError, NotImplementedError, ZeroDivisionError):
        return 1.0
