"""What a user gave to a range test, checked before its first step."""

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data.dataloader import _BaseDataLoaderIter

MIN_ITER = 10
STEP_MODES = ("exp", "linear", "staircase")


def check_settings(
    *,
    start_lr: float | None,
    end_lr: float | None,
    num_iter: int,
    step_mode: str,
    num_rates: int,
    val_every: int | None,
    smooth_f: float,
    diverge_th: float,
    clip_norm: float | None,
    clip_value: float | None,
    counts: Mapping[str, int],
) -> None:
    """Raise ValueError for a number that cannot be; counts are those that begin at 1."""
    if start_lr is not None and not 0 < start_lr < (math.inf if end_lr is None else end_lr):
        raise ValueError(
            f"start_lr must be above 0 and below end_lr, got {start_lr} and {end_lr}; the sweep goes upwards"
        )
    if end_lr is not None and not math.isfinite(end_lr):
        raise ValueError(f"end_lr must be finite, got {end_lr}; 10 is far enough for most models")
    if num_iter < MIN_ITER:
        raise ValueError(f"num_iter must be at least {MIN_ITER}, got {num_iter}; 100 to 300 steps show a curve")
    if step_mode not in STEP_MODES:
        raise ValueError(
            f'step_mode must be "exp", "linear" or "staircase", got {step_mode!r}; "exp" spreads the steps over the '
            "decades"
        )
    if num_rates < MIN_ITER:
        raise ValueError(f"num_rates must be at least {MIN_ITER}, got {num_rates}; 15 to 30 rates show a curve")
    if step_mode == "staircase" and num_iter < 2 * num_rates:
        raise ValueError(
            f"num_iter must be at least twice num_rates in a staircase, got {num_iter} and {num_rates}; each rate is "
            "held for num_iter // num_rates updates"
        )
    if step_mode == "staircase" and val_every is not None:
        raise ValueError(
            f"val_every must not be given in a staircase, got {val_every}; it validates at the end of each rate"
        )
    if not 0 <= smooth_f < 1:
        raise ValueError(f"smooth_f must be in [0, 1), got {smooth_f}; 0 turns the running mean off")
    if not diverge_th > 1:
        raise ValueError(f"diverge_th must be above 1, got {diverge_th}; it is a multiple of the best loss")
    for name, bound in {"clip_norm": clip_norm, "clip_value": clip_value}.items():
        if bound is not None and not 0 < bound < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {bound}; None does not clip")
    if clip_norm is not None and clip_value is not None:
        raise ValueError(
            f"clip_norm and clip_value must not be given both, got {clip_norm} and {clip_value}; choose how to clip"
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}; it is a count")


def check_step(loss_fn: Any, step_fn: Any, val_loader: Any, val_metric: Any) -> None:
    """Raise ValueError where nothing says what to minimise, or what to validate."""
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


def check_optimizer(model: nn.Module, optimizer: Any) -> None:
    """Raise TypeError or ValueError for an optimizer whose learning rate cannot be swept."""
    closure = inspect.signature(getattr(type(optimizer), "step", optimizer.step)).parameters.get("closure")
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


def base_rates(optimizer: Any) -> list[float]:
    """The learning rate of each parameter group, to which a sweep keeps the ratios.

    Where all are 0, as a warm-up scheduler begins, those from which it will work (initial_lr). A group at 0 beside
    others is frozen and stays so. Raises TypeError or ValueError where there is none above 0.
    """
    groups = optimizer.param_groups
    for group in groups:
        if not isinstance(group.get("lr"), (int, float, Tensor)):
            raise TypeError(
                f"optimizer must have an lr to test, got {type(optimizer).__name__} with lr "
                f"{group.get('lr', 'missing')} beside {sorted(set(group) - {'params', 'lr'})}; "
                "where it sets its own rate a range test does not apply, else give it an lr"
            )
    rates = [float(group["lr"]) for group in groups]
    if not any(rates):
        rates = [float(group.get("initial_lr", 0.0)) for group in groups]
    if not any(rate > 0 for rate in rates) or not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(
            f"the parameter groups' lr must be 0 or more and one above 0, got {rates}; the groups' ratios are "
            "taken from them, so set the lr that you would begin with"
        )
    return rates


def check_gradients(optimizer: Any, *, scaler: Any, backward_fn: Any, clips: bool, sharded: bool) -> None:
    """Raise ValueError where gradients would be scaled twice, not unscaled, or clipped while scaled."""
    if scaler is not None and backward_fn is not None:
        raise ValueError(
            "scaler must not be given with backward_fn, got both, which would scale the loss twice; "
            "leave the scaler to backward_fn's own framework"
        )
    if scaler is not None and scaler.is_enabled():
        for group in optimizer.param_groups:
            if any(p.dtype == torch.float16 for p in group["params"]):
                raise ValueError(
                    "parameters must not be float16 with a scaler, got some that are, whose gradients cannot be "
                    "unscaled; keep the model in float32 and give autocast_dtype=torch.float16"
                )
        if sharded and type(scaler).__name__ != "ShardedGradScaler":
            raise ValueError(
                f"scaler must be a ShardedGradScaler for a FullyShardedDataParallel model, got a "
                f"{type(scaler).__name__}, which sees one process's gradients only; "
                "take torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler"
            )
    own = getattr(optimizer, "scaler", None) or getattr(optimizer, "loss_scaler", None)
    if clips and own is not None:
        raise ValueError(
            f"an optimizer must not scale gradients that are clipped here, got a {type(optimizer).__name__} "
            "with a scaler of its own; clip in backward_fn, with its framework's own function"
        )


def check_loader(name: str, loader: Any) -> None:
    """Raise TypeError for what gives its batches once: iterators, but those that can begin again."""
    if not isinstance(loader, Iterator):
        return
    # Written in Python, with an __iter__ of its own, it may begin again there; only the second pass can tell.
    may_begin_again = hasattr(loader, "__dict__") and not isinstance(loader, _BaseDataLoaderIter)
    if not may_begin_again:
        raise TypeError(
            f"{name} must be an iterable that can begin again, got a {type(loader).__name__}; "
            "give a DataLoader, a list of batches, or an object whose __iter__ makes a new iterator"
        )


def check_loss(loss: Any) -> None:
    """Raise TypeError or ValueError for what backward cannot start from."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss must be a tensor, got a {type(loss).__name__}; {_instead_of(loss)}")
    if loss.numel() != 1:
        raise ValueError(
            f"the loss must be a scalar, got shape {tuple(loss.shape)}; reduce it, for example with .mean()"
        )
    if not loss.requires_grad:
        raise ValueError(
            "the loss must require grad, got one that does not; compute it from the model's output, without no_grad"
        )


def _instead_of(loss: Any) -> str:
    """What to return in place of what was."""
    if isinstance(loss, Mapping) and "loss" in loss:
        return 'return its "loss" from step_fn: outputs["loss"]'
    if isinstance(getattr(loss, "loss", None), Tensor):
        return "return its .loss from step_fn: outputs.loss"
    if isinstance(loss, Mapping):
        return f"return one of {list(loss)} from step_fn, or their sum: sum(losses.values())"
    if isinstance(loss, (tuple, list)):
        return "return the one to minimise from step_fn, for example outputs[0]"
    return "return it from step_fn" if loss is None else "return it before .item()"
