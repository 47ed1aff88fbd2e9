"""Lightning's learning-rate finder (surface of 2.6) with lrlib's sweep behind it; lrlib.peers.lightning has the names.

What differs from Lightning's own: parameter groups keep their ratios, in the sweep and in what is set after it;
`results` holds raw losses, each the mean over accumulated batches; `suggestion()` is lrlib's, over log rates;
`result` is the RangeTestResult; all is put back to the bit, at the start, at any later epoch and after an exception;
a scheduler that works from its base rates goes on from the suggestion; one that is not reliable is warned of.

The sweep takes the module's training_step, backward and configure_gradient_clipping, the trainer's precision,
accumulation and loader. Hooks of the training loop and optimizer_step are not called.
"""

import copy
import importlib.util
import inspect
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrlib.finder.extras import need
from lrlib.finder.randomness import set_generator_state
from lrlib.finder.result import RangeTestResult
from lrlib.finder.sweeps import range_test
from lrlib.peers.loader_generators import generator_states

# The two names under which Lightning is installed hold two sets of classes: that of the two which is in use is taken,
# and before either is, the one that there is.
USED: list[str] = [name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
FOUND = USED or [name for name in ("lightning", "pytorch_lightning") if importlib.util.find_spec(name)]
if not TYPE_CHECKING and FOUND[:1] == ["pytorch_lightning"]:
    from pytorch_lightning.callbacks import LearningRateFinder as TheirLearningRateFinder
    from pytorch_lightning.tuner import Tuner as TheirTuner
    from pytorch_lightning.utilities.parsing import lightning_hasattr, lightning_setattr
    from pytorch_lightning.utilities.seed import isolate_rng
else:
    from lightning.pytorch.callbacks import LearningRateFinder as TheirLearningRateFinder
    from lightning.pytorch.tuner import Tuner as TheirTuner
    from lightning.pytorch.utilities.parsing import lightning_hasattr, lightning_setattr
    from lightning.pytorch.utilities.seed import isolate_rng

NEVER = 1e300  # a diverge_th that no loss reaches


class FoundLR:
    """What Tuner.lr_find returns, and LearningRateFinder.optimal_lr.

    results: {"lr": [...], "loss": [...]}, the first parameter group's rates and the raw losses. result: the
    RangeTestResult. mode, lr_min, lr_max, num_training: as they were asked for.
    """

    def __init__(self, mode: str, lr_min: float, lr_max: float, num_training: int, result: RangeTestResult) -> None:
        self.mode, self.lr_min, self.lr_max, self.num_training = mode, lr_min, lr_max, num_training
        self.result = result
        [sweep] = result.sweeps
        self.results: dict[str, list[float]] = {"lr": sweep.lr.tolist(), "loss": sweep.loss.tolist()}

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The suggested rate of the first parameter group; None where fewer than two losses are finite.

        skip_begin, skip_end are Lightning's and change nothing: lrlib's rules need the ends of the curve.
        """
        losses = self.results["loss"]
        return self.result.suggest().lr if sum(map(math.isfinite, losses)) > 1 else None

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """The figure of the raw losses over the rates, with the suggestion marked where that is asked for."""
        if ax is None:
            _, ax = need("matplotlib.pyplot", what="a plot", extra="plot").subplots()
        ax.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            ax.set_xscale("log")
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        lr = self.suggestion() if suggest else None
        if lr is not None:
            losses = torch.tensor(self.results["loss"])
            nearest = int((torch.tensor(self.results["lr"]).log() - torch.tensor(lr).log()).abs().argmin())
            ax.plot(lr, losses[nearest], marker="o", markersize=10, color="red")
        if show:
            need("matplotlib.pyplot", what="a plot", extra="plot").show()
        return ax.figure


class LearningRateFinder(TheirLearningRateFinder):
    """Lightning's callback; its arguments are its own. optimal_lr: a FoundLR; result: its RangeTestResult."""

    optimal_lr: Any

    @property
    def result(self) -> RangeTestResult | None:
        return None if self.optimal_lr is None else self.optimal_lr.result

    def lr_find(self, trainer: Any, pl_module: Any) -> None:
        """Sweep, from where training stands, and set the suggestion if update_attr says so; all else is put back."""
        if trainer.fast_dev_run:
            warnings.warn("the learning-rate finder is skipped, since fast_dev_run is on", stacklevel=2)
        else:
            attribute = _attribute_of(pl_module, self._attr_name) if self._update_attr else None
            result = _sweep(
                trainer,
                pl_module,
                start_lr=self._min_lr,
                end_lr=self._max_lr,
                num_iter=self._num_training_steps,
                step_mode="linear" if self._mode == "linear" else "exp",
                diverge_th=NEVER if self._early_stop_threshold is None else self._early_stop_threshold,
            )
            self.optimal_lr = FoundLR(self._mode, self._min_lr, self._max_lr, self._num_training_steps, result)
            if attribute is not None:
                _set(trainer, pl_module, attribute, self.optimal_lr)
        if self._early_exit:
            raise _of_the_trainer(trainer, "utilities.exceptions")._TunerExitException


class Tuner(TheirTuner):
    """Lightning's Tuner, with lrlib's sweep in lr_find; scale_batch_size is Lightning's own."""

    def lr_find(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        method: str = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> FoundLR | None:
        """Sweep before training; the arguments are Lightning's. None where fast_dev_run is on.

        Raises MisconfigurationException for a method that does not fit or several optimizers, ValueError where the
        trainer has a LearningRateFinder already, AttributeError where the module has no lr to set.
        """
        trainer = self._trainer
        if method != "fit" or dataloaders is not None:
            raise _misconfigured(
                trainer, f'lr_find sweeps training, got method {method!r}; give train_dataloaders and "fit"'
            )
        names = {base.__name__ for callback in trainer.callbacks for base in type(callback).__mro__}
        if "LearningRateFinder" in names:
            raise ValueError("the trainer must have no LearningRateFinder, got one; remove it, or leave out the Tuner")
        callback = LearningRateFinder(min_lr, max_lr, num_training, mode, early_stop_threshold, update_attr, attr_name)
        callback._early_exit = True
        trainer.callbacks = [callback, *trainer.callbacks]
        try:
            trainer.fit(model, train_dataloaders, val_dataloaders, datamodule)
        finally:
            trainer.callbacks = [each for each in trainer.callbacks if each is not callback]
        return callback.optimal_lr


class _Batch:
    """A batch that range_test hands on as it is: Lightning moves it."""

    def __init__(self, batch: Any, index: int) -> None:
        self.batch, self.index = batch, index


class _Batches:
    """The trainer's training batches, from iterators of their own: those of an epoch stay where they are."""

    def __init__(self, trainer: Any) -> None:
        combined = trainer.fit_loop._combined_loader
        self.mode, self.n_batches = combined._mode, trainer.fit_loop.max_batches
        self.loaders, self.kind = combined.iterables, type(combined)

    def __iter__(self) -> Iterator[_Batch]:
        fresh = self.kind(self.loaders, self.mode)
        fresh.flattened = [_anew(loader) for loader in fresh.flattened]
        count = None if self.n_batches == float("inf") else self.n_batches
        for index, (batch, *_) in enumerate(islice(iter(fresh), count)):
            yield _Batch(batch, index)


def _anew(loader: Any) -> Any:
    """A DataLoader with workers of its own, where its workers are kept between epochs."""
    if not isinstance(loader, DataLoader) or not loader.persistent_workers:
        return loader
    loader = copy.copy(loader)
    loader._iterator = None
    return loader


def _sweep(trainer: Any, module: Any, **settings: Any) -> RangeTestResult:
    if len(trainer.optimizers) != 1:
        raise _misconfigured(
            trainer, f"the finder sweeps one optimizer, got {len(trainer.optimizers)}; sweep with lrlib.range_test"
        )
    if not module.automatic_optimization:
        raise _misconfigured(
            trainer,
            "the finder needs automatic optimization, got a module that steps itself; sweep with lrlib.range_test",
        )
    if "dataloader_iter" in inspect.signature(module.training_step).parameters:
        raise _misconfigured(trainer, "the finder gives batches, got a training_step of dataloader_iter; take a batch")
    [optimizer] = trainer.optimizers
    call = _of_the_trainer(trainer, "trainer.call")
    takes_index = len(inspect.signature(module.training_step).parameters) > 1
    plugin = trainer.precision_plugin
    scaler = getattr(plugin, "scaler", None)

    def step(held: _Batch) -> Tensor:
        batch = module._on_before_batch_transfer(plugin.convert_input(held.batch), dataloader_idx=0)
        batch = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
        trainer._logger_connector.on_batch_start(batch)
        output = call._call_strategy_hook(trainer, "training_step", batch, *([held.index] if takes_index else []))
        return output["loss"] if isinstance(output, Mapping) else output

    def clip(*_: Any) -> None:
        module.configure_gradient_clipping(
            optimizer,
            gradient_clip_val=trainer.gradient_clip_val,
            gradient_clip_algorithm=trainer.gradient_clip_algorithm,
        )

    bar = trainer.progress_bar_callback
    with _set_aside(trainer, module):
        clipping = optimizer.register_step_pre_hook(clip)
        try:
            return range_test(
                module,
                optimizer,
                None,
                _Batches(trainer),
                step_fn=step,
                backward_fn=module.backward if scaler is None else None,
                scaler=scaler,
                accumulation_steps=trainer.accumulate_grad_batches,
                repeats=1,
                progress=bar is not None and bar.is_enabled,
                **settings,
            )
        finally:
            clipping.remove()


@contextmanager
def _set_aside(trainer: Any, module: Any) -> Iterator[None]:
    """Take from the loop, and put back, what training_step writes to it, and the data of a loop that has not begun."""
    loop, connector = trainer.fit_loop, trainer._logger_connector
    begun = loop._combined_loader is not None
    if not begun:
        _set_up_data(loop)
    logged, names = loop.epoch_loop._results, (connector._current_fx, module._current_fx_name)
    loop.epoch_loop._results = type(logged)(training=True)
    try:
        yield
    finally:
        loop.epoch_loop._results = logged
        connector._current_fx, module._current_fx_name = names
        if not begun:
            loop._combined_loader = None


def _set_up_data(loop: Any) -> None:
    """The loop's loaders, as training sets them up; the random numbers that iterators take at birth are put back."""
    source, states = loop._data_source, []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def dataloader(self) -> Any:
            loaders = source.dataloader()
            states.extend(generator_states(loaders))
            return loaders

    loop._data_source = Watched()
    try:
        with isolate_rng():
            loop.setup_data()
    finally:
        loop._data_source = source
        for generator, state in states:
            set_generator_state(generator, state)


def _set(trainer: Any, module: Any, attribute: str, found: FoundLR) -> None:
    """Set the suggestion in the module, the optimizer's groups in their ratios, and the schedulers' base rates.

    At the start of training it is the rate that schedulers begin from, such as a warm-up's last; later the rate now.
    """
    suggestion, lr = found.result.suggest(), found.suggestion()
    if not suggestion.reliable:
        warnings.warn(f"the suggested lr is not reliable: {suggestion.reason}", stacklevel=4)
    if lr is None:
        return
    lightning_setattr(module, attribute, lr)
    [optimizer] = trainer.optimizers
    first = optimizer.param_groups[0]
    from_base = trainer.global_step == 0 and "max_lr" not in first
    factor = lr / float(first.get("initial_lr", first["lr"]) if from_base else first["lr"])
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group and "max_lr" not in group:  # a cycle's two ends are its own
            group["initial_lr"] = group["initial_lr"] * factor
    for config in trainer.lr_scheduler_configs:
        for scheduler in (config.scheduler, *getattr(config.scheduler, "_schedulers", ())):
            if hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [lr * factor for lr in scheduler.base_lrs]


def _attribute_of(module: Any, name: str) -> str:
    """The name under which the module, or its hparams, has the rate."""
    for attribute in [name] if name else ["lr", "learning_rate"]:
        if lightning_hasattr(module, attribute):
            return attribute
    raise AttributeError(
        f"the module must have {name or 'lr or learning_rate'}, itself or in hparams, to set the suggestion; name it "
        "in attr_name, or give update_attr=False"
    )


def _of_the_trainer(trainer: Any, room: str) -> Any:
    """A module of the one of Lightning's two packages that the trainer is of."""
    theirs = next(base.__module__ for base in type(trainer).__mro__ if base.__name__ == "Trainer")
    return importlib.import_module(f"{theirs.partition('.trainer')[0]}.{room}")


def _misconfigured(trainer: Any, sentence: str) -> Exception:
    error: Exception = _of_the_trainer(trainer, "utilities.exceptions").MisconfigurationException(sentence)
    return error
