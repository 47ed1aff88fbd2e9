"""torch-lr-finder's surface (0.2.2) with lrlib's restoration and reading behind it; torch-lr-finder is not needed.

Change `from torch_lr_finder import LRFinder` into `from lrlib.peers.torch_lr_finder import LRFinder`. `history` and
`best_loss` are to the bit what torch-lr-finder keeps. What differs:

- after range_test, also after an exception or Ctrl-C, all is as before it, the random state too: reset() is needed no
  more (it goes back to the state at construction, as theirs does);
- `result` is the sweep with raw losses, and plot() marks what lrlib suggests from them;
- a loss that is NaN ends the sweep, where theirs goes on; one below zero does not, where theirs stops at once.
"""

import copy
import importlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from lrlib.finder.extras import need
from lrlib.finder.restore import kept
from lrlib.finder.result import RangeTestResult
from lrlib.peers.reading import result_of_sweep
from lrlib.peers.torch_lr_finder_parts import (
    DataLoaderIter,
    ExponentialLR,
    LinearLR,
    RisingLR,
    StateCacher,
    TrainDataLoaderIter,
    ValDataLoaderIter,
)

__all__ = [
    "DataLoaderIter",
    "ExponentialLR",
    "LRFinder",
    "LinearLR",
    "StateCacher",
    "TrainDataLoaderIter",
    "ValDataLoaderIter",
]
sys.modules[f"{__name__}.lr_finder"] = sys.modules[__name__]  # some import from torch_lr_finder.lr_finder


class LRFinder:
    """torch-lr-finder's LRFinder; the arguments are its own.

    history: {"lr": [...], "loss": [...]}, the first parameter group's rates and the losses' running mean.
    best_loss: the least of it. result: the last sweep as a RangeTestResult with raw losses, None before the first.
    Raises RuntimeError if a scheduler is attached to the optimizer, ValueError for an amp_backend that is not there.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: Callable[..., torch.Tensor],
        device: str | torch.device | None = None,
        memory_cache: bool = True,
        cache_dir: str | None = None,
        amp_backend: str | None = None,
        amp_config: Mapping[str, Any] | None = None,
        grad_scaler: Any = None,
    ) -> None:
        self.optimizer = optimizer
        self._check_for_scheduler()
        self.model, self.criterion = model, criterion
        self.history: dict[str, list[float]] = {"lr": [], "loss": []}
        self.best_loss: float | None = None
        self.result: RangeTestResult | None = None
        self._swept: dict[str, list[float]] = {}  # history as the sweep left it
        self.memory_cache, self.cache_dir = memory_cache, cache_dir
        available = ["torch", *(["apex"] if importlib.util.find_spec("apex") else [])]
        if amp_backend and amp_backend not in available:
            raise ValueError(
                f"amp_backend must be None or one of {', '.join(available)}, got {amp_backend!r}; choose one"
            )
        if amp_backend == "torch" and grad_scaler is None:
            raise ValueError(
                'grad_scaler must be given with amp_backend "torch", got None; give torch.amp.GradScaler()'
            )
        self.amp_backend, self.amp_config, self.grad_scaler = amp_backend, amp_config, grad_scaler
        self.model_device = next(model.parameters()).device
        self.device = device if device else self.model_device
        self.state_cacher = StateCacher(memory_cache, cache_dir=cache_dir)
        self.state_cacher.store("model", model.state_dict())
        self.state_cacher.store("optimizer", optimizer.state_dict())

    def reset(self) -> None:
        """Put model and optimizer into their states at construction; after range_test they are as before it anyway."""
        self.model.load_state_dict(self.state_cacher.retrieve("model"))
        self.optimizer.load_state_dict(self.state_cacher.retrieve("optimizer"))
        self.model.to(self.model_device)

    def range_test(
        self,
        train_loader: DataLoader[Any] | TrainDataLoaderIter,
        val_loader: DataLoader[Any] | ValDataLoaderIter | None = None,
        start_lr: float | list[float] | None = None,
        end_lr: float = 10,
        num_iter: int = 100,
        step_mode: str = "exp",
        smooth_f: float = 0.05,
        diverge_th: float = 5,
        accumulation_steps: int = 1,
        non_blocking_transfer: bool = True,
    ) -> None:
        """Sweep once, from the random state as it is, and put everything back; the arguments are torch-lr-finder's.

        With val_loader, whose every batch is gone through after each update, history and suggestion are of its losses.
        Raises ValueError for arguments that cannot be, RuntimeError if a scheduler is attached to the optimizer.
        """
        self.history, self.best_loss, self.result = {"lr": [], "loss": []}, None, None
        loaders: list[Any] = [getattr(loader, "data_loader", loader) for loader in (train_loader, val_loader) if loader]
        offload = None if self.memory_cache else "disk"
        sweep = _Sweep(num_iter, smooth_f, diverge_th, accumulation_steps, non_blocking_transfer)
        began = time.perf_counter()
        try:
            with kept(self.model, self.optimizer, scaler=self.grad_scaler, loaders=loaders, offload=offload):
                self.model.to(self.device)
                self._check_for_scheduler()
                if start_lr:
                    self._set_learning_rate(start_lr)
                schedule = _schedule_of(step_mode)(self.optimizer, end_lr, num_iter)
                if not 0 <= smooth_f < 1:
                    raise ValueError(f"smooth_f must be in [0, 1), got {smooth_f}; 0 turns the running mean off")
                train_iter = _iterator("train_loader", train_loader, TrainDataLoaderIter)
                val_iter = _iterator("val_loader", val_loader, ValDataLoaderIter) if val_loader else None
                lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
                self._run(sweep, train_iter, val_iter, schedule)
        finally:
            self.model.to(self.model_device)
        self.result = result_of_sweep(
            self.history["lr"],
            sweep.train_losses,
            val=sweep.val_losses,
            stop_reason=sweep.stop_reason or f"reached end_lr {end_lr:.3g}",
            optimizer=self.optimizer,
            group_ratios=[lr / lrs[0] for lr in lrs],
            seconds=sweep.seconds,
            seconds_state=time.perf_counter() - began - sweep.seconds,
            end_lr=float(end_lr),
            num_iter=num_iter,
            step_mode=step_mode.lower(),
            smooth_f=float(smooth_f),
            diverge_th=float(diverge_th),
            accumulation_steps=accumulation_steps,
            device=str(self.device),
        )
        self._swept = copy.deepcopy(self.history)
        print(f"Range test done after {len(self.history['lr'])} of {num_iter} updates; plot() draws it")

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        show_lr: float | None = None,
        ax: Any = None,
        suggest_lr: bool = True,
    ) -> Any:
        """Draw history without its first skip_start and last skip_end updates, on ax or on a figure that is shown.

        suggest_lr: mark, print and return a rate too: what lrlib.suggest reads from the raw losses of the last sweep;
        of a history that was put there by hand, where it falls fastest from one update to the next.
        Returns ax, or (ax, lr) with suggest_lr. Raises ValueError for a skip below 0 or a show_lr that is not a float,
        RuntimeError if too few updates are left to suggest from.
        """
        for name, skip in (("skip_start", skip_start), ("skip_end", skip_end)):
            if skip < 0:
                raise ValueError(f"{name} must be at least 0, got {skip}; it is a number of updates")
        if show_lr is not None and not isinstance(show_lr, float):
            raise ValueError(f"show_lr must be a float, got {show_lr!r}; it is a rate")
        n_updates, n_needed = len(self.history["lr"]), skip_start + skip_end + 2
        if suggest_lr and n_updates < n_needed:
            raise RuntimeError(
                f"Need at least {n_needed} updates to suggest a rate, got {n_updates}; skip fewer, or sweep for longer"
            )
        shown = slice(skip_start, -skip_end if skip_end else None)
        lrs, losses = list(self.history["lr"])[shown], list(self.history["loss"])[shown]
        plt = need("matplotlib.pyplot", what="a plot", extra="plot")
        own_axes = ax is None
        if own_axes:
            _, ax = plt.subplots()
        ax.plot(lrs, losses)
        if suggest_lr:
            lr, words = self._suggestion(lrs, losses)
            print(words)
            ax.scatter(lr, np.interp(lr, lrs, losses), s=75, color="red", zorder=3, label="suggested lr")
            ax.legend()
        if show_lr is not None:
            ax.axvline(show_lr, color="red")
        if log_lr:
            ax.set_xscale("log")
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        if own_axes:
            plt.show()
        return (ax, lr) if suggest_lr else ax

    def _suggestion(self, lrs: list[float], losses: list[float]) -> tuple[float, str]:
        if self.result is None or self.history != self._swept:
            lr = lrs[int(np.gradient(np.array(losses)).argmin())]
            return lr, f"Suggested LR: {lr:.2E}, the steepest of a history that no sweep left here"
        suggestion = self.result.suggest()
        verdict = "reliable" if suggestion.reliable else "NOT RELIABLE"
        return suggestion.lr, f"Suggested LR: {suggestion.lr:.2E}, {verdict}: {suggestion.reason}"

    def _run(
        self, sweep: "_Sweep", train_iter: TrainDataLoaderIter, val_iter: ValDataLoaderIter | None, schedule: RisingLR
    ) -> None:
        began = time.perf_counter()
        for _ in tqdm(range(sweep.num_iter)):
            lr = float(self.optimizer.param_groups[0]["lr"])
            loss = self._train_batch(
                train_iter, sweep.accumulation_steps, non_blocking_transfer=sweep.non_blocking_transfer
            )
            sweep.train_losses.append(loss)
            if val_iter is not None:
                loss = self._validate(val_iter, non_blocking_transfer=sweep.non_blocking_transfer)
                sweep.val_losses.append(loss)
            schedule.step()
            if self.best_loss is None:
                sweep.first_loss = self.best_loss = loss
            elif sweep.smooth_f > 0:
                loss = sweep.smooth_f * loss + (1 - sweep.smooth_f) * self.history["loss"][-1]
            self.best_loss = min(self.best_loss, loss)
            self.history["lr"].append(lr)
            self.history["loss"].append(loss)
            if sweep.has_diverged(loss, self.best_loss):
                sweep.stop_reason = f"the loss diverged at lr {lr:.3g}"
                print("Stopped early: the loss has diverged")
                break
        sweep.seconds = time.perf_counter() - began

    def _train_batch(
        self, train_iter: TrainDataLoaderIter, accumulation_steps: int, non_blocking_transfer: bool = True
    ) -> float:
        """One update. Returns the mean loss of its batches, before it."""
        self.model.train()
        self.optimizer.zero_grad()
        total: Any = None
        for _ in range(accumulation_steps):
            inputs, labels = self._move_to_device(*next(train_iter), non_blocking=non_blocking_transfer)
            with self._autocast():
                loss = self.criterion(self.model(inputs), labels)
            loss = loss / accumulation_steps
            if self.amp_backend == "torch":
                self.grad_scaler.scale(loss).backward()
            elif self.amp_backend == "apex" and hasattr(self.optimizer, "_amp_stash"):
                with importlib.import_module("apex.amp").scale_loss(loss, self.optimizer) as scaled:
                    scaled.backward()
            else:
                loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if self.amp_backend == "torch":
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()
        return total.item()

    def _validate(self, val_iter: ValDataLoaderIter, non_blocking_transfer: bool = True) -> float:
        """The mean loss over the samples of the whole loader, in eval mode."""
        self.model.eval()
        total = 0.0
        with torch.no_grad():
            for inputs, labels in val_iter:
                inputs, labels = self._move_to_device(inputs, labels, non_blocking=non_blocking_transfer)
                total += self.criterion(self.model(inputs), labels).item() * len(labels)
        return total / len(val_iter.dataset)

    def _autocast(self) -> Any:
        if self.amp_backend != "torch":
            return nullcontext()
        return torch.amp.autocast(**{"device_type": torch.device(self.device).type, **(self.amp_config or {})})

    def _move_to_device(self, inputs: Any, labels: Any, non_blocking: bool = True) -> tuple[Any, Any]:
        def move(item: Any) -> Any:
            if hasattr(item, "to"):
                return item.to(self.device, non_blocking=non_blocking)
            if isinstance(item, (tuple, list)):
                return type(item)([move(part) for part in item])
            return {key: move(part) for key, part in item.items()} if isinstance(item, dict) else item

        return move(inputs), move(labels)

    def _set_learning_rate(self, new_lrs: float | list[float]) -> None:
        groups = self.optimizer.param_groups
        new_lrs = new_lrs if isinstance(new_lrs, list) else [new_lrs] * len(groups)
        if len(new_lrs) != len(groups):
            raise ValueError(
                f"start_lr must have one rate for each parameter group, got {len(new_lrs)} for {len(groups)}; give one "
                "number for all of them"
            )
        for group, lr in zip(groups, new_lrs, strict=True):
            group["lr"] = lr

    def _check_for_scheduler(self) -> None:
        if any("initial_lr" in group for group in self.optimizer.param_groups):
            raise RuntimeError(
                "a scheduler is attached to the optimizer, which torch-lr-finder refuses; sweep before the "
                "scheduler is made, or use lrlib.range_test, which does not mind"
            )


@dataclass
class _Sweep:
    """What a sweep was asked for, and what it found."""

    num_iter: int
    smooth_f: float
    diverge_th: float
    accumulation_steps: int
    non_blocking_transfer: bool
    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    first_loss: float = math.nan
    stop_reason: str | None = None
    seconds: float = 0.0

    def has_diverged(self, loss: float, best: float) -> bool:
        """torch-lr-finder's rule where it makes sense: above zero."""
        if math.isnan(loss) or best > 0:
            return math.isnan(loss) or loss > self.diverge_th * best
        return loss > best + (self.diverge_th - 1) * max(abs(best), (self.first_loss - best) / 10)


def _schedule_of(step_mode: str) -> type[RisingLR]:
    try:
        return {"exp": ExponentialLR, "linear": LinearLR}[step_mode.lower()]
    except KeyError:
        raise ValueError(f'step_mode must be "exp" or "linear", got {step_mode!r}; choose one') from None


def _iterator(name: str, loader: Any, kind: type[Any]) -> Any:
    """The loader as an iterator of the kind, which it may be already: this module's or torch-lr-finder's own."""
    if isinstance(loader, DataLoader):
        return kind(loader)
    theirs = {base.__name__ for base in type(loader).__mro__ if base.__module__.startswith("torch_lr_finder")}
    if isinstance(loader, kind) or kind.__name__ in theirs:
        return loader
    raise ValueError(
        f"`{name}` has unsupported type {type(loader).__name__}; give a DataLoader or an object of a subclass of "
        f"{kind.__name__}"
    )
