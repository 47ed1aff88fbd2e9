"""What a user passed to a range test, checked before its first step."""

import inspect
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter


def check_model(model: Any, optimizer: Any) -> None:
    """Raise TypeError or ValueError for a model and an optimizer whose learning rate cannot be swept."""
    if isinstance(model, torch.optim.Optimizer) or isinstance(optimizer, nn.Module):
        raise TypeError(
            f"model comes before optimizer, got {type(model).__name__} and {type(optimizer).__name__}; swap them"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_described(model)}; pass the module that trains")
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer must be a torch optimizer, got {_described(optimizer)}; sweep one at a time")
    step = getattr(type(optimizer), "step", None) or optimizer.step
    closure = inspect.signature(step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"optimizer.step() must work without a closure, got {type(optimizer).__name__}; a range test does not "
            "apply to optimizers that evaluate the loss several times a step"
        )
    held = [p for group in optimizer.param_groups for p in group["params"]]
    of_model = {id(p) for p in model.parameters()}
    if not any(id(p) in of_model for p in held):
        raise ValueError("optimizer must hold parameters of the model, got none; build it from model.parameters()")
    if not any(p.requires_grad for p in held):
        raise ValueError("a parameter of the optimizer must require grad, got all frozen; unfreeze what should train")
    if any(p.is_meta for p in (*held, *model.parameters())):
        raise ValueError("the model must have values, got parameters on the meta device; load its weights first")


def check_step(loss_fn: Any, step_fn: Any, loader: Any) -> None:
    """Raise TypeError or ValueError unless exactly one of loss_fn and step_fn is given, and a loader."""
    if isinstance(loss_fn, type):
        raise TypeError(f"loss_fn must be an instance, got the class {loss_fn.__name__}; pass {loss_fn.__name__}()")
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(
            f"loss_fn must be a function, got {_described(loss_fn)}; call range_test(model, optimizer, loss_fn, loader)"
            " or range_test(model, optimizer, loader=loader, step_fn=step_fn)"
        )
    if step_fn is not None and not callable(step_fn):
        raise TypeError(f"step_fn must be a function (batch) -> loss, got {_described(step_fn)}; pass a function")
    if (loss_fn is None) == (step_fn is None):
        got = "neither" if loss_fn is None else "both"
        raise ValueError(f"pass exactly one of loss_fn and step_fn, got {got}; step_fn computes the loss itself")
    if loader is None:
        raise TypeError("loader must be given, got None; pass a DataLoader or a list of batches")


def check_validation(val_loader: Any, val_metric: Any, loss_fn: Any) -> None:
    """Raise ValueError for a metric that is unknown or has no use."""
    if not callable(val_metric) and not (isinstance(val_metric, str) and val_metric in ("loss", "accuracy")):
        raise ValueError(f'val_metric must be "loss", "accuracy" or a function, got {val_metric!r}; choose one')
    if val_loader is None and val_metric != "loss":
        raise ValueError(f"val_metric requires val_loader, got {val_metric!r} without it; pass a val_loader")
    if val_metric == "accuracy" and loss_fn is None:
        raise ValueError('val_metric "accuracy" requires loss_fn, got step_fn; pass a function of a batch instead')


def group_ratios(optimizer: Any) -> tuple[tuple[float, ...], float]:
    """(each parameter group's lr over that of the first group above 0, the lr of that group).

    Where all are 0, as a warm-up scheduler starts, those of initial_lr. A group at 0 beside others stays at 0. timm's
    lr_scale is applied where it has not been, and the lr is the one before it. Raises TypeError or ValueError where no
    lr is above 0, or the optimizer makes its own.
    """
    groups = optimizer.param_groups
    for group in groups:
        if isinstance(group.get("lr"), bool) or not isinstance(group.get("lr"), (numbers.Real, Tensor)):
            raise TypeError(
                f"lr must be a float or a Tensor, got {group.get('lr')!r} in {type(optimizer).__name__}; set it, or "
                "skip the range test if the optimizer makes its own learning rate"
            )
        if group.get("relative_step"):
            raise ValueError(
                f"the learning rate has no effect on {type(optimizer).__name__} with relative_step=True; "
                "set relative_step=False"
            )
    rates = [float(group["lr"]) for group in groups]
    if not any(rates):
        rates = [float(group.get("initial_lr", 0.0)) for group in groups]
    if not any(rate > 0 for rate in rates) or not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(
            f"every group's lr must be finite and one above 0, got {rates}; set the lr that you would start with"
        )
    scales = [float(group.get("lr_scale", 1.0)) for group in groups]
    before_scale = [rate / scale for rate, scale in zip(rates, scales, strict=True) if rate > 0 and scale > 0]
    if len(set(scales)) > 1 and math.isclose(min(before_scale), max(before_scale), rel_tol=1e-6):
        return tuple(rate / before_scale[0] for rate in rates), before_scale[0]
    first = next(rate for rate in rates if rate > 0)
    return tuple(rate * scale / first for rate, scale in zip(rates, scales, strict=True)), first


def group_momenta(optimizer: Any) -> tuple[float, ...]:
    """Each parameter group's momentum, or the first of its betas; 0 where it has neither."""
    return tuple(float(group.get("momentum") or (group.get("betas") or (0.0,))[0]) for group in optimizer.param_groups)


def check_gradients(model: nn.Module, optimizer: Any, *, scaler: Any, clip_norm: float | None) -> None:
    """Raise ValueError where gradients could not be unscaled, or would be clipped while scaled."""
    if scaler is not None and (
        isinstance(scaler, type) or not (hasattr(scaler, "scale") or hasattr(scaler, "backward"))
    ):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, an Accelerator or a Fabric, got {scaler!r}; pass one")
    own = getattr(optimizer, "scaler", None) or getattr(optimizer, "loss_scaler", None)
    if clip_norm is not None and own is not None:
        raise ValueError(
            f"clip_norm cannot clip the scaled gradients of {type(optimizer).__name__}, which has its own scaler; clip "
            "in its framework"
        )
    if scaler is None or callable(getattr(scaler, "backward", None)) or not scaler.is_enabled():
        return
    if sharded_root(model) is not None and type(scaler).__name__ != "ShardedGradScaler":
        raise ValueError(
            f"scaler must be a ShardedGradScaler for FullyShardedDataParallel, got {type(scaler).__name__}; "
            "use torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler"
        )


def check_loader(name: str, loader: Any) -> None:
    """Raise TypeError for samples instead of batches, and for what can be iterated only once."""
    is_samples = isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)
    if is_samples or type(loader).__module__.partition(".")[0] == "datasets":
        raise TypeError(
            f"{name} must yield batches, got a {type(loader).__name__}, which yields samples; pass "
            "DataLoader(dataset, batch_size=32, shuffle=True)"
        )
    if isinstance(loader, Sampler):
        raise TypeError(
            f"{name} must yield batches, got a {type(loader).__name__}, which yields indices; pass a DataLoader with it"
        )
    if isinstance(loader, (type, str, Mapping)):
        raise TypeError(f"{name} must be an iterable of batches, got {_described(loader)}; pass one DataLoader")
    if not isinstance(loader, Iterator):
        if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise TypeError(f"{name} must be an iterable of batches, got {_described(loader)}; pass a DataLoader")
        return
    # An iterator written in Python may restart in its own __iter__; only the second pass can tell.
    if isinstance(loader, _BaseDataLoaderIter) or not hasattr(loader, "__dict__"):
        raise TypeError(
            f"{name} must be re-iterable, got a {type(loader).__name__}; pass a DataLoader or a list of batches"
        )


def check_loss(loss: Any) -> None:
    """Raise TypeError or ValueError for what backward cannot start from."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss must be a tensor, got a {type(loss).__name__}; {_instead_of(loss)}")
    if loss.numel() != 1:
        raise ValueError(f"the loss must be a scalar, got shape {tuple(loss.shape)}; reduce it, for example by .mean()")
    if not loss.requires_grad:
        raise ValueError("the loss must require grad, got one that does not; compute it without no_grad")


def check_accuracy(logits: Any, targets: Any) -> None:
    """Raise ValueError unless the outputs are (..., classes) and the targets class indices of the shape before."""
    found = [tuple(each.shape) if isinstance(each, Tensor) else _described(each) for each in (logits, targets)]
    is_shaped = isinstance(logits, Tensor) and isinstance(targets, Tensor) and logits.dim() > 1 and logits.shape[-1] > 1
    if not is_shaped or logits.shape[:-1] != targets.shape or targets.is_floating_point():
        raise ValueError(
            f'val_metric "accuracy" requires outputs (N, classes) and integer targets (N,), got {found[0]} and '
            f"{found[1]}; pass a function of a batch, for example the share of errors"
        )


def check_metric(value: Any) -> float:
    """The value that a metric returned. Raises TypeError unless it is one number."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else _described(value)
        raise TypeError(f"val_metric must return one number, got {got}; return for example its mean") from None


def sharded_root(model: nn.Module) -> Any:
    """The outermost FullyShardedDataParallel of a model, or None; known by name, since importing it is slow."""
    for module in model.modules():
        if any(cls.__name__ == "FullyShardedDataParallel" for cls in type(module).__mro__):
            return module
    return None


def _described(thing: Any) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"


def _instead_of(loss: Any) -> str:
    """What to return instead."""
    if isinstance(loss, Mapping) and "loss" in loss:
        return 'return outputs["loss"] from step_fn'
    if isinstance(getattr(loss, "loss", None), Tensor):
        return "return outputs.loss from step_fn"
    if isinstance(loss, Mapping):
        return f"return one of {list(loss)} from step_fn, or their sum: sum(losses.values())"
    if isinstance(loss, (tuple, list)):
        return "return the one to minimise from step_fn, for example outputs[0]"
    return "return it from step_fn" if loss is None else "return it before .item()"
