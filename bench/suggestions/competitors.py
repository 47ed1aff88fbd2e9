"""The learning rates that other tools read off a range test, each by its own code, where it is installed.

A tool gets the raw losses of a sweep that has been run, one by one, as if it had run it: its running mean, its stop
rule, what it skips at the ends and its reading are its own, with its own defaults. A loss that is not finite ends the
series. What a tool raises, or a curve on which it finds no rate, is no rate: None.
"""

import contextlib
import io
import logging
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, TensorDataset

Floats = npt.NDArray[np.float64]
Rule = Callable[[Floats, Floats], float | None]
FASTAI_STOP = 4  # fastai ends a sweep where the running mean is above so many times its least


def list_tools() -> dict[str, Rule]:
    """tool's rule -> function of (lr, loss), of those tools that are installed."""
    return {name: _guard(rule) for name, (package, rule) in _RULES.items() if find_spec(package)}


def list_missing() -> list[str]:
    """The packages whose tools are not installed, as pip calls them."""
    missing = {package for package, _ in _RULES.values() if not find_spec(package)}
    return sorted(_PIP_NAMES.get(package, package) for package in missing)


def _guard(rule: Callable[[Floats, Floats], Any]) -> Rule:
    def suggest(lr: Floats, loss: Floats) -> float | None:
        bad = np.flatnonzero(~np.isfinite(loss))
        n = bad[0] if len(bad) else len(loss)
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                found = rule(np.asarray(lr)[:n], np.asarray(loss)[:n])
        except Exception:  # whatever a tool raises on a curve, its user gets no learning rate
            return None
        return None if found is None or not 0 < float(found) < np.inf else float(found)

    return suggest


def _model() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(1))])
    return model, torch.optim.SGD(model.parameters(), lr=1e-6)


def _loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(2)))


def _replay(finder_class: type, loss: Floats, **settings: Any) -> Any:
    """A finder of torch-lr-finder's kind whose training step gives the next loss of a series."""
    losses = iter(loss.tolist())

    class Series(finder_class):  # type: ignore[misc]
        def _train_batch(self, *_: Any, **__: Any) -> float:
            return next(losses)

    model, optimizer = _model()
    return Series(model, optimizer, None, device="cpu", **settings)


def _torch_lr_finder(lr: Floats, loss: Floats) -> float:
    from matplotlib.figure import Figure
    from torch_lr_finder import LRFinder

    finder = _replay(LRFinder, loss)
    finder.range_test(_loader(), start_lr=lr[0], end_lr=lr[-1], num_iter=len(lr))
    return finder.plot(ax=Figure().add_subplot())[1]


def _monai(lr: Floats, loss: Floats) -> float:
    from monai.optimizers import LearningRateFinder

    finder = _replay(LearningRateFinder, loss, verbose=False)
    finder.range_test(_loader(), start_lr=lr[0], end_lr=lr[-1], num_iter=len(lr), label_extractor=lambda batch: None)
    return finder.get_steepest_gradient()[0]


def _ignite(lr: Floats, loss: Floats) -> float:
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder

    logging.getLogger("ignite").setLevel(logging.ERROR)
    losses = iter(loss.tolist())
    trainer, finder = Engine(lambda engine, batch: next(losses)), FastaiLRFinder()
    model, optimizer = _model()
    saved = {"model": model, "optimizer": optimizer}
    with finder.attach(trainer, saved, num_iter=len(lr), start_lr=lr[0], end_lr=lr[-1]) as attached:
        attached.run(range(len(lr)))
    return finder.lr_suggestion()


def _fastai(name: str) -> Callable[[Floats, Floats], float]:
    def suggest(lr: Floats, loss: Floats) -> float:
        from fastai.callback import schedule
        from fastai.learner import AvgSmoothLoss

        running = AvgSmoothLoss(beta=0.98)
        running.reset()
        recorded: list[torch.Tensor] = []
        for value in torch.tensor(loss, dtype=torch.float32):
            running.accumulate(SimpleNamespace(loss=value))
            recorded.append(running.value)
            if running.value > FASTAI_STOP * min(recorded):
                break
        rates = torch.tensor(lr[: len(recorded)], dtype=torch.float32)
        kept = slice(len(lr) // 10, -5)  # what lr_find hands to its functions
        return getattr(schedule, name)(rates[kept], torch.stack(recorded)[kept], len(lr))[0]

    return suggest


def _lightning(lr: Floats, loss: Floats) -> float | None:
    from lightning.pytorch.tuner.lr_finder import _LRCallback, _LRFinder

    callback = _LRCallback(num_training=len(lr), early_stop_threshold=4.0)
    rates: Any = SimpleNamespace(lr=[None])
    trainer: Any = SimpleNamespace(
        fit_loop=SimpleNamespace(batch_idx=0),
        accumulate_grad_batches=1,
        lr_scheduler_configs=[SimpleNamespace(scheduler=rates)],
        strategy=SimpleNamespace(broadcast=lambda value: value),
        should_stop=False,
    )
    for step, (rate, value) in enumerate(zip(lr.tolist(), torch.tensor(loss, dtype=torch.float32), strict=True)):
        rates.lr[0] = rate
        trainer.fit_loop.batch_idx = step
        callback.on_train_batch_start(trainer, None, None, step)
        trainer.global_step = step + 1  # the trainer has counted the step by the time the batch ends
        callback.on_train_batch_end(trainer, None, {"loss": value}, None, step)
        if trainer.should_stop:
            break
    finder = _LRFinder("exponential", lr[0], lr[-1], len(lr))
    finder.results = {"lr": callback.lrs, "loss": callback.losses}
    return finder.suggestion()


_PIP_NAMES = {"torch_lr_finder": "torch-lr-finder", "ignite": "pytorch-ignite"}
# rule -> (the package that is imported, function)
_RULES: dict[str, tuple[str, Callable[[Floats, Floats], Any]]] = {
    "torch-lr-finder": ("torch_lr_finder", _torch_lr_finder),
    "fastai valley": ("fastai", _fastai("valley")),
    "fastai slide": ("fastai", _fastai("slide")),
    "fastai minimum": ("fastai", _fastai("minimum")),
    "fastai steep": ("fastai", _fastai("steep")),
    "Lightning": ("lightning", _lightning),
    "ignite": ("ignite", _ignite),
    "MONAI": ("monai", _monai),
}
