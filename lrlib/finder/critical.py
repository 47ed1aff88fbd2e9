"""The critical learning rate: the smallest at which the optimizer's next step raises the loss."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lrlib.finder.batches import on_device
from lrlib.finder.checks import check_loss, check_model, group_ratios
from lrlib.finder.randomness import random_state, set_random_state
from lrlib.finder.restore import kept
from lrlib.finder.step import device_of, plain_step

# The step's direction is taken at a rate of 1, where rounding is small beside it; it scales with the rate.
REFERENCE_LR = 1.0
# By what, and how often, the rate is multiplied or divided before no root is taken to be there.
GROWTH, MAX_GROWTHS = 4.0, 24
MAX_PASSES = 40


def critical_lr(
    model: nn.Module,
    optimizer: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Iterable[Any],
    *,
    tolerance: float = 0.02,
) -> float:
    """The smallest learning rate at which the next step of this optimizer raises the loss on its own batches.

    One gradient and one real step give the direction, which for SGD, Adam, AdamW and their like is proportional to the
    rate; then the loss is looked at along it, in about ten forward passes of each batch: by factors of four from the
    optimizer's own rate to where the loss is no longer below what it was, then by the secant of (loss(lr) - loss(0))
    / lr, which for a quadratic loss is a straight line. There it is 2 g.d / d.H.d for gradient g, direction d and
    Hessian H, and 2 / lambda where H has the one eigenvalue lambda (Kalra & Barkeshli 2024, arXiv 2406.09405;
    Lewkowycz et al. 2020).

    batches: a few batches of (inputs, targets), or a loader of few; the loss is the mean over them. With several
    parameter groups it is the first group's rate, the others in the ratio that they have.
    tolerance: how far apart, relatively, two looks at the root may be.

    Returns the rate; infinity where no rate raises the loss. Model, optimizer, gradients and random state are
    afterwards, to the bit, what they were before, also after an exception. Every forward pass draws the same random
    numbers, so that dropout does not look like a change of the loss.
    Raises ValueError where the loss is not finite, or falls at no rate: the step goes uphill, as momentum can make it,
    or the gradient is zero.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance!r}; it is relative, e.g. 0.02")
    check_model(model, optimizer)
    ratios, first = group_ratios(optimizer)
    loss_of, device = plain_step(model, loss_fn), device_of(model)
    given: tuple[Any, ...] = () if isinstance(batches, Iterator) else (batches,)
    with kept(model, optimizer, loss_fn=loss_fn, functions=(loss_fn,), loaders=given):
        samples = [on_device(batch, device) for batch in batches]
        if not samples:
            raise ValueError("batches must hold at least one batch, got none; give a list of a few")
        randomness = random_state()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        before = [p.detach().clone() for p in parameters]
        loss_now = _backward(optimizer, loss_of, samples)
        rounding = 4 * torch.finfo(before[0].dtype).eps * abs(loss_now)
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            lr = ratio * REFERENCE_LR
            group["lr"] = torch.full_like(group["lr"], lr) if isinstance(group["lr"], Tensor) else lr
        optimizer.step()
        with torch.no_grad():
            directions = [(p - start) / REFERENCE_LR for p, start in zip(parameters, before, strict=True)]

        def excess(lr: float) -> float:
            """(loss after a step at this rate - loss now) / rate: below zero where the step lowers the loss.

            Zero where the change is too small to be told from rounding.
            """
            set_random_state(randomness)
            with torch.no_grad():
                for parameter, start, direction in zip(parameters, before, directions, strict=True):
                    parameter.copy_(start + lr * direction)
                found = _mean_loss(loss_of, samples)
            if abs(found - loss_now) <= rounding:
                return 0.0
            return (found - loss_now) / lr if math.isfinite(found) else math.inf

        return _find_root(excess, first, tolerance)


def _backward(optimizer: Any, loss_of: Callable[[Any], Tensor], samples: list[Any]) -> float:
    """The mean loss of the batches; its gradient is left in the parameters."""
    optimizer.zero_grad()
    total = 0.0
    for batch in samples:
        loss = loss_of(batch)
        check_loss(loss)
        (loss.reshape(()) / len(samples)).backward()
        total += float(loss.detach()) / len(samples)
    if not math.isfinite(total):
        raise ValueError(f"the loss must be finite before the step, got {total}; start from a model that is sane")
    return total


def _mean_loss(loss_of: Callable[[Any], Tensor], samples: list[Any]) -> float:
    return math.fsum(float(loss_of(batch)) / len(samples) for batch in samples)


def _find_root(excess: Callable[[float], float], start: float, tolerance: float) -> float:
    """Where a function that is negative near 0 stops being so; infinity where it does so nowhere it was looked."""
    low, f_low, high, f_high = 0.0, 0.0, math.inf, math.inf
    lr = start
    for _ in range(MAX_GROWTHS):
        value = excess(lr)
        if value < 0:
            low, f_low = lr, value
        elif value > 0:
            high, f_high = lr, value
        if high < math.inf and (low or not value):
            break
        lr = lr / GROWTH if value > 0 else lr * GROWTH
    if not low:
        raise ValueError(
            f"the next step must lower the loss at some learning rate, got none around {start:.3g}; the gradient is "
            "zero, or the optimizer's momentum goes uphill, so take one without state"
        )
    if high == math.inf:
        return math.inf
    root = last = math.nan
    for _ in range(MAX_PASSES):
        last, root = root, low - f_low * (high - low) / (f_high - f_low) if f_high < math.inf else math.nan
        if not low <= root <= high:  # the loss exploded at one end, or rounding: the middle of the decades
            root = math.sqrt(low * high)
        if abs(root / last - 1) <= tolerance:
            break
        value = excess(root)
        # The Illinois rule: an end that stays twice counts half, so that the root is closed in on from both sides.
        if value < 0:
            f_high = f_high / 2 if last < root else f_high
            low, f_low = root, value
        else:
            f_low = f_low / 2 if last > root else f_low
            high, f_high = root, value
        if high / low - 1 <= tolerance:
            break
    return root
