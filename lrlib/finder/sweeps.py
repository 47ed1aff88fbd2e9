"""The learning-rate range test for anyone's model, optimizer and loader."""

import inspect
import math
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from lrlib.finder.restore import generators_of, kept, seed_everything
from lrlib.finder.result import Overlay, RangeTestResult, Settings, Sweep

MIN_ITER = 10
STEP_MODES = ("exp", "linear")
# Reading a loss off an accelerator waits for all that was sent to it, so there it is done a few steps at a time.
READ_EVERY = {"cpu": 1}
READ_EVERY_ELSEWHERE = 10


def range_test(
    model,
    optimizer,
    loss_fn,
    train_loader,
    *,
    val_loader=None,
    start_lr=1e-6,
    end_lr=10,
    num_iter=300,
    step_mode="exp",
    smooth_f=0.05,
    diverge_th=5,
    accumulation_steps=1,
    repeats=3,
    seed=0,
    init_fn=None,
    step_fn=None,
    val_every=10,
    val_batches=8,
    val_metric="loss",
    scaler=None,
    autocast_dtype=None,
    schedulers=(),
    device=None,
    offload=None,
    max_spread_decades=0.5,
    progress=True,
):
    """Train for a few steps at a rising learning rate, from the same state `repeats` times, and put everything back.

    Afterwards model, optimizer, scaler, schedulers, random state and the loaders' generators are to the bit what
    they were, also after an exception or Ctrl-C (lrlib.finder.restore says what is kept). Cost: repeats * num_iter steps.

    model: a torch.nn.Module; if its root is in eval mode it is swept in train mode, else each submodule keeps its
        mode. optimizer: any torch optimizer whose step() needs no closure.
    loss_fn(outputs, targets) -> scalar loss, for batches of (inputs, targets); inputs that are a tuple or a mapping
        are spread over the model's arguments. May be None with step_fn.
    train_loader: any iterable of batches that can be iterated again; it is, where it is shorter than the sweep. A
        DataLoader that shuffles gives every sweep another order.
    step_fn(batch) -> scalar loss: any other forward pass (dict batches, several losses); batches are on the device
        already. Backward and update are done here; clip gradients with optimizer.register_step_pre_hook.

    start_lr, end_lr: the first and the last rate, of the first parameter group; the other groups keep their ratio to
        it. start_lr None is the optimizer's own. num_iter: updates a sweep, at least 10; step_mode: "exp" or
        "linear". In "exp" the rate of update k is start_lr * (end_lr / start_lr) ** (k / (num_iter - 1)).
    smooth_f, diverge_th: a sweep stops where the running mean of the loss (weight smooth_f on the newest,
        bias-corrected; 0: no mean) is above diverge_th * best. Where best is below a tenth of what the loss has
        lost, that tenth takes its place in the margin, so that a loss near or below zero does not stop at once.
        NaN and infinity stop too.
    accumulation_steps: batches an update; the loss is their mean.
    repeats: sweeps; sweep r is seeded with seed + r (Python, NumPy, torch, the loaders' generators).
    init_fn(model): called after seeding, to begin each sweep from weights of its own.
    val_loader: if given, suggestions are read from it: its first val_batches batches, fixed for all sweeps, every
        val_every updates. val_metric: "loss" (loss_fn, or step_fn, in eval mode), "accuracy" (argmax over the last
        dimension), or a function (batch) -> number to be made small. Means are over samples, not batches.
    scaler: a torch.amp.GradScaler. autocast_dtype: for example torch.bfloat16; None leaves autocast as it is outside.
    schedulers: those that a step_fn steps, to be put back; others that are attached need no mention.
    device: where batches go; None is the device of the model's first parameter.
    offload: None keeps the one copy of model and optimizer state in memory, "disk" in a temporary file.
    max_spread_decades: sweeps that disagree by more make the suggestion unreliable.

    Returns a RangeTestResult. Raises ValueError or TypeError, one sentence, for input that cannot work; an
    exception of the user's code passes through with a note of the step and the batch.
    """
    _check_settings(
        start_lr, end_lr, num_iter, step_mode, smooth_f, diverge_th, accumulation_steps, repeats, val_every, val_batches
    )
    _check_step(loss_fn, step_fn, val_loader, val_metric)
    _check_optimizer(model, optimizer)
    _check_loader("train_loader", train_loader)

    groups = optimizer.param_groups
    base_lrs = [float(group["lr"]) for group in groups]
    start_lr = base_lrs[0] if start_lr is None else start_lr
    if not start_lr < end_lr:
        raise ValueError(
            f"start_lr must be below end_lr, got {start_lr} and {end_lr}; give start_lr, or a larger end_lr"
        )
    device = torch.device(device) if device is not None else _device_of(model)
    settings = Settings(
        start_lr=float(start_lr),
        end_lr=float(end_lr),
        num_iter=num_iter,
        step_mode=step_mode,
        smooth_f=float(smooth_f),
        diverge_th=float(diverge_th),
        accumulation_steps=accumulation_steps,
        max_spread_decades=float(max_spread_decades),
        val_metric=None if val_loader is None else _name_of(val_metric),
        val_every=val_every,
        autocast_dtype=None if autocast_dtype is None else str(autocast_dtype),
        device=str(device),
        optimizer=type(optimizer).__name__,
        group_ratios=tuple(lr / base_lrs[0] for lr in base_lrs),
        cycles_momentum=any(group.get("momentum") or group.get("betas") for group in groups),
        fresh_weights=init_fn is not None,
    )
    training = _Training(
        model=model,
        optimizer=optimizer,
        loss_of=step_fn or _plain_step(model, loss_fn),
        settings=settings,
        scaler=scaler,
        autocast_dtype=autocast_dtype,
        device=device,
        val_metric=val_metric,
    )

    loaders = [loader for loader in (train_loader, val_loader) if loader is not None]
    generators = generators_of(*loaders)
    sweeps = []
    began = time.perf_counter()
    with kept(model, optimizer, scaler=scaler, schedulers=schedulers, loaders=loaders, offload=offload) as state:
        seed_everything(seed, generators)
        val_subset = [] if val_loader is None else list(islice(val_loader, val_batches))
        if val_loader is not None and not val_subset:
            raise ValueError("val_loader must give at least one batch, got none; check its dataset and drop_last")
        with tqdm(total=repeats * num_iter, desc="range test", unit="step", disable=not progress) as bar:
            for repeat in range(repeats):
                if repeat > 0:
                    state.put_back()
                seed_everything(seed + repeat, generators)
                if init_fn is not None:
                    init_fn(model)
                if not model.training:
                    model.train()
                sweep = _sweep(training, train_loader, val_subset, seed=seed + repeat, state=state, bar=bar)
                sweeps.append(sweep)
                bar.update((repeat + 1) * num_iter - bar.n)
    seconds_state = time.perf_counter() - began - sum(sweep.seconds for sweep in sweeps)
    return RangeTestResult(tuple(sweeps), settings, _versions(), seconds_state)


def overlay(
    model, optimizer, loss_fn, train_loader, *, weight_decay=None, momentum=None, batch_size=None, **range_test_settings
):
    """One range test for each value of one setting, all from the same state (Smith 2018, "A disciplined approach").

    Give the values of exactly one:
    weight_decay: set in the parameter groups that have any; in all of them if none has.
    momentum: set as momentum, or as the first of the betas, in all groups.
    batch_size: the train_loader, then a DataLoader, is built again with it: same dataset, sampler and workers.
    The other arguments are range_test's. Everything is afterwards what it was before. Returns an Overlay.
    """
    given = {"weight_decay": weight_decay, "momentum": momentum, "batch_size": batch_size}
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
            loader = _with_batch_size(train_loader, value)
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


class _Training:
    """One update, and one validation, of the user's model."""

    def __init__(self, *, model, optimizer, loss_of, settings, scaler, autocast_dtype, device, val_metric):
        self.model, self.optimizer, self.loss_of = model, optimizer, loss_of
        self.settings, self.scaler, self.device = settings, scaler, device
        self.autocast_dtype, self.val_metric = autocast_dtype, val_metric
        self.batch = None  # the last one, for the note of an exception

    def set_lr(self, lr):
        for group, ratio in zip(self.optimizer.param_groups, self.settings.group_ratios, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio

    def update(self, batches):
        """The mean loss of the update's batches, a tensor of shape (): reading it is the caller's."""
        n_batches = self.settings.accumulation_steps
        self.optimizer.zero_grad()
        total = None
        for _ in range(n_batches):
            self.batch = next(batches)
            batch = _to(self.batch, self.device)
            with self._autocast():
                loss = self.loss_of(batch)
            _check_loss(loss)
            loss = loss.reshape(())
            share = loss if n_batches == 1 else loss / n_batches
            (share if self.scaler is None else self.scaler.scale(share)).backward()
            total = share.detach() if total is None else total + share.detach()
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return total

    def validate(self, batches):
        """The mean of the metric over the samples of the batches, in eval mode without gradients: a float."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        total, n_samples = 0.0, 0
        with torch.no_grad(), self._autocast():
            for batch in batches:
                n = _batch_size(batch)
                total += n * float(self._metric(_to(batch, self.device)))
                n_samples += n
        for module, training in modes:
            module.training = training
        return total / n_samples

    def _metric(self, batch):
        if callable(self.val_metric):
            return self.val_metric(batch)
        if self.val_metric == "loss":
            return self.loss_of(batch)
        inputs, targets = _inputs_and_targets(batch)
        return (_call(self.model, inputs).argmax(dim=-1) == targets).float().mean()

    def _autocast(self):
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


class _Watch:
    """Says when a sweep has to stop."""

    def __init__(self, settings):
        self.weight = settings.smooth_f or 1.0
        self.diverge_th = settings.diverge_th
        self.mean, self.n = 0.0, 0
        self.first = self.best = None

    def stop_reason(self, loss, lr):
        """None to go on."""
        if not math.isfinite(loss):
            return f"the loss was {loss} at lr {lr:.3g}"
        self.n += 1
        self.mean += self.weight * (loss - self.mean)
        corrected = self.mean / (1 - (1 - self.weight) ** self.n)
        if self.n == 1:
            self.first = self.best = corrected
        self.best = min(self.best, corrected)
        margin = max(abs(self.best), (self.first - self.best) / 10)
        if corrected > self.best + (self.diverge_th - 1) * margin:
            return f"the loss diverged at lr {lr:.3g}: its running mean went from {self.best:.3g} to {corrected:.3g}"
        return None


def _sweep(training, train_loader, val_subset, *, seed, state, bar):
    settings = training.settings
    lrs = _lrs(settings)
    watch = _Watch(settings)
    batches = _without_end(train_loader)
    read_every = READ_EVERY.get(training.device.type, READ_EVERY_ELSEWHERE)
    losses, unread, val_step, val = [], [], [], []
    reason = None
    began = time.perf_counter()
    for step, lr in enumerate(lrs):
        try:
            training.set_lr(lr)
            unread.append(training.update(batches))
        except Exception as err:
            _explain(err, state, training, step)
            raise
        bar.update()
        val_due = val_subset and ((step + 1) % settings.val_every == 0 or step + 1 == len(lrs))
        if len(unread) < read_every and step + 1 < len(lrs) and not val_due:
            continue
        for loss in torch.stack(unread).tolist():
            losses.append(loss)
            reason = watch.stop_reason(loss, lrs[len(losses) - 1])
            if reason:
                break
        unread.clear()
        if reason:
            break
        if val_due:
            val_step.append(step)
            val.append(training.validate(val_subset))
            if not math.isfinite(val[-1]):
                reason = f"the validation {settings.val_metric} was {val[-1]} at lr {lr:.3g}"
                break
    seconds = time.perf_counter() - began
    _check_shapes(state)
    return Sweep(
        seed=seed,
        lr=lrs[: len(losses)],
        loss=losses,
        val_step=val_step,
        val=val,
        val_metric=settings.val_metric,
        stop_reason=reason or f"reached end_lr {settings.end_lr:.3g}",
        seconds=seconds,
    )


def _lrs(settings):
    """The rate of every update, a list of num_iter floats."""
    share = np.arange(settings.num_iter) / (settings.num_iter - 1)
    if settings.step_mode == "linear":
        return (settings.start_lr + share * (settings.end_lr - settings.start_lr)).tolist()
    return (settings.start_lr * (settings.end_lr / settings.start_lr) ** share).tolist()


def _without_end(loader):
    while True:
        n_batches = 0
        for batch in loader:
            n_batches += 1
            yield batch
        if n_batches == 0:
            raise ValueError("train_loader must give at least one batch, got none; check its dataset and drop_last")


def _plain_step(model, loss_fn):
    def loss_of(batch):
        inputs, targets = _inputs_and_targets(batch)
        return loss_fn(_call(model, inputs), targets)

    return loss_of


def _inputs_and_targets(batch):
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch
    kind = type(batch).__name__ + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
    raise TypeError(
        f"a batch must be a pair (inputs, targets), got a {kind}; give step_fn(batch) -> loss instead of loss_fn"
    )


def _call(model, inputs):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _to(batch, device):
    """The batch with its tensors on the device; containers of unknown kind that have no `to` pass as they are."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_to(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)([_to(item, device) for item in batch])
    if isinstance(batch, dict):
        return {key: _to(item, device) for key, item in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


def _batch_size(batch):
    """The first dimension of the batch's first tensor."""
    tensor = next(_tensors(batch), None)
    return len(tensor) if tensor is not None and tensor.dim() > 0 else 1


def _tensors(batch):
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, (tuple, list, Mapping)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(item)


def _name_of(val_metric):
    if isinstance(val_metric, str):
        return val_metric
    name = getattr(val_metric, "__name__", type(val_metric).__name__)
    return f"function {name}"  # so that a user's function named accuracy is not taken for ours


def _device_of(model):
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _explain(err, state, training, step):
    """A clear sentence for a model that changed shape; for the user's own exceptions, a note of where."""
    _check_shapes(state, cause=err)
    shapes = [tuple(tensor.shape) for tensor in _tensors(training.batch)]
    err.add_note(
        f"range_test: at step {step}, on a batch of tensors of shapes {shapes}; everything is as it was before"
    )


def _check_shapes(state, cause=None):
    for name, before, now in state.changed_shapes():
        raise ValueError(
            f"parameters must keep their shape, got {name} of {before} turned into {now} between batches; "
            "make the model's shape independent of the batch"
        ) from cause


def _check_settings(
    start_lr, end_lr, num_iter, step_mode, smooth_f, diverge_th, accumulation_steps, repeats, val_every, val_batches
):
    if start_lr is not None and not 0 < start_lr < end_lr:
        raise ValueError(
            f"start_lr must be above 0 and below end_lr, got {start_lr} and {end_lr}; the sweep goes upwards"
        )
    if not math.isfinite(end_lr):
        raise ValueError(f"end_lr must be finite, got {end_lr}; 10 is far enough for most models")
    if num_iter < MIN_ITER:
        raise ValueError(f"num_iter must be at least {MIN_ITER}, got {num_iter}; 100 to 300 steps show a curve")
    if step_mode not in STEP_MODES:
        raise ValueError(
            f'step_mode must be "exp" or "linear", got {step_mode!r}; "exp" spreads the steps over the decades'
        )
    if not 0 <= smooth_f < 1:
        raise ValueError(f"smooth_f must be in [0, 1), got {smooth_f}; 0 turns the running mean off")
    if not diverge_th > 1:
        raise ValueError(f"diverge_th must be above 1, got {diverge_th}; it is a multiple of the best loss")
    counts = {
        "accumulation_steps": accumulation_steps,
        "repeats": repeats,
        "val_every": val_every,
        "val_batches": val_batches,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}; it is a count")


def _check_step(loss_fn, step_fn, val_loader, val_metric):
    if loss_fn is None and step_fn is None:
        raise ValueError(
            "loss_fn must be given unless step_fn is, got None for both; one of them says what to minimise"
        )
    if not (val_metric in ("loss", "accuracy") or callable(val_metric)):
        raise ValueError(
            f'val_metric must be "loss", "accuracy" or a function (batch) -> number, got {val_metric!r}; choose one'
        )
    if val_loader is not None and val_metric == "accuracy" and loss_fn is None:
        raise ValueError(
            'val_metric must be a function with step_fn alone, got "accuracy"; it needs batches of (inputs, targets)'
        )


def _check_optimizer(model, optimizer):
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"optimizer must step without a closure, got {type(optimizer).__name__}, which evaluates the loss several "
            "times a step; a range test does not apply to it"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise ValueError(
            "optimizer must hold parameters of the model, got none of them; build it from model.parameters()"
        )
    lr = float(optimizer.param_groups[0]["lr"])
    if not lr > 0:
        raise ValueError(
            f"the first parameter group's lr must be above 0, got {lr}; the other groups' ratios are taken to it"
        )


def _check_loader(name, loader):
    if isinstance(loader, Iterator):
        raise TypeError(
            f"{name} must be an iterable that can begin again, got a {type(loader).__name__}; "
            "give a DataLoader or a list"
        )


def _check_loss(loss):
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"the loss must be a tensor, got a {type(loss).__name__}; return it before .item()")
    if loss.numel() != 1:
        raise ValueError(
            f"the loss must be a scalar, got shape {tuple(loss.shape)}; reduce it, for example with .mean()"
        )
    if not loss.requires_grad:
        raise ValueError(
            "the loss must require grad, got one that does not; compute it from the model's output, without no_grad"
        )


def _hyperparameters(optimizer, name):
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


def _with_batch_size(loader, batch_size):
    if not isinstance(loader, DataLoader) or loader.batch_size is None:
        raise TypeError(
            f"train_loader must be a DataLoader with a batch_size to sweep over it, got a {type(loader).__name__}; "
            "call range_test for each size"
        )
    return DataLoader(
        loader.dataset,
        batch_size=batch_size,
        sampler=None if isinstance(loader.dataset, torch.utils.data.IterableDataset) else loader.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


def _versions():
    found = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    try:
        return {"lrlib": version("lrlib"), **found}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return found
