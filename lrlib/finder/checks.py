"""Checks of the arguments of a range test, before its first step."""

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
        raise TypeError(f"model comes before optimizer, got {_kind(model)} and {_kind(optimizer)}; swap them")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_kind(model)}; pass the module that trains")
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer must be a torch optimizer, got {_kind(optimizer)}; pass one optimizer")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError("the optimizer's step() must work without a closure, got LBFGS; pass another optimizer")
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not {id(p) for p in held} & {id(p) for p in model.parameters()}:
        raise ValueError("optimizer must hold parameters of the model, got none; build it from model.parameters()")
    if not any(p.requires_grad for p in held):
        raise ValueError("a parameter of the optimizer must require grad, got all frozen; unfreeze what should train")
    if any(p.is_meta for p in (*held, *model.parameters())):
        raise ValueError("the model must have values, got parameters on the meta device; load its weights first")


def check_step(loss_fn: Any, step_fn: Any) -> None:
    """Raise TypeError or ValueError unless exactly one of loss_fn and step_fn is given."""
    if isinstance(loss_fn, type):
        raise TypeError(f"loss_fn must be an instance, got the class {loss_fn.__name__}; pass {loss_fn.__name__}()")
    for name, function in {"loss_fn": loss_fn, "step_fn": step_fn}.items():
        if function is not None and not callable(function):
            raise TypeError(
                f"{name} must be a function, got {_kind(function)}; call range_test(model, optimizer, loss_fn, loader) "
                "or range_test(model, optimizer, loader=loader, step_fn=step_fn)"
            )
    if (loss_fn is None) == (step_fn is None):
        got = "neither" if loss_fn is None else "both"
        raise ValueError(f"pass exactly one of loss_fn and step_fn, got {got}; step_fn computes the loss itself")


def check_loader(name: str, loader: Any) -> None:
    """Raise TypeError for samples instead of batches, and for what can be iterated only once."""
    is_dataset = isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)
    if is_dataset or isinstance(loader, Sampler) or type(loader).__module__.partition(".")[0] == "datasets":
        raise TypeError(f"{name} must yield batches, got {_kind(loader)}, which yields samples; pass a DataLoader")
    is_iterable = hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")
    if not is_iterable or isinstance(loader, (type, str, Mapping)):
        raise TypeError(f"{name} must be an iterable of batches, got {_kind(loader)}; pass one DataLoader")
    # An iterator written in Python may restart in its own __iter__; only the second pass can tell.
    restarts = hasattr(loader, "__dict__") and not isinstance(loader, _BaseDataLoaderIter)
    if isinstance(loader, Iterator) and not restarts:
        raise TypeError(f"{name} must be re-iterable, got {_kind(loader)}; pass a DataLoader or a list of batches")


def check_validation(val_loader: Any, val_metric: Any, loss_fn: Any) -> None:
    """Raise ValueError for a metric that is unknown or has no use."""
    is_function = callable(val_metric) and not isinstance(val_metric, type)
    if not is_function and not (isinstance(val_metric, str) and val_metric in ("loss", "accuracy")):
        raise ValueError(f'val_metric must be "loss", "accuracy" or a function, got {val_metric!r}; choose one')
    if val_loader is None and val_metric != "loss":
        raise ValueError(f"val_metric requires val_loader, got {val_metric!r} without it; pass a val_loader")
    if val_metric == "accuracy" and loss_fn is None:
        raise ValueError('val_metric "accuracy" requires loss_fn, got step_fn; pass a function of a batch instead')


def check_gradients(model: nn.Module, optimizer: Any, *, scaler: Any, clip_norm: float | None) -> None:
    """Raise TypeError or ValueError where gradients could not be unscaled, or would be clipped while scaled."""
    is_scaler = hasattr(scaler, "scale") or hasattr(scaler, "backward")
    if scaler is not None and (isinstance(scaler, type) or not is_scaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, an Accelerator or a Fabric, got {scaler!r}; pass one")
    if clip_norm is not None and (getattr(optimizer, "scaler", None) or getattr(optimizer, "loss_scaler", None)):
        raise ValueError(f"clip_norm would clip scaled gradients, got {_kind(optimizer)} with its own scaler; omit it")
    scales = isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled()
    if scales and type(scaler).__name__ != "ShardedGradScaler" and sharded_root(model) is not None:
        raise ValueError(f"FullyShardedDataParallel needs torch's ShardedGradScaler, got {_kind(scaler)}; pass one")


def check_accuracy(outputs: Any, targets: Any) -> None:
    """Raise ValueError unless the outputs are (..., classes) and the targets class indices of the shape before."""
    are_tensors = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and not targets.is_floating_point()
    if not are_tensors or outputs.dim() < 2 or outputs.shape[-1] < 2 or outputs.shape[:-1] != targets.shape:
        got = [tuple(each.shape) if isinstance(each, Tensor) else _kind(each) for each in (outputs, targets)]
        required = 'val_metric "accuracy" requires outputs (N, classes) and integer targets (N,)'
        raise ValueError(f"{required}, got {got[0]} and {got[1]}; pass a function of a batch")


def group_ratios(optimizer: Any) -> tuple[float, ...]:
    """Each parameter group's lr over that of the first group above 0; of initial_lr where all are 0.

    A group at 0 beside others stays at 0. timm's lr_scale is applied where it has not been. Raises TypeError or
    ValueError where no lr is above 0, or the optimizer makes its own.
    """
    groups, kind = optimizer.param_groups, type(optimizer).__name__
    for group in groups:
        if isinstance(group.get("lr"), bool) or not isinstance(group.get("lr"), (numbers.Real, Tensor)):
            advice = "set it, or skip the range test if the optimizer makes its own"
            raise TypeError(f"lr must be a float or a Tensor, got {group.get('lr')!r} in {kind}; {advice}")
        if group.get("relative_step"):
            raise ValueError(f"the learning rate has no effect on {kind} with relative_step=True; set it to False")
    rates = [float(group["lr"]) for group in groups]
    if not any(rates):
        rates = [float(group.get("initial_lr", 0.0)) for group in groups]
    if not any(rate > 0 for rate in rates) or not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(f"every group's lr must be finite and one above 0, got {rates}; set the lr to start with")
    scales = [float(group.get("lr_scale", 1.0)) for group in groups]
    before_scale = [rate / scale for rate, scale in zip(rates, scales, strict=True) if rate > 0 and scale > 0]
    if len(set(scales)) > 1 and math.isclose(min(before_scale), max(before_scale), rel_tol=1e-6):
        return tuple(rate / before_scale[0] for rate in rates)
    first = next(rate for rate in rates if rate > 0)
    return tuple(rate * scale / first for rate, scale in zip(rates, scales, strict=True))


def group_momenta(optimizer: Any) -> tuple[float, ...]:
    """Each parameter group's momentum, or the first of its betas; 0 where it has neither."""
    return tuple(float(group.get("momentum") or (group.get("betas") or (0.0,))[0]) for group in optimizer.param_groups)


def sharded_root(model: nn.Module) -> Any:
    """The outermost FullyShardedDataParallel of a model, or None; known by name, since importing it is slow."""
    classes = ((module, [cls.__name__ for cls in type(module).__mro__]) for module in model.modules())
    return next((module for module, names in classes if "FullyShardedDataParallel" in names), None)


def _kind(thing: Any) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return "None" if thing is None else f"a {type(thing).__name__}"
