"""A snapshot of everything that training changes."""

import copy
import signal
import threading
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import nn

from lrlib.finder.reach import Reach, has_state_dict
from lrlib.finder.restorers import of_random_state


class Snapshot:
    """A copy of everything that training changes: taken when made, restored bit for bit when its `with` block ends.

    That is also after an exception or Ctrl-C; a Ctrl-C during the restoration takes effect after it.

    Restored are the same objects with the same values: of model, optimizer, scaler, loss_fn and extra_state the
    parameters, gradients, buffers, modes and extra state, optimizer state and groups, and every attribute that is a
    tensor, an array, a number, a string, a container of Python, a random generator or an object with such attributes;
    of functions the state that they use (see lrlib.finder.reach); of loaders, samplers and datasets the attributes,
    containers, orders, random generators and persistent workers; and the random state of Python, NumPy and torch.
    Not restored: the state inside loader workers and threads, connections, files, loggers, and objects of other
    frameworks without a state_dict. Samples are not copied; a change to one raises an error that names it.

    Raises:
        TypeError: something holds state that cannot be restored (an iterator, a memoryview); nothing was changed.
        ValueError: a parameter has no shape yet.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        scaler: Any = None,
        loss_fn: Any = None,
        extra_state: Sequence[Any] = (),
        functions: Iterable[Any] = (),
        loaders: Iterable[Any] = (),
    ) -> None:
        if not isinstance(extra_state, (list, tuple)):
            raise TypeError(f"extra_state must be a list, got a {type(extra_state).__name__}; pass a list of objects")
        self._reach = reach = Reach()
        self.generators = reach.data_generators  # of loaders, samplers and datasets
        for name, thing in {"model": model, "optimizer": optimizer, "scaler": scaler, "loss_fn": loss_fn}.items():
            reach.keep(name, thing)
        for i, thing in enumerate(extra_state):
            _keep_extra(reach, f"extra_state[{i}]", thing)
        for name, loader in zip(("loader", "val_loader"), loaders, strict=False):
            reach.keep(name, loader, data=True)
        for function in functions:
            reach.keep(getattr(function, "__name__", "a function"), function)
        reach.parts += [("the random state", restore) for restore in of_random_state()]

    def __enter__(self) -> "Snapshot":
        self._interrupts = _Interrupts()
        for kept_tensor in self._reach.tensors:
            if kept_tensor.grad is not None:
                kept_tensor.tensor.grad = None
        for loader in self._reach.loaders:  # their running workers go on afterwards
            loader._iterator = None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._interrupts.are_held_back = True
        finally:
            try:
                self.restore(finally_=True)
            finally:
                self._interrupts.release()

    def restore(self, *, finally_: bool = False) -> None:
        """Restore all but the gradients and workers from before, with finally_ these too; then raise what failed."""
        self._interrupts.are_held_back = True
        failed: list[tuple[str, BaseException]] = []
        workers = [(loader, loader._iterator) for loader in self._reach.loaders]  # those of the sweeps go on
        tensors: list[Any] = [(each.name, partial(each.restore, gradient=finally_)) for each in self._reach.tensors]
        for name, restore in (*self._reach.parts, *tensors):
            try:
                restore()
            except BaseException as err:  # whatever it is, the other parts come first
                failed.append((name, err))
        if not finally_:
            for loader, iterator in workers:
                loader._iterator = iterator
            self._interrupts.let_through()
        for name, error in failed:
            if not isinstance(error, Exception):
                raise error
            raise RuntimeError(f"{name} could not be restored, everything else was: {error}") from error
        changed = [name for name, tensor, version in self._reach.watched if tensor._version != version]
        self._reach.watched = [(name, tensor, tensor._version) for name, tensor, _ in self._reach.watched]
        for name in changed:
            if name.startswith(("loader", "val_loader")):
                raise RuntimeError(f"{name} was changed in place and is not restored; let the loader yield copies")
            warnings.warn(f"{name} was changed in place and is not restored; pass it in extra_state", stacklevel=2)


def _keep_extra(reach: Reach, name: str, thing: Any) -> None:
    """Keep by its attributes, or where that is impossible by its state_dict."""
    if isinstance(thing, (int, float, str, type(None))):
        raise TypeError(f"extra_state must hold objects with state, got {name}, a {type(thing).__name__}; leave it out")
    try:
        reach.keep(name, thing)
    except TypeError:
        if not has_state_dict(thing):
            raise
        state = copy.deepcopy(thing.state_dict())
        reach.parts.append((name, lambda: thing.load_state_dict(copy.deepcopy(state))))


class _Interrupts:
    """Ctrl-C raises KeyboardInterrupt once from now on; while held back it waits until it is let through."""

    def __init__(self) -> None:
        self.are_held_back, self._pending = False, list[Any]()
        is_main = threading.current_thread() is threading.main_thread()
        self._handler: Any = signal.getsignal(signal.SIGINT) if is_main else None
        if callable(self._handler):
            signal.signal(signal.SIGINT, self._receive)

    def let_through(self) -> None:
        self.are_held_back = False
        if self._pending:
            self._receive(*self._pending.pop())

    def release(self) -> None:
        if callable(self._handler):
            signal.signal(signal.SIGINT, self._handler)
        self.let_through()

    def _receive(self, *received: Any) -> None:
        if self.are_held_back:
            self._pending.append(received)
            return
        self.are_held_back = True  # a second one would meet the restoration
        self._handler(*received)
        self.are_held_back = False  # the first one did not raise
