"""One update, and one validation, of a user's model."""

from collections.abc import Mapping
from contextlib import nullcontext

import torch

from lrlib.finder.batches import inputs_and_targets, n_samples, on_device


class Training:
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
            batch = on_device(self.batch, self.device)
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
        total, n_seen = 0.0, 0
        with torch.no_grad(), self._autocast():
            for batch in batches:
                n = n_samples(batch)
                total += n * float(self._metric(on_device(batch, self.device)))
                n_seen += n
        for module, training in modes:
            module.training = training
        return total / n_seen

    def _metric(self, batch):
        if callable(self.val_metric):
            return self.val_metric(batch)
        if self.val_metric == "loss":
            return self.loss_of(batch)
        inputs, targets = inputs_and_targets(batch)
        return (_call(self.model, inputs).argmax(dim=-1) == targets).float().mean()

    def _autocast(self):
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def plain_step(model, loss_fn):
    def loss_of(batch):
        inputs, targets = inputs_and_targets(batch)
        return loss_fn(_call(model, inputs), targets)

    return loss_of


def _call(model, inputs):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def device_of(model):
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


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
