"""Lightning's `Tuner` and `LearningRateFinder` with `lrlib.range_test` in them: change the import, keep the calls.

The range test calls training_step, backward, the batch hooks and configure_gradient_clipping. In it `self.log` does
nothing, and other hooks are not called. Training afterwards is bit-identical to training without it.
"""

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from lrlib.finder import restorers
from lrlib.finder.result import RangeTestResult
from lrlib.finder.sweeps import range_test

# Lightning is installed under two names, whose classes differ: the one in use counts, else the one installed.
_NAMES = [name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
try:
    _NAMES += ["lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"]
    pl: Any = importlib.import_module(_NAMES[0])
except ModuleNotFoundError as err:
    raise ModuleNotFoundError("lrlib.peers.lightning requires Lightning: pip install lightning", name=err.name) from err


class FoundLR:
    """What `Tuner.lr_find` returns. result: a RangeTestResult; results: {"lr": [...], "loss": [...]}, raw losses."""

    def __init__(self, result: RangeTestResult) -> None:
        self.result = result
        self.results = {"lr": result.sweeps[0].lr.tolist(), "loss": result.sweeps[0].loss.tolist()}

    def suggestion(self, *_: Any, **__: Any) -> float:
        """Return the suggested learning rate of the first parameter group; Lightning's arguments have no effect."""
        return self.result.suggest().lr

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Draw the range test and return its figure, which a notebook shows."""
        return self.result.plot(ax, marks=None if suggest else []).figure


class LearningRateFinder(pl.callbacks.LearningRateFinder):  # type: ignore[misc]
    """Lightning's callback, with its arguments. optimal_lr: a FoundLR; result: its RangeTestResult.

    Its 100 steps over eight decades are too few for momentum 0.9: the default is 200. A suggestion with low confidence
    is not set, and a warning says so.
    """

    result: RangeTestResult | None = None

    def __init__(
        self, min_lr: float = 1e-8, max_lr: float = 1, num_training_steps: int = 200, *others: Any, **settings: Any
    ) -> None:
        super().__init__(min_lr, max_lr, num_training_steps, *others, **settings)
        if self._mode != "exponential":
            raise ValueError(f'mode must be "exponential", got {self._mode!r}; it spreads the steps over all decades')

    def lr_find(self, trainer: Any, pl_module: Any) -> None:
        """Run the range test from the current state of training, and set the suggestion if update_attr is True."""
        if trainer.fast_dev_run:
            pl.utilities.rank_zero_warn("the learning-rate finder is skipped because of fast_dev_run")
        else:
            name = self._update_attr and pl.tuner.lr_finder._determine_lr_attr_name(pl_module, self._attr_name)
            trainer.fit_loop.setup_data()  # as training does next, unless it has begun
            limits = {"start_lr": self._min_lr, "end_lr": self._max_lr, "diverge_th": self._early_stop_threshold}
            self.result = _sweep(trainer, pl_module, num_iter=self._num_training_steps, **limits)
            self.optimal_lr = FoundLR(self.result)
            suggestion = self.result.suggest()
            if name and suggestion.reliable:
                pl.utilities.parsing.lightning_setattr(pl_module, name, suggestion.lr)
                _set(trainer, suggestion.lr)
                pl.utilities.rank_zero_info(f"{name} set to {suggestion.lr:.3g}: {suggestion.reason}")
            elif name:
                pl.utilities.rank_zero_warn(f"{name} stays as it is: {suggestion.reason}")
        if self._early_exit:  # of a Tuner, whose trainer may be of Lightning's other package
            package = type(trainer.state).__module__.partition(".trainer")[0]
            raise sys.modules[f"{package}.utilities.exceptions"]._TunerExitException


class Tuner(pl.tuner.Tuner):  # type: ignore[misc]
    """Lightning's Tuner, with lrlib's range test in lr_find."""

    def lr_find(
        self, model: Any, train_dataloaders: Any = None, val_dataloaders: Any = None, dataloaders: Any = None,
        datamodule: Any = None, method: str = "fit", min_lr: float = 1e-8, max_lr: float = 1, num_training: int = 200,
        **settings: Any,
    ) -> FoundLR | None:  # fmt: skip
        """Run the range test before training; arguments as Lightning's, settings are LearningRateFinder's."""
        trainer, finder = self._trainer, LearningRateFinder(min_lr, max_lr, num_training, **settings)
        others = [c for each in trainer.callbacks for c in type(each).__mro__ if c.__name__ == "LearningRateFinder"]
        if method != "fit" or dataloaders is not None or others:
            raise ValueError("lr_find needs method='fit', train_dataloaders, and no LearningRateFinder in the trainer")
        finder._early_exit, trainer.callbacks = True, [finder, *trainer.callbacks]
        # trainer.fit draws random numbers, also from generators of loaders, while it sets up the data.
        held = tree_leaves([train_dataloaders, dict(vars(model)), vars(datamodule) if datamodule else None])
        for _ in range(2):  # what a loader holds, and what its sampler does
            held += [value for owner in held for value in getattr(owner, "__dict__", {}).values()]
        drawn: list[Any] = [restorers.of(each) for each in held if isinstance(each, restorers.Generator)]
        drawn += restorers.of_random_state()
        try:
            trainer.fit(model, train_dataloaders, val_dataloaders, datamodule)
        finally:
            trainer.callbacks = [each for each in trainer.callbacks if each is not finder]
            for restore in drawn:
                restore()
        return finder.optimal_lr


class _Batches:
    """The trainer's training batches, from iterators of their own: those of the current epoch are not touched."""

    def __init__(self, trainer: Any) -> None:
        combined = trainer.fit_loop._combined_loader  # trainer.train_dataloader does not have its mode
        self.loader = type(combined)(combined.iterables, combined._mode)
        self.n = min(trainer.num_training_batches, sys.maxsize)  # infinite where loaders have no length

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for index, (batch, *_) in enumerate(islice(self.loader, self.n)):
            yield SimpleNamespace(batch=batch, index=index)  # range_test does not look into it: Lightning moves it


def _sweep(trainer: Any, module: Any, **settings: Any) -> RangeTestResult:
    arguments = inspect.signature(module.training_step).parameters
    if len(trainer.optimizers) != 1 or not module.automatic_optimization or "dataloader_iter" in arguments:
        raise ValueError("the finder needs one optimizer, automatic optimization, and a training_step with a batch")
    [optimizer], plugin, strategy = trainer.optimizers, trainer.precision_plugin, trainer.strategy

    def step(held: SimpleNamespace) -> Tensor:
        module.log = module.log_dict = lambda *_, **__: None  # range_test restores them
        batch = module._on_before_batch_transfer(plugin.convert_input(held.batch), dataloader_idx=0)
        batch = strategy.batch_to_device(batch, dataloader_idx=0)
        output = strategy.training_step(batch, *([held.index] if len(arguments) > 1 else []))
        return output["loss"] if isinstance(output, Mapping) else output

    def clip(*_: Any) -> None:
        module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    with optimizer.register_step_pre_hook(clip):
        return range_test(
            module, optimizer, loader=_Batches(trainer), step_fn=step, repeats=1,
            scaler=getattr(plugin, "scaler", None) or module,
            accumulation_steps=trainer.accumulate_grad_batches,
            progress=bool(trainer.progress_bar_callback and trainer.progress_bar_callback.is_enabled), **settings,
        )  # fmt: skip


def _set(trainer: Any, lr: float) -> None:
    """Set a learning rate in the optimizer's groups, in their ratios, and in what schedulers start from."""
    groups = trainer.optimizers[0].param_groups
    keys = ("max_lr", "initial_lr", "lr") if trainer.global_step == 0 else ("lr",)  # at first, the one to be reached
    factor = lr / float(next(groups[0][key] for key in keys if key in groups[0]))
    for group in groups:
        for key in {"lr", "initial_lr", "max_lr", "min_lr"} & set(group):
            group[key] = group[key] * factor
    for config in trainer.lr_scheduler_configs:
        for scheduler in (config.scheduler, *getattr(config.scheduler, "_schedulers", ())):
            for key in {"base_lrs", "max_lrs"} & set(vars(scheduler)):
                setattr(scheduler, key, [factor * each for each in getattr(scheduler, key)])
