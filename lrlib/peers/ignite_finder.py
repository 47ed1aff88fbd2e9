"""ignite's finder (surface of 0.5.5) with lrlib's restoration and reading; lrlib.peers.ignite has the name.

What differs from ignite's own: on leaving attach(), also by an exception or Ctrl-C, what is in to_save and the random
state are to the bit as before, and no handler stays behind; `result` is the sweep with raw losses, whose suggestion
lr_suggestion() and apply_suggested_lr() give; each step is taken at the rate that get_results() has for it, where
ignite takes the one before, and for the first step the optimizer's own.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from ignite.handlers import FastaiLRFinder as TheirFastaiLRFinder
from torch import nn
from torch.optim import Optimizer

from lrlib.finder.extras import need
from lrlib.finder.randomness import set_generator_state
from lrlib.finder.restore import kept
from lrlib.finder.result import RangeTestResult
from lrlib.peers.loader_generators import generator_states
from lrlib.peers.reading import read


class FastaiLRFinder(TheirFastaiLRFinder):
    """ignite's FastaiLRFinder. result: the last sweep as a RangeTestResult, None before the first."""

    result: RangeTestResult | None = None
    _history: dict[str, list[Any]]
    _generators: list[tuple[Any, Any]] = []

    @contextmanager
    def attach(
        self,
        trainer: Engine,
        to_save: Mapping[str, Any],
        output_transform: Callable[[Any], Any] = lambda output: output,
        num_iter: int | None = None,
        start_lr: float | list[float] | None = None,
        end_lr: float | list[float] | None = 10.0,
        step_mode: str = "exp",
        smooth_f: float = 0.05,
        diverge_th: float = 5.0,
    ) -> Iterator[Engine]:
        """The trainer, whose run() sweeps; the arguments are ignite's, and so are the errors raised for them."""
        settings = (output_transform, num_iter, start_lr, end_lr, step_mode, smooth_f, diverge_th)
        self.result, self._history = None, {}
        if not isinstance(to_save, Mapping) or not isinstance(to_save.get("optimizer"), Optimizer):
            with super().attach(trainer, to_save, *settings) as swept:  # raises what ignite says of it
                yield swept
            return
        optimizer = to_save["optimizer"]
        modules = nn.ModuleList(thing for thing in to_save.values() if isinstance(thing, nn.Module))
        others = [thing for thing in to_save.values() if thing is not optimizer and not isinstance(thing, nn.Module)]
        progress = {name: copy.copy(value) for name, value in vars(trainer.state).items()}
        with kept(modules, optimizer, also=others):
            try:
                with super().attach(trainer, to_save, *settings) as swept:
                    yield swept
            finally:
                self._leave(trainer)
                vars(trainer.state).clear()
                vars(trainer.state).update(progress)
        if len(self._history.get("lr", [])) > 1:
            self.result = read(self, smooth_f=smooth_f)

    def lr_suggestion(self) -> Any:
        """The suggested rate; with several parameter groups a list, the rates that they had at the same point.

        Raises RuntimeError before a sweep. Warns if the suggestion is not reliable.
        """
        if self.result is None:
            raise RuntimeError("there is no sweep to suggest from; run the trainer inside attach() first")
        suggestion = self.result.suggest()
        if not suggestion.reliable:
            warnings.warn(f"the suggested lr is not reliable: {suggestion.reason}", stacklevel=2)
        rates = np.array(self._history["lr"], dtype=np.float64)
        if rates.ndim == 1:
            return suggestion.lr
        x = np.log(rates)
        return [float(np.exp(np.interp(np.log(suggestion.lr), x[:, 0], column))) for column in x.T]

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        display_suggestion: bool = True,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """ignite's plot, with lrlib's suggestion marked. Returns the axes."""
        if ax is None:
            _, ax = need("matplotlib.pyplot", what="a plot", extra="plot").subplots(**kwargs)
        if display_suggestion and self._history:
            lrs, losses = np.array(self._history["lr"], dtype=np.float64), self._history["loss"]
            first = lrs if lrs.ndim == 1 else lrs[:, 0]
            loss = np.interp(self.result.suggest().lr, first, losses) if self.result else losses[0]
            for lr in np.atleast_1d(self.lr_suggestion()):
                ax.scatter(lr, loss, s=75, color="red", zorder=3)
        return super().plot(skip_start, skip_end, log_lr, False, ax)

    def _run(self, trainer: Engine, optimizer: Optimizer, *settings: Any) -> None:
        self._generators = generator_states(trainer.state.dataloader)
        super()._run(trainer, optimizer, *settings)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._set_rates, optimizer)

    def _set_rates(self, _: Engine, optimizer: Optimizer) -> None:
        now = self._lr_schedule.get_param()
        rates = now if isinstance(now, list) else [now] * len(optimizer.param_groups)
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr

    def _leave(self, trainer: Engine) -> None:
        """Take what handlers are left off the trainer: ignite does so where all went well."""
        self._detach(trainer)
        schedule = getattr(self, "_lr_schedule", None)
        for handler in (schedule, self._log_lr_and_loss, self._reached_num_iterations, self._set_rates):
            for event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
                if handler is not None and trainer.has_event_handler(handler, event):
                    trainer.remove_event_handler(handler, event)
        for generator, state in self._generators:
            set_generator_state(generator, state)
        self._generators = []
