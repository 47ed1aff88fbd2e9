"""Everything that can be reached from what a user passed, each thing with the way to restore it.

A thing that can change is kept shallowly (a list: its items; an object: its attributes), and what it holds is kept in
turn. So every object is afterwards the one it was, with the values it had.

A user's data is only watched: of loaders, samplers and datasets the attributes, containers, orders (integer tensors and
arrays of at most one dimension) and random generators are kept; the samples are not copied.
"""

import collections
import contextlib
import copy
import ctypes
import dis
import enum
import functools
import inspect
import io
import itertools
import numbers
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from lrlib.finder.randomness import GENERATORS, Generator, generator_state, set_generator_state
from lrlib.finder.tensors import KeptTensor

# Not entered: these hold a program's loggers, queues and connections, not the state of a training.
LEFT_ALONE = {"IPython", "accelerate", "comet_ml", "deepspeed", "fastai", "fastcore", "fsspec", "h5py", "ignite"}
LEFT_ALONE |= {"lightning", "lightning_fabric", "lightning_utilities", "matplotlib", "mlflow", "neptune", "pandas"}
LEFT_ALONE |= {"PIL", "pytorch_lightning", "ray", "tensorboard", "tensorboardX", "tokenizers", "torch", "tqdm"}
LEFT_ALONE |= {"transformers", "wandb"} | set(sys.stdlib_module_names)
ENTERED: tuple[str, ...] = ("collections", "types", "argparse", "queue", "multiprocessing.sharedctypes")
ENTERED += ("torch.optim", "torch.utils.data", "torch.amp", "torch.cuda.amp", "torch.distributions")
ENTERED += ("torch.distributed.optim",)
MANY = 1000  # items: longer containers of samples are kept, but not looked through
ORDER = 2**24  # integers, the longest order of samples that is copied
OF_DATA = (Dataset, DataLoader, Sampler)
OF_TRAINING = (nn.Module, torch.optim.Optimizer, LRScheduler, *GENERATORS)
FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
ATOMS: tuple[type, ...] = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    numbers.Number,
    np.generic,
    type,
    enum.Enum,
    range,
    slice,
    type(None),
)
ATOMS += (types.ModuleType, types.CodeType, types.BuiltinFunctionType, weakref.ref, torch.dtype, torch.device)
Children = Iterable[tuple[str, Any]]


class Reach:
    """What has been found so far, and how to restore it.

    tensors: those to restore. parts: (name, function that restores it). data_generators: the random generators of
    loaders, samplers and datasets. watched: (name, tensor, version) of tensors that are not copied.
    """

    def __init__(self) -> None:
        self.tensors: list[KeptTensor] = []
        self.parts: list[tuple[str, Callable[[], None]]] = []
        self.data_generators: list[Generator] = []
        self.loaders: list[DataLoader[Any]] = []
        self.watched: list[tuple[str, Tensor, int]] = []
        self._seen: dict[int, Any] = {}  # holds what it has seen, so that no id is given twice
        self._roots: set[int] = set()  # what was passed is entered, whatever it is

    def keep(self, name: str, thing: Any, *, data: bool = False) -> None:
        """Keep a thing and all that it holds. Raises TypeError for what cannot be restored."""
        self._roots.add(id(thing))
        waiting = collections.deque([(name, thing, data)])  # nearest first, so that names are short
        while waiting:
            name, thing, data = waiting.popleft()
            if isinstance(thing, ATOMS) or id(thing) in self._seen:
                continue
            self._seen[id(thing)] = thing
            # A module is a model's also where a dataset holds it, and a loader is data also where a model holds it.
            data = (data or isinstance(thing, OF_DATA)) and not isinstance(thing, nn.Module)
            waiting.extend((child, held, data) for child, held in self._keep_one(name, thing, data))

    def keep_used(self, name: str, function: Any) -> None:
        """Keep the state that a function uses from outside its arguments, also through functions that it calls.

        State is: modules, optimizers, schedulers, generators, objects with a state_dict, a user's objects and
        containers that hold tensors (a hand-written moving average), and variables that are tensors or floats. Bare
        tensors may be data: they are watched, not copied. Others, such as a list of losses, are the user's records.
        """
        for child, held, rebind in _used_by(function):
            where = f"{name}'s {child}"
            if rebind is not None and isinstance(held, (Tensor, float, type(None))):
                self.parts.append((where, rebind))
            if isinstance(held, Tensor):
                if id(held) not in self._seen:
                    self._watch(where, held)
                continue
            found = _state_of(where, held)
            for path, thing in found:
                self.keep(path, thing)
            is_entered = not isinstance(held, (*ATOMS, *OF_DATA)) and _is_entered(held)
            table = held if isinstance(held, dict) else getattr(held, "__dict__", None) if is_entered else None
            if not found and isinstance(table, dict):
                self.parts.append((where, _if_filled(table)))

    def _keep_one(self, name: str, thing: Any, data: bool) -> Children:
        """Keep one thing. Returns what it holds."""
        if isinstance(thing, Tensor):
            return self._keep_tensor(name, thing, data)
        if isinstance(thing, nn.Module):
            return self._keep_module(name, thing)
        if isinstance(thing, FUNCTIONS):
            if not data:
                self.keep_used(name, thing)
            return ()
        if any(cls.__name__ == "_BaseDataLoaderIter" for cls in type(thing).__mro__):
            return ()
        if data and isinstance(thing, np.ndarray) and not _is_order(thing, name):
            return ()
        attributes = getattr(thing, "__dict__", None)
        attributes = attributes if isinstance(attributes, dict) else {}
        if data and any(isinstance(value, threading.Thread) for value in attributes.values()):
            warnings.warn(f"{name} ({_kind(thing)}) runs threads, so its position is not restored", stacklevel=2)
            return ()
        if id(thing) in self._roots and isinstance(vars(type(thing)).get("__call__"), types.FunctionType):
            self.keep_used(name, type(thing).__call__)
        self.loaders += [thing] if isinstance(thing, DataLoader) else []
        self.data_generators += [thing] if data and isinstance(thing, GENERATORS) else []
        restore, slots = _restorer(thing), _slots(thing)
        self.parts += [(name, restore)] if restore is not None else []
        is_container = isinstance(thing, CONTAINERS)
        if not is_container and (restore is not None or not (hasattr(thing, "__dict__") or slots)):
            if restore is None and _is_opaque(thing, data):
                raise _cannot_snapshot(name, thing)
            return ()
        if not (is_container or _is_entered(thing) or id(thing) in self._roots):
            return ()
        items = _items(name, thing) if is_container and not (data and len(thing) > MANY) else ()
        values = [(f"{name}.{slot.__name__}", getattr(thing, slot.__name__)) for slot in slots
                  if hasattr(thing, slot.__name__)]  # fmt: skip
        self.parts += [(name, _slots_restorer(thing, slots))] if slots else []
        return itertools.chain(items, self._keep_dict(name, attributes), values)

    def _keep_tensor(self, name: str, tensor: Tensor, data: bool) -> Children:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} has no shape yet; run one batch through the lazy model first")
        if data and not _is_order(tensor, name):
            self._watch(name, tensor)
            return ()
        try:
            self.tensors.append(KeptTensor(name, tensor))
        except NotImplementedError as err:
            raise TypeError(
                f"cannot snapshot {name} ({_kind(tensor)}): clone() is not supported; sweep with plain tensors"
            ) from err
        is_distributed = type(tensor).__module__.startswith("torch.distributed")
        hooks = [tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)]
        used = [(f"a hook of {name}", hook) for table in hooks for hook in (table or {}).values()]
        return used if is_distributed or not tensor.__dict__ else [*used, *self._keep_dict(name, tensor.__dict__)]

    def _keep_module(self, name: str, module: nn.Module) -> Children:
        training = module.training
        self.parts.append((f"{name}.training", lambda: setattr(module, "training", training)))
        if isinstance(module, torch.jit.ScriptModule):
            inner = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            return [(f"{name}.{key}", held) for key, held in [*inner, *module.named_children()]]
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            state = copy.deepcopy(module.get_extra_state())
            # First of all, so that the attributes that it sets are afterwards the objects that they were.
            self.parts.insert(0, (f"{name}'s extra state", lambda: module.set_extra_state(copy.deepcopy(state))))
        tables: list[Any] = [
            module._parameters,
            module._buffers,
            module._modules,
        ]  # no level in names: model.0.weight, as in torch
        if not type(module).__module__.startswith(("torch.distributed", "torch.nn.parallel")):
            tables.append(module.__dict__)  # those of DDP and FSDP mirror state that is not Python's
        self._seen.update((id(table), table) for table in tables)
        return [child for table in tables for child in self._keep_dict(name, table)]

    def _keep_dict(self, name: str, attributes: dict[str, Any]) -> Children:
        self.parts.append((name, _dict_restorer(attributes)))
        return [(f"{name}.{key}", value) for key, value in attributes.items()]

    def _watch(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_inference():
            self.watched.append((name, tensor, tensor._version))


def has_state_dict(thing: Any) -> bool:
    """Whether an object says itself what its state is."""
    return not isinstance(thing, type) and all(
        callable(getattr(type(thing), method, None)) for method in ("state_dict", "load_state_dict")
    )


# How each kind is restored


def _restorer(thing: Any) -> Callable[[], None] | None:
    """What restores a thing's own values, apart from its attributes; None where it has none or cannot be restored."""
    if isinstance(thing, GENERATORS):
        state = generator_state(thing)
        return lambda: set_generator_state(thing, state)
    if isinstance(thing, dict):
        return _dict_restorer(thing)
    if isinstance(thing, (list, bytearray)):
        kind: Any = list if isinstance(thing, list) else bytearray
        items = list(thing)
        return lambda: kind.__setitem__(thing, slice(None), items)
    if isinstance(thing, (collections.deque, set)):
        items = list(thing)
        fill: Any = collections.deque.extend if isinstance(thing, collections.deque) else set.update

        def refill() -> None:
            thing.clear()
            fill(thing, items)

        return refill
    if isinstance(thing, ctypes._SimpleCData):
        value = thing.value
        return lambda: setattr(thing, "value", value)
    if isinstance(thing, (io.BytesIO, io.StringIO)):
        file: Any = thing
        content, position = file.getvalue(), file.tell()

        def rewrite() -> None:
            file.seek(0)
            file.truncate()
            file.write(content)
            file.seek(position)

        return rewrite
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return _array_restorer(thing) if thing.flags.writeable else lambda: None
    return None


def _dict_restorer(mapping: dict[Any, Any]) -> Callable[[], None]:
    items = list(dict.items(mapping))
    kind: Any = collections.OrderedDict if isinstance(mapping, collections.OrderedDict) else dict

    def restore() -> None:
        now = list(dict.items(mapping))
        if len(now) != len(items) or any(a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)):
            kind.clear(mapping)
            for key, value in items:
                kind.__setitem__(mapping, key, value)

    return restore


def _array_restorer(values: np.ndarray) -> Callable[[], None]:
    copied, shape = values.copy(), values.shape

    def restore() -> None:
        if values.shape != shape:
            values.resize(shape, refcheck=False)
        values[...] = copied

    return restore


def _slots(thing: Any) -> list[Any]:
    """The descriptors of the attributes that an object's classes keep in slots."""
    members = [member for cls in type(thing).__mro__ if "__slots__" in vars(cls) for member in vars(cls).values()]
    return [member for member in members if isinstance(member, types.MemberDescriptorType)]


def _slots_restorer(thing: Any, slots: list[Any]) -> Callable[[], None]:
    values = [(slot, getattr(thing, slot.__name__)) for slot in slots if hasattr(thing, slot.__name__)]

    def restore() -> None:
        for slot in slots:
            if hasattr(thing, slot.__name__):
                slot.__delete__(thing)
        for slot, value in values:
            slot.__set__(thing, value)

    return restore


def _items(name: str, container: Any) -> Children:
    if isinstance(container, dict):
        keys = [(f"a key of {name}", key) for key in container]
        return [*keys, *((f"{name}[{_shown(key)}]", value) for key, value in dict.items(container))]
    return [(f"{name}[{i}]", item) for i, item in enumerate(container)]


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, (str, int, float, tuple)) and len(repr(key)) < 60 else type(key).__name__


# What is entered, and what is refused


def _is_entered(thing: Any) -> bool:
    """Whether an object's attributes are kept."""
    if isinstance(thing, (torch.optim.Optimizer, LRScheduler, *OF_DATA)) or has_state_dict(thing):
        return True
    return _top_package(type(thing)) not in LEFT_ALONE or type(thing).__module__.startswith(ENTERED)


def _top_package(thing: Any) -> str:
    """Of a class or a function."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def _is_order(values: Any, name: str) -> bool:
    """Whether this is an attribute that holds the order of samples rather than samples."""
    integer = not values.dtype.is_floating_point if isinstance(values, Tensor) else values.dtype.kind in "iu"
    n_values = values.numel() if isinstance(values, Tensor) else values.size
    return integer and values.ndim <= 1 and n_values <= ORDER and not name.endswith("]")


def _is_opaque(thing: Any, data: bool) -> bool:
    """Whether a thing holds state that cannot be reached. Locks, connections and the like do not count."""
    if isinstance(thing, types.GeneratorType) and inspect.getgeneratorstate(thing) == inspect.GEN_CLOSED:
        return False
    if data:
        return hasattr(thing, "__next__") and type(thing).__module__ in ("builtins", "itertools")
    methods = ("__next__", "__setitem__", "append", "add", "put")
    holds = any(hasattr(type(thing), method) for method in methods) and not isinstance(thing, io.IOBase)
    return holds or isinstance(thing, (types.MappingProxyType, np.random.BitGenerator))


def _cannot_snapshot(name: str, thing: Any) -> TypeError:
    return TypeError(
        f"cannot snapshot {name} ({_kind(thing)}); make it a number, a list or a tensor, or give its owner state_dict "
        "and load_state_dict and pass the owner in extra_state"
    )


def _kind(thing: Any) -> str:
    module, name = type(thing).__module__, type(thing).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


# What a function uses


def _used_by(function: Any) -> Iterator[tuple[str, Any, Callable[[], None] | None]]:
    """What _names_of yields of a function and those that it calls, apart from the functions."""
    waiting, seen = [function], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen or _top_package(current) == "torch":
            continue
        seen.add(id(current))
        for name, held, rebind in _names_of(current):
            if not isinstance(held, FUNCTIONS):
                yield name, held, rebind
            elif _top_package(held) not in LEFT_ALONE:
                waiting.append(held)


def _is_of_training(thing: Any) -> bool:
    return isinstance(thing, OF_TRAINING) or has_state_dict(thing)


def _state_of(name: str, held: Any) -> list[tuple[str, Any]]:
    """The parts of an object that are state: all of it if it holds tensors, else what is of the training."""
    if isinstance(held, type) and _top_package(held) not in LEFT_ALONE:
        return [state for key, value in vars(held).items() for state in _state_of(f"{name}.{key}", value)]
    found, seen = list[tuple[str, Any]](), set[int]()
    waiting = collections.deque([(name, held)])
    while waiting and len(seen) < MANY:
        path, thing = waiting.popleft()
        if isinstance(thing, Tensor):
            return [(name, held)]
        if isinstance(thing, (*ATOMS, *OF_DATA, *FUNCTIONS)) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if _is_of_training(thing):
            found.append((path, thing))
        elif isinstance(thing, CONTAINERS):
            entries = dict.items(thing) if isinstance(thing, dict) else enumerate(thing)
            waiting.extend((f"{path}[{_shown(key)}]", value) for key, value in itertools.islice(entries, MANY))
        elif _is_entered(thing):
            slots = [slot.__name__ for slot in _slots(thing) if hasattr(thing, slot.__name__)]
            waiting.extend((f"{path}.{slot}", getattr(thing, slot)) for slot in slots)
            waiting.extend((f"{path}.{key}", value) for key, value in getattr(thing, "__dict__", {}).items())
    return found


def _if_filled(table: dict[Any, Any]) -> Callable[[], None]:
    """Restores a dict that holds state by then, such as an average that is made at the first step."""
    restore = _dict_restorer(table)
    return lambda: restore() if _state_of("", table) else None


def _rebinder(get: Callable[[], Any], put: Callable[[Any], None], value: Any) -> Callable[[], None]:
    """Gives a variable its value back; one that was None stays the user's record unless it holds state by then."""

    def restore() -> None:
        now = get()
        if now is not value and (value is not None or _state_of("", now)):
            put(value)

    return restore


def _names_of(function: Any) -> Iterator[tuple[str, Any, Callable[[], None] | None]]:
    """(name, object, what rebinds the name to it) of all that a function, method or partial has from outside."""
    if isinstance(function, functools.partial):
        yield "function", function.func, None
        yield from ((str(key), value, None) for key, value in (*enumerate(function.args), *function.keywords.items()))
    elif isinstance(function, types.MethodType):
        yield "object", function.__self__, None
        yield "function", function.__func__, None
    elif isinstance(function, types.FunctionType):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a name that has no value yet
                get = functools.partial(getattr, cell, "cell_contents")
                put = functools.partial(setattr, cell, "cell_contents")
                yield name, get(), _rebinder(get, put, get())
        named = {**(function.__kwdefaults__ or {}), **function.__dict__}
        yield from ((str(key), value, None) for key, value in (*enumerate(function.__defaults__ or ()), *named.items()))
        variables = function.__globals__
        for name in sorted(_global_names(function.__code__) & variables.keys()):
            get, put = functools.partial(variables.get, name), functools.partial(variables.__setitem__, name)
            yield name, variables[name], _rebinder(get, put, variables[name])


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> frozenset[str]:
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    own = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")
    }
    return frozenset(own).union(*map(_global_names, nested))
