"""Training state that is put back to the bit, whatever holds it."""

import copy
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrlib.finder.randomness import Generator, random_state, set_random_state
from lrlib.finder.reach import Reach, has_state_dict

OFFLOADS = (None, "disk")


@contextmanager
def kept(
    model: nn.Module,
    optimizer: Any,
    *,
    scaler: Any = None,
    loss_fn: Any = None,
    also: Sequence[Any] = (),
    functions: Iterable[Any] = (),
    loaders: Iterable[Any] = (),
    offload: str | None = None,
) -> "Iterator[State]":
    """Keep the training state on entry, put it back to the bit on exit: also after an exception or Ctrl-C.

    Yields the State, whose put_back() may be called in between, as often as needed. A Ctrl-C while the state is being
    put back takes effect once all of it is back, and so does whatever one part of it raises.

    Kept is all that can be reached from model, optimizer, scaler, loss_fn and each of also, the same objects holding
    the same values: parameters, gradients, buffers and their views, modes, extra state; optimizer state and groups,
    also of optimizers inside optimizers; and any attribute that is a tensor, an array, a number, a string or None,
    a container of Python, a random generator, or an object with such attributes. Of functions: the modules,
    optimizers, generators and things with a state_dict that they use; their other variables are the user's. Of
    loaders, samplers and data sets: attributes, containers, orders and random generators. And the random state of
    Python, NumPy and torch on each device.
    Refused with a TypeError, before anything is changed: iterators and containers that are not Python's, since they
    cannot be put back, unless their holder is in also and has state_dict and load_state_dict.
    Not kept: the samples of data sets (tensors of theirs that have changed are said), what is inside loader workers,
    connections, files, loggers and objects of other frameworks that have no state_dict.

    offload: None keeps one copy of the tensors where they are, "disk" in a temporary file.
    Gradients are set aside, not copied, and are None inside.
    Raises ValueError if offload is unknown or there are parameters that have no shape yet.
    """
    state = State(
        model,
        optimizer,
        scaler=scaler,
        loss_fn=loss_fn,
        also=also,
        functions=functions,
        loaders=loaders,
        offload=offload,
    )
    try:
        state.set_gradients_aside()
        yield state
    finally:
        state.put_back(finally_=True)


class State:
    """One copy of everything that training changes; see `kept`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        scaler: Any = None,
        loss_fn: Any = None,
        also: Sequence[Any] = (),
        functions: Iterable[Any] = (),
        loaders: Iterable[Any] = (),
        offload: str | None = None,
    ) -> None:
        if offload not in OFFLOADS:
            raise ValueError(f'offload must be None or "disk", got {offload!r}; None keeps the copy in memory')
        if not isinstance(also, (list, tuple)):
            raise TypeError(f"also must be a list, got a {type(also).__name__}; put what is to be kept in a list")
        self._model = model
        self._file: Path | None = None
        self._reach = reach = Reach(copy=offload is None)  # a file is a copy by itself
        for name, thing in {"model": model, "optimizer": optimizer, "scaler": scaler, "loss_fn": loss_fn}.items():
            reach.keep(name, thing)
        for i, thing in enumerate(also):
            _keep_also(reach, f"also[{i}]", thing)
        for function in functions:
            reach.keep_function(getattr(function, "__name__", "a function"), function)
        for name, loader in zip(("train_loader", "val_loader"), loaders, strict=False):
            reach.keep(name, loader, data=True)
        self._shapes = {id(p): tuple(p.shape) for p in model.parameters()}
        self._random_state = random_state()
        if offload == "disk":
            self._move_to_disk()

    @property
    def generators(self) -> list[Generator]:
        """Those that loaders, samplers and data sets hold."""
        return list(self._reach.data_generators.values())

    def put_back(self, *, finally_: bool = False) -> None:
        """Everything but the gradients, which are None afterwards; in the end these too.

        Raises RuntimeError, once all else is back, if a part cannot be put back or samples have been changed.
        """
        failed: list[tuple[str, BaseException]] = []

        def attempt(name: str, put_back: Callable[[], None]) -> None:
            try:
                put_back()
            except BaseException as err:  # whatever it is, the other parts come first
                failed.append((name, err))

        with _interrupts_deferred():
            for name, put_back in self._reach.parts:
                attempt(name, put_back)
            for kept_tensor, copied in zip(self._reach.tensors, self._copies(), strict=True):
                attempt(kept_tensor.name, partial(kept_tensor.put_back, copied))
            if finally_:
                for kept_tensor in self._reach.tensors:
                    attempt(kept_tensor.name, kept_tensor.put_gradient_back)
                attempt("the temporary file", self.discard)
            attempt("the random state", lambda: set_random_state(self._random_state))
        for name, err in failed:
            if not isinstance(err, Exception):
                raise err
            raise RuntimeError(f"{name} could not be put back, all else was: {err}") from err
        changed = [name for name, tensor, version in self._reach.watched if tensor._version != version]
        if changed:
            raise RuntimeError(
                f"samples must not be changed by training, got {changed[0]} changed in place, which is not put back; "
                "let the loader give copies"
            )

    def set_gradients_aside(self) -> None:
        for kept_tensor in self._reach.tensors:
            if kept_tensor.grad is not None:
                kept_tensor.tensor.grad = None

    def changed_shapes(self) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """(name, shape kept, shape now) of every parameter whose shape has changed."""
        return [
            (name, self._shapes[id(p)], tuple(p.shape))
            for name, p in self._model.named_parameters()
            if id(p) in self._shapes and self._shapes[id(p)] != tuple(p.shape)
        ]

    def damage(self) -> str | None:
        """In words, what only an explosion does to a model: weights that are not finite, or far larger than any was."""
        largest, change = 0.0, 0.0
        for kept_tensor, copied in zip(self._reach.tensors, self._copies(), strict=True):
            broken, changed = kept_tensor.is_changed_by(copied)
            if broken:
                return f"{kept_tensor.name} was no longer finite"
            if id(kept_tensor.tensor) in self._shapes and copied.numel():
                largest, change = max(largest, float(copied.detach().abs().max())), max(change, changed)
        return "weights had left the scale of all weights tenfold" if change > 10 * largest > 0 else None

    def discard(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _move_to_disk(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="lrlib-", suffix=".pt", delete=False) as file:
            self._file = Path(file.name)
        try:
            torch.save([kept_tensor.memory() for kept_tensor in self._reach.tensors], self._file)
        except BaseException:
            self.discard()
            raise

    def _copies(self) -> list[Tensor]:
        if self._file is None:
            return [kept_tensor.copied for kept_tensor in self._reach.tensors if kept_tensor.copied is not None]
        return torch.load(self._file, map_location="cpu", mmap=True, weights_only=True)


def _keep_also(reach: Reach, name: str, thing: Any) -> None:
    """Keep by its attributes, or where that cannot be by its state_dict."""
    if not hasattr(thing, "__dict__") and not has_state_dict(thing) and not isinstance(thing, (Tensor, list, dict)):
        raise TypeError(
            f"also must hold modules, optimizers or things with state_dict and load_state_dict, got {name}, "
            f"a {type(thing).__name__}; leave it out"
        )
    try:
        reach.keep(name, thing)
    except TypeError:
        if not has_state_dict(thing):
            raise
        state = copy.deepcopy(thing.state_dict())
        reach.parts.append((name, lambda: thing.load_state_dict(copy.deepcopy(state))))


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C until the block is done. Only the main thread gets it, so only there is there anything to do."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    pending = []
    signal.signal(signal.SIGINT, lambda *received: pending.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pending:
            handler(*pending[-1])
