"""What a user gave to a range test, checked before its first step."""

import inspect
import math
from collections.abc import Iterator

MIN_ITER = 10
STEP_MODES = ("exp", "linear")


def check_settings(
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


def check_step(loss_fn, step_fn, val_loader, val_metric):
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


def check_optimizer(model, optimizer):
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


def check_loader(name, loader):
    if isinstance(loader, Iterator):
        raise TypeError(
            f"{name} must be an iterable that can begin again, got a {type(loader).__name__}; "
            "give a DataLoader or a list"
        )
