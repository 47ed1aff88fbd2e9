"""One update, and one validation, of a user's model, in one process or several."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lrlib.finder.batches import call_model, inputs_and_targets, n_samples, on_device, tensors_of
from lrlib.finder.checks import check_accuracy, sharded_root
from lrlib.finder.settings import Settings


@dataclass(eq=False)
class Training:
    """One update, and one validation, of the user's model."""

    model: nn.Module
    optimizer: Any
    loss_fn: Any  # None with step_fn
    step_fn: Any
    settings: Settings
    scaler: Any
    val_metric: Any

    def __post_init__(self) -> None:
        self.device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        self.ranks = Ranks(self.device)
        self.batch: Any = None  # the last one, for the note of an exception
        self.loss: Any = None  # of the update under way, as soon as it is known
        self.first_batches: list[Any] = []  # of the first update
        self.n_skipped = 0  # updates that the scaler left out
        self._outputs: list[Tensor] = []
        self._finite_outputs: bool | None = None  # whether those of the first update were
        self._finite_parameters: list[tuple[str, Tensor]] = []  # that were so before the first update
        self._lr, self._is_checked, groups = 0.0, False, self.optimizer.param_groups
        self._momentum = [{key: group[key] for key in ("momentum", "betas") if key in group} for group in groups]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around a sweep: the model's outputs are seen, and lr is set again right before each optimizer step."""
        handles = [self.model.register_forward_hook(self._see_output)]
        for optimizer in _with_hooks(self.optimizer):
            handles.append(optimizer.register_step_pre_hook(self._set_lr))
            handles.append(optimizer.register_step_post_hook(self._check_lr))
            optimizer._optimizer_step_post_hooks.move_to_end(handles[-1].id, last=False)
        self.n_skipped, self._finite_outputs = 0, None
        self._finite_parameters = [(name, p) for name, p in self.model.named_parameters() if _are_finite([p])]
        if not self.model.training:
            self.model.train()
        _set_mode(self.optimizer, "train")
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def update(self, batches: Iterator[Any], lr: float) -> float:
        """One update at a learning rate. Returns the mean loss of its batches, in all processes."""
        n_batches = self.settings.accumulation_steps
        self._lr, self._is_checked = lr, False
        self._set_lr()
        self.optimizer.zero_grad()
        self.loss, self._outputs = None, []
        for _ in range(n_batches):
            self.batch = next(batches)
            if len(self.first_batches) < n_batches:
                self.first_batches.append(self.batch)
            torch.clear_autocast_cache()  # around the range test, autocast would go on with the weights it cast first
            loss = self._loss_of(on_device(self.batch, self.device))
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
                advice = "return for example outputs.loss, sum(losses.values()) or losses.mean()"
                raise TypeError(f"the loss must be a tensor of one number, got {got}; {advice}")
            if not loss.requires_grad:
                raise ValueError("the loss must require grad, got one without; omit detach(), item() and no_grad()")
            share = loss.reshape(()) if n_batches == 1 else loss.reshape(()) / n_batches
            self.loss = share.detach() if self.loss is None else self.loss + share.detach()
            if self.scaler is None:
                share.backward()
            elif callable(getattr(self.scaler, "backward", None)):
                self.scaler.backward(share)
            else:
                self.scaler.scale(share).backward()
        self._step_optimizer()
        if self._finite_outputs is None:
            self._finite_outputs = _are_finite(self._outputs)
        return self.ranks.reduce(float(self.loss))[0] / self.ranks.n

    def validate(self, batches: Sequence[Any]) -> float:
        """The mean of the metric over the samples of all processes' batches, in eval mode without gradients."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        _set_mode(self.optimizer, "eval")
        total, n_seen = 0.0, 0
        with torch.no_grad():
            for batch in batches:
                n = n_samples(batch)
                total += n * float(self._metric(on_device(batch, self.device)))
                n_seen += n
        for module, training in modes:
            module.training = training
        _set_mode(self.optimizer, "train")
        total, n_all = self.ranks.reduce(total, n_seen)
        return total / n_all

    def evidence(self) -> str | None:
        """The first thing that is not finite in the current update, which shows that the training has diverged."""
        if self.loss is not None and not bool(torch.isfinite(self.loss)):
            return f"the loss was {float(self.loss)}"
        if self._finite_outputs and not _are_finite(self._outputs):
            return "the model's output was not finite"
        broken = [name for name, p in self._finite_parameters if not _are_finite([p])]
        return f"{broken[0]} was not finite" if broken else None

    def _see_output(self, *received: Any) -> None:
        self._outputs = [tensor.detach() for tensor in tensors_of(received[-1])]

    def _set_lr(self, *_: Any) -> None:
        """Set every group's lr; a scheduler that step_fn or a hook steps must not change it or the momentum."""
        groups = self.optimizer.param_groups
        for group, ratio, momentum in zip(groups, self.settings.group_ratios, self._momentum, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self._lr * ratio)
            else:
                group["lr"] = self._lr * ratio
            group.update(momentum)

    def _check_lr(self, *_: Any) -> None:
        """Raise ValueError if the optimizer's step has set another lr than that of the sweep."""
        if self._is_checked:  # a subclass's step() calls its base's, and the hooks of both run
            return
        self._is_checked = True
        used, swept = float(self.optimizer.param_groups[0]["lr"]), self._lr * self.settings.group_ratios[0]
        if not math.isclose(used, swept, rel_tol=1e-5):
            what = f"{self.settings.optimizer}.step() must use the learning rate of the sweep"
            raise ValueError(f"{what}, got {used:.3g} instead of {swept:.3g}; pass another optimizer")

    def _step_optimizer(self) -> None:
        is_scaled = hasattr(self.scaler, "unscale_")
        if is_scaled:  # here and not in step(), which leaves it to a fused optimizer: hooks would see scaled gradients
            self.scaler.unscale_(self.optimizer)
        norm = self.settings.clip_norm
        if norm is not None and (sharded := sharded_root(self.model)) is not None:
            sharded.clip_grad_norm_(norm)  # each process holds a part of every gradient
        elif norm is not None:  # a parameter in two groups is clipped once
            parameters = {id(p): p for group in self.optimizer.param_groups for p in group["params"]}
            nn.utils.clip_grad_norm_(parameters.values(), norm)
        self._set_lr()
        if not is_scaled:
            self.optimizer.step()
            return
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.n_skipped += self.scaler.get_scale() < scale

    def _loss_of(self, batch: Any) -> Any:
        if self.loss_fn is None:
            return self.step_fn(batch)
        inputs, targets = inputs_and_targets(batch)
        return self.loss_fn(call_model(self.model, inputs), targets)

    def _metric(self, batch: Any) -> Any:
        if callable(self.val_metric):
            return self.val_metric(batch)
        if self.val_metric == "loss":
            return self._loss_of(batch)
        inputs, targets = inputs_and_targets(batch)
        logits = call_model(self.model, inputs)
        check_accuracy(logits, targets)
        return (logits.argmax(dim=-1) == targets).float().mean()


class Ranks:
    """The processes of torch.distributed's default group, or one: all call reduce at the same place, since it waits."""

    def __init__(self, device: torch.device) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.n, self.rank = (distributed.get_world_size(), distributed.get_rank()) if joined else (1, 0)
        self._device = torch.device("cpu") if joined and "gloo" in str(distributed.get_backend()) else device

    def reduce(self, *numbers: float, operation: str = "SUM") -> list[float]:
        """Each number's sum over the processes, or its "MIN"."""
        if self.n == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(values, getattr(distributed.ReduceOp, operation))
        return values.tolist()


def _with_hooks(optimizer: Any) -> list[Any]:
    """The torch optimizers that make an optimizer's step: itself, or those that a wrapper holds."""
    each = {id(each): each for each in (optimizer, *getattr(optimizer, "__dict__", {}).values())}.values()
    hooked = [one for one in each if isinstance(getattr(one, "_optimizer_step_pre_hooks", None), OrderedDict)]
    return [one for one in hooked if any(group is optimizer.param_groups[0] for group in one.param_groups)]


def _are_finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor.detach()).all()) for tensor in tensors if tensor.is_floating_point())


def _set_mode(optimizer: Any, mode: str) -> None:
    """Call optimizer.train() or .eval() where it has them, as schedule-free optimizers do."""
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        getattr(optimizer, mode)()
