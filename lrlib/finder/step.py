"""One update, and one validation, of a user's model."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lrlib.finder.batches import inputs_and_targets, is_whole, n_samples, on_device
from lrlib.finder.checks import check_loss
from lrlib.finder.ranks import Ranks
from lrlib.finder.replicas import Replicas
from lrlib.finder.result import Settings


class Optimizer(Protocol):
    """A torch optimizer, or what behaves like one: its groups are dicts with "params" and "lr"."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def zero_grad(self) -> Any: ...

    def step(self) -> Any: ...


class Training:
    """One update, and one validation, of the user's model."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        loss_of: Callable[[Any], Tensor],
        settings: Settings,
        scaler: Any,
        backward_fn: Callable[[Tensor], Any] | None,
        autocast_dtype: torch.dtype | None,
        device: torch.device,
        val_metric: Any,
        ranks: Ranks,
    ) -> None:
        self.model, self.optimizer, self.loss_of = model, optimizer, loss_of
        self.settings, self.scaler, self.backward_fn, self.device = settings, scaler, backward_fn, device
        self.autocast_dtype, self.val_metric = autocast_dtype, val_metric
        self.ranks, self.replicas = ranks, Replicas(model)
        self.batch: Any = None  # the last one, for the note of an exception
        self.loss: Tensor | None = None  # of the update under way, as soon as it is known
        self.is_loading = False

    def set_lr(self, lr: float) -> None:
        for group, ratio in zip(self.optimizer.param_groups, self.settings.group_ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio

    def update(self, batches: Iterator[Any]) -> Tensor:
        """The mean loss of the update's batches, a tensor of shape (): reading it is the caller's."""
        n_batches = self.settings.accumulation_steps
        self.optimizer.zero_grad()
        self.loss = None
        for _ in range(n_batches):
            with self.ranks.together():
                self.is_loading = True
                self.batch = next(batches)
                self.is_loading = False
            with self.ranks.together():
                batch = on_device(self.batch, self.device)
                with self._autocast():
                    loss = self.loss_of(batch)
                check_loss(loss)
                loss = loss.reshape(())
                share = loss if n_batches == 1 else loss / n_batches
            self.loss = share.detach() if self.loss is None else self.loss + share.detach()
            with self.ranks.together():
                self._backward(share)
        with self.ranks.together():
            self._step_optimizer()
        assert self.loss is not None
        return self.loss

    def validate(self, batches: Sequence[Any]) -> float:
        """The mean of the metric over the samples of all processes' batches, in eval mode without gradients."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        total, n_seen = 0.0, 0
        with self.ranks.together(), torch.no_grad(), self._autocast():
            for batch in batches:
                n = n_samples(batch)
                total += n * float(self._metric(on_device(batch, self.device)))
                n_seen += n
        for module, training in modes:
            module.training = training
        total, n_all = self.ranks.total(total, n_seen)
        return total / n_all

    def _backward(self, loss: Tensor) -> None:
        self.replicas.begin()
        try:
            if self.backward_fn is not None:
                self.backward_fn(loss)
            else:
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        except Exception:
            is_finished = self.replicas.finish(loss)
            self.ranks.is_alone = self.ranks.n > 1 and not is_finished
            raise

    def _step_optimizer(self) -> None:
        if self.scaler is None:
            self._clip()
            self.optimizer.step()
            return
        # Here and not in step(), which leaves it to a fused optimizer: hooks and clipping would see scaled gradients.
        self.scaler.unscale_(self.optimizer)
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _clip(self) -> None:
        norm, value = self.settings.clip_norm, self.settings.clip_value
        if norm is None and value is None:
            return
        # A parameter in two groups, or in two optimizers, is to be clipped once.
        parameters = list({id(p): p for group in self.optimizer.param_groups for p in group["params"]}.values())
        if value is not None:
            nn.utils.clip_grad_value_(parameters, value)
        elif norm is not None and (sharded := sharded_root(self.model)) is not None:
            sharded.clip_grad_norm_(norm)  # each process holds a part of every gradient, and the norm is of the whole
        elif norm is not None:
            nn.utils.clip_grad_norm_(parameters, norm)

    def _metric(self, batch: Any) -> Any:
        if callable(self.val_metric):
            return self.val_metric(batch)
        if self.val_metric == "loss":
            return self.loss_of(batch)
        inputs, targets = inputs_and_targets(batch)
        return (_call(self.model, inputs).argmax(dim=-1) == targets).float().mean()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def plain_step(model: nn.Module, loss_fn: Any) -> Callable[[Any], Tensor]:
    """The forward pass of batches of (inputs, targets)."""

    def loss_of(batch: Any) -> Tensor:
        inputs, targets = inputs_and_targets(batch)
        return loss_fn(_call(model, inputs), targets)

    return loss_of


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def sharded_root(model: nn.Module) -> Any:
    """The outermost FullyShardedDataParallel of a model, or None; known by name, since importing it is slow."""
    for module in model.modules():
        if any(cls.__name__ == "FullyShardedDataParallel" for cls in type(module).__mro__):
            return module
    return None


def _call(model: nn.Module, inputs: Any) -> Any:
    if not isinstance(inputs, (Mapping, tuple, list)) or is_whole(inputs):
        return model(inputs)
    arguments: tuple[Any, ...] = () if isinstance(inputs, Mapping) else tuple(inputs)
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    try:
        return model(*arguments, **named)
    except Exception as err:
        kind, name = type(inputs).__name__, type(model).__name__
        hint = "give step_fn, for example step_fn=lambda batch: loss_fn(model(batch[0]), batch[1])"
        try:
            inspect.signature(model.forward).bind(*arguments, **named)
        except TypeError:
            raise TypeError(
                f"inputs that are a {kind} are spread over the model's arguments, got a {kind} of {len(inputs)} that "
                f"{name} does not take so ({err}); {hint}"
            ) from err
        err.add_note(f"range_test: the {kind} was spread over {name}'s arguments; if it is one input, {hint}")
        raise
