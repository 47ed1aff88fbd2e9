"""Lightning's `Tuner` and `LearningRateFinder` with `lrlib.range_test` in them: change the import, keep the calls.

The range test calls training_step, backward, the batch hooks and configure_gradient_clipping. In it `self.log` does
nothing, and other hooks are not called. Training afterwards is bit-identical to training without it.
"""

import importlib
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


class LearningRateFinder(pl.Callback):  # type: ignore[misc]
    """Lightning's callback, with its arguments. optimal_lr: a FoundLR; result: its RangeTestResult.

    Its 100 steps over eight decades are too few for momentum 0.9: the default is 200. A suggestion with low confidence
    is not set, and a warning says so.
    """

    optimal_lr: FoundLR | None = None
    result: RangeTestResult | None = None
    is_alone = False  # whether training ends after it

    def __init__(
        self, min_lr: float = 1e-8, max_lr: float = 1, num_training_steps: int = 200, mode: str = "exponential",
        early_stop_threshold: float | None = 4.0, update_attr: bool = True, attr_name: str = "",
    ) -> None:  # fmt: skip
        self.settings: dict[str, Any] = {"start_lr": min_lr, "end_lr": max_lr, "num_iter": num_training_steps}
        if mode != "exponential":
            raise ValueError(f'mode must be "exponential", got {mode!r}; it spreads the steps over all decades')
        self.settings["diverge_th"] = early_stop_threshold
        self.names = ([attr_name] if attr_name else ["lr", "learning_rate"]) if update_attr else []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.lr_find(trainer, pl_module)

    def lr_find(self, trainer: Any, pl_module: Any) -> None:
        """Run the range test from the current state of training, and set the suggestion if update_attr is True."""
        parsing = pl.utilities.parsing
        if trainer.fast_dev_run:
            pl.utilities.rank_zero_warn("the learning-rate finder is skipped because of fast_dev_run")
        else:
            found = [name for name in self.names if parsing.lightning_hasattr(pl_module, name)]
            if self.names and not found:
                names = " or ".join(self.names)
                raise AttributeError(f"the module must have {names}; pass attr_name, or update_attr=False")
            trainer.fit_loop.setup_data()  # as training does next, unless it has begun
            self.result = _sweep(trainer, pl_module, **self.settings)
            self.optimal_lr = FoundLR(self.result)
            suggestion = self.result.suggest()
            if found and suggestion.reliable:
                parsing.lightning_setattr(pl_module, found[0], suggestion.lr)
                _set(trainer, suggestion.lr)
                pl.utilities.rank_zero_info(f"{found[0]} set to {suggestion.lr:.3g}: {suggestion.reason}")
            elif found:
                pl.utilities.rank_zero_warn(f"{found[0]} stays as it is: {suggestion.reason}")
        if self.is_alone:
            package = next(c.__module__ for c in type(trainer).__mro__ if c.__name__ == "Trainer").partition(".trainer")
            raise importlib.import_module(f"{package[0]}.utilities.exceptions")._TunerExitException


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
        finder.is_alone, trainer.callbacks = True, [finder, *trainer.callbacks]
        # trainer.fit draws random numbers, also from generators of loaders, while it sets up the data.
        owners = tree_leaves([train_dataloaders, dict(vars(model)), vars(datamodule) if datamodule else None])
        owners += [loader.sampler for loader in owners if hasattr(loader, "sampler")]
        held = [value for owner in owners for value in (owner, *getattr(owner, "__dict__", {}).values())]
        drawn: list[Any] = [restorers.of(each) for each in held if isinstance(each, restorers.GENERATORS)]
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
        self.loader, self.limit = type(combined)(combined.iterables, combined._mode), trainer.num_training_batches

    def __iter__(self) -> Iterator[SimpleNamespace]:
        limit = None if self.limit == float("inf") else self.limit
        for index, (batch, *_) in enumerate(islice(iter(self.loader), limit)):
            yield SimpleNamespace(batch=batch, index=index)  # range_test does not look into it: Lightning moves it


def _sweep(trainer: Any, module: Any, **settings: Any) -> RangeTestResult:
    arguments = inspect.signature(module.training_step).parameters
    if len(trainer.optimizers) != 1 or not module.automatic_optimization or "dataloader_iter" in arguments:
        raise ValueError("the finder needs one optimizer, automatic optimization, and a training_step with a batch")
    [optimizer], plugin, strategy = trainer.optimizers, trainer.precision_plugin, trainer.strategy
    scaler = getattr(plugin, "scaler", None)

    def step(held: SimpleNamespace) -> Tensor:
        batch = module._on_before_batch_transfer(plugin.convert_input(held.batch), dataloader_idx=0)
        batch = strategy.batch_to_device(batch, dataloader_idx=0)
        output = strategy.training_step(batch, *([held.index] if len(arguments) > 1 else []))
        return output["loss"] if isinstance(output, Mapping) else output

    def clip(*_: Any) -> None:
        module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    clipping = optimizer.register_step_pre_hook(clip)
    module.log = module.log_dict = lambda *_, **__: None
    try:
        return range_test(
            module, optimizer, loader=_Batches(trainer), step_fn=step, repeats=1,
            scaler=module if scaler is None else scaler,
            accumulation_steps=trainer.accumulate_grad_batches,
            progress=bool(trainer.progress_bar_callback and trainer.progress_bar_callback.is_enabled), **settings,
        )  # fmt: skip
    finally:
        clipping.remove()
        del module.log, module.log_dict


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
