"""All that can be reached from what a user gave, each thing with the way to put it back.

A thing that can change is kept shallowly (a list: its items; an object: its attributes), and what it holds is kept in
turn, so that putting back each by itself puts back the whole, and every object is afterwards the one that it was.

What is a user's data is only watched over: of loaders, samplers and data sets the attributes, containers, orders
(integers in at most one dimension) and random generators are kept, but the tensors and arrays of the samples are not
copied.
"""

import array
import collections
import contextlib
import copy
import ctypes
import enum
import functools
import inspect
import io
import itertools
import numbers
import operator
import sys
import types
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

# What holds no state of a training: entering it would mean to keep a program's loggers, queues and connections.
LEFT_ALONE = {"IPython", "accelerate", "comet_ml", "deepspeed", "fastai", "fastcore", "fsspec", "h5py", "ignite"}
LEFT_ALONE |= {"lightning", "lightning_fabric", "lightning_utilities", "matplotlib", "mlflow", "neptune", "pandas"}
LEFT_ALONE |= {"PIL", "pytorch_lightning", "ray", "tensorboard", "tensorboardX", "tokenizers", "torch", "tqdm"}
LEFT_ALONE |= {"transformers", "wandb"} | set(sys.stdlib_module_names)
ENTERED: tuple[str, ...] = (
    "collections",
    "types",
    "argparse",
    "multiprocessing.sharedctypes",
    "torch.optim",
    "torch.utils.data",
)
ENTERED += ("torch.amp", "torch.cuda.amp", "torch.distributions", "torch.distributed.optim")
LOADER_ITERATOR = "_BaseDataLoaderIter"
MANY = 1000  # items: longer containers of samples are kept, but not looked through
ORDER = 2**24  # integers, the longest order of samples that is copied
Children = Iterable[tuple[str, Any]]


class Reach:
    """What has been found so far, and how to put it back.

    tensors: those to put back. parts: (name, function that puts a thing back). generators: of random numbers, those
    of the data in data_generators too.
    """

    def __init__(self, *, copy: bool = True) -> None:
        self.tensors: list[KeptTensor] = []
        self.parts: list[tuple[str, Callable[[], None]]] = []
        self.generators: dict[int, Generator] = {}
        self.data_generators: dict[int, Generator] = {}
        self.watched: list[tuple[str, Tensor, int]] = []  # tensors of samples, with the version that torch counts
        self._copy = copy
        self._seen: dict[int, Any] = {}  # holds what it has seen, so that no id is given twice
        self._roots: set[int] = set()  # what was given is entered, whatever it is

    def keep(self, name: str, thing: Any, *, data: bool = False) -> None:
        """Keep a thing and all that it holds. Raises TypeError for what cannot be put back."""
        self._roots.add(id(thing))
        waiting = collections.deque([(name, thing, data)])  # nearest first, so that names are short
        while waiting:
            name, thing, data = waiting.popleft()
            if _is_atom(thing) or id(thing) in self._seen:
                continue
            self._seen[id(thing)] = thing
            # A module is a model's also where a data set holds it, and a loader is data also where a model holds it.
            data = (data or isinstance(thing, (Dataset, DataLoader, Sampler))) and not isinstance(thing, nn.Module)
            waiting.extend((child, held, data) for child, held in self._keep_one(name, thing, data))

    def keep_function(self, name: str, function: Any) -> None:
        """Keep the modules, optimizers, generators and other holders of a state_dict that a function uses."""
        if not _is_function(function):
            self.keep(name, function)
        for child, held in _used_by(function):
            self.keep(f"{name}'s {child}", held)

    def _keep_one(self, name: str, thing: Any, data: bool) -> Children:
        """Keep one thing; what it holds."""
        if isinstance(thing, Tensor):
            return self._keep_tensor(name, thing, data)
        if isinstance(thing, GENERATORS):
            state = generator_state(thing)
            self.generators[id(thing)] = thing
            if data:
                self.data_generators[id(thing)] = thing
            self.parts.append((name, lambda: set_generator_state(thing, state)))
            return []
        if isinstance(thing, np.random.BitGenerator):
            bits = thing.state
            self.parts.append((name, lambda: setattr(thing, "state", bits)))
            return []
        if isinstance(thing, np.ndarray):
            return self._keep_array(name, thing, data)
        if isinstance(thing, nn.Module):
            return self._keep_module(name, thing)
        if _is_function(thing):
            return [] if data else [(f"{name}'s {child}", held) for child, held in _used_by(thing)]
        if type(thing).__name__ == LOADER_ITERATOR or any(c.__name__ == LOADER_ITERATOR for c in type(thing).__mro__):
            return []
        held = self._keep_container(name, thing, data)
        if held is None and not hasattr(thing, "__dict__") and not _slots(thing):
            self._refuse_opaque(name, thing, data)
            return []
        if held is None and not (_is_entered(thing) or id(thing) in self._roots):
            return []
        attributes = self._keep_attributes(name, thing)
        if held is None:
            return attributes
        return attributes if data and len(held) > MANY else itertools.chain(held, attributes)

    def _keep_tensor(self, name: str, tensor: Tensor, data: bool) -> Children:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} has no shape yet; run one batch through the lazy model first")
        if data and not _is_order(tensor, name):
            if not tensor.is_inference():
                self.watched.append((name, tensor, tensor._version))
            return []
        self.tensors.append(KeptTensor(name, tensor, copy=self._copy))
        if type(tensor).__module__.startswith("torch.distributed") or not tensor.__dict__:
            return []
        return self._keep_dict(name, tensor.__dict__, attributes=True)

    def _keep_array(self, name: str, values: np.ndarray, data: bool) -> Children:
        if data and not (_is_order(values, name) or values.dtype == object):
            return []
        if values.flags.writeable:
            copied, shape = values.copy(), values.shape

            def put_back() -> None:
                if values.shape != shape:
                    values.resize(shape, refcheck=False)
                values[...] = copied

            self.parts.append((name, put_back))
        if values.dtype != object:
            return []
        return [(f"{name}[{i}]", item) for i, item in enumerate(values.flat)]

    def _keep_module(self, name: str, module: nn.Module) -> Children:
        if isinstance(module, torch.jit.ScriptModule):
            inner = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            self._keep_training(name, module)
            return [(f"{name}.{key}", held) for key, held in [*inner, *module.named_children()]]
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            self._keep_extra_state(name, module)
        children: list[tuple[str, Any]] = []
        for table in (module._parameters, module._buffers, module._modules):
            self._seen[id(table)] = table  # no level of its own in names: model.0.weight, as torch has it
            children += self._keep_dict(name, table, attributes=True)
        if not type(module).__module__.startswith(("torch.distributed", "torch.nn.parallel")):
            return [*children, *self._keep_attributes(name, module)]
        # The attributes of DistributedDataParallel and its like mirror state that is not Python's.
        self._keep_training(name, module)
        return children

    def _keep_training(self, name: str, module: nn.Module) -> None:
        training = module.training

        def put_back() -> None:
            module.training = training

        self.parts.append((f"{name}.training", put_back))

    def _keep_extra_state(self, name: str, module: nn.Module) -> None:
        state = copy.deepcopy(module.get_extra_state())
        # First of all, so that the attributes that it sets are afterwards the objects that they were.
        self.parts.insert(0, (f"{name}'s extra state", lambda: module.set_extra_state(copy.deepcopy(state))))

    def _keep_container(self, name: str, thing: Any, data: bool) -> list[tuple[str, Any]] | None:
        """What a container of Python holds, its contents kept; None for anything else."""
        if isinstance(thing, dict):
            return list(self._keep_dict(name, thing))
        if isinstance(thing, (tuple, frozenset, types.MappingProxyType)):
            items = list(thing.values() if isinstance(thing, types.MappingProxyType) else thing)
        elif isinstance(thing, list):
            items = list.copy(thing)
            self.parts.append((name, lambda: _refill_list(thing, items)))
        elif isinstance(thing, collections.deque):
            items = list(thing)
            self.parts.append((name, lambda: _refill(thing, collections.deque.extend, items)))
        elif isinstance(thing, set):
            items = list(thing)
            self.parts.append((name, lambda: _refill(thing, set.update, items)))
        elif isinstance(thing, (bytearray, array.array, ctypes.Array)):
            container: Any = thing
            values: Any = thing[:]
            self.parts.append((name, lambda: operator.setitem(container, slice(None), values)))
            return []
        elif isinstance(thing, ctypes._SimpleCData):
            value = thing.value
            self.parts.append((name, lambda: setattr(thing, "value", value)))
            return []
        else:
            return None
        return [] if data and len(items) > MANY else [(f"{name}[{i}]", item) for i, item in enumerate(items)]

    def _keep_dict(self, name: str, mapping: dict[Any, Any], *, attributes: bool = False) -> Children:
        items = list(dict.items(mapping))
        self.parts.append((name, lambda: _refill_dict(mapping, items)))
        keys = () if attributes else ((f"a key of {name}", key) for key, _ in items)
        held = ((f"{name}.{key}" if attributes else f"{name}[{_shown(key)}]", value) for key, value in items)
        return itertools.chain(keys, held)

    def _keep_attributes(self, name: str, thing: Any) -> Children:
        children: list[tuple[str, Any]] = []
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            children += self._keep_dict(name, attributes, attributes=True)
        for slot in _slots(thing):
            children += self._keep_slot(f"{name}.{slot.__name__}", thing, slot)
        return children

    def _keep_slot(self, name: str, thing: Any, slot: Any) -> Children:
        missing = object()
        value = getattr(thing, slot.__name__, missing)

        def put_back() -> None:
            if value is not missing:
                slot.__set__(thing, value)
            elif getattr(thing, slot.__name__, missing) is not missing:
                slot.__delete__(thing)

        self.parts.append((name, put_back))
        return [] if value is missing else [(name, value)]

    def _refuse_opaque(self, name: str, thing: Any, data: bool) -> None:
        """Raise TypeError for what holds state that cannot be reached. Locks, connections and the like pass."""
        if isinstance(thing, io.IOBase) or _is_exhausted(thing):
            return
        holds = ("__next__",) if data else ("__next__", "__setitem__", "append", "add", "appendleft")
        if any(hasattr(type(thing), method) for method in holds):
            raise TypeError(
                f"what training changes must be possible to put back, got {name}, a {type(thing).__module__}."
                f"{type(thing).__qualname__}, which is not; make it a number, a list or a tensor, or give its holder "
                "state_dict and load_state_dict and name the holder in also"
            )


def _is_atom(thing: Any) -> bool:
    return thing is None or isinstance(
        thing,
        (
            bool, int, float, complex, str, bytes, numbers.Number, np.generic, type, enum.Enum, range, slice,
            types.ModuleType, types.CodeType, types.BuiltinFunctionType, weakref.ref, torch.dtype, torch.device,
        ),
    )  # fmt: skip


def _is_function(thing: Any) -> bool:
    return isinstance(thing, (types.FunctionType, types.MethodType, functools.partial))


def _is_entered(thing: Any) -> bool:
    """Whether an object's attributes are kept."""
    if isinstance(thing, (torch.optim.Optimizer, LRScheduler, Dataset, DataLoader, Sampler)) or has_state_dict(thing):
        return True
    return _top_package(type(thing)) not in LEFT_ALONE or type(thing).__module__.startswith(ENTERED)


def _top_package(thing: Any) -> str:
    """Of a class or a function."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def has_state_dict(thing: Any) -> bool:
    """Whether an object says itself what its state is."""
    return not isinstance(thing, type) and all(
        callable(getattr(type(thing), method, None)) for method in ("state_dict", "load_state_dict")
    )


def _is_order(values: Any, name: str) -> bool:
    """Whether this is an attribute that holds the order of samples rather than samples."""
    integer = not values.dtype.is_floating_point if isinstance(values, Tensor) else values.dtype.kind in "iu"
    n_values = values.numel() if isinstance(values, Tensor) else values.size
    return integer and values.ndim <= 1 and n_values <= ORDER and not name.endswith("]")


def _is_exhausted(thing: Any) -> bool:
    return isinstance(thing, types.GeneratorType) and inspect.getgeneratorstate(thing) == inspect.GEN_CLOSED


def _slots(thing: Any) -> list[Any]:
    """The descriptors of the attributes that an object's classes keep in slots."""
    return [
        member
        for cls in type(thing).__mro__
        if "__slots__" in vars(cls)
        for member in vars(cls).values()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _used_by(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, thing) of the modules, optimizers and the like that a function has from outside, also through helpers."""
    waiting, seen = [function], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen or _top_package(current) in {"torch"}:
            continue
        seen.add(id(current))
        for name, held in _names_of(current):
            if _is_of_training(held):
                yield name, held
            elif _is_function(held) and _top_package(held) not in LEFT_ALONE:
                waiting.append(held)
            elif not _is_atom(held) and _is_entered(held):
                inner = getattr(held, "__dict__", None)
                inner = inner if isinstance(inner, dict) else {}
                yield from ((f"{name}.{key}", value) for key, value in inner.items() if _is_of_training(value))


def _is_of_training(thing: Any) -> bool:
    return isinstance(thing, (nn.Module, torch.optim.Optimizer, LRScheduler, *GENERATORS)) or has_state_dict(thing)


def _names_of(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, object) of all that a function, method or partial has from outside its arguments."""
    if isinstance(function, functools.partial):
        yield "function", function.func
        yield from ((str(i), value) for i, value in enumerate(function.args))
        yield from function.keywords.items()
    elif isinstance(function, types.MethodType):
        yield "object", function.__self__
        yield "function", function.__func__
    elif isinstance(function, types.FunctionType):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # a name that has no value yet
                yield name, cell.cell_contents
        yield from ((str(i), value) for i, value in enumerate(function.__defaults__ or ()))
        yield from (function.__kwdefaults__ or {}).items()
        yield from ((name, function.__globals__[name]) for name in _global_names(function.__code__)
                    if name in function.__globals__)  # fmt: skip


def _global_names(code: types.CodeType) -> set[str]:
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_global_names, nested))


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, (str, int, float, tuple)) and len(repr(key)) < 60 else type(key).__name__


def _refill_dict(mapping: dict[Any, Any], items: list[tuple[Any, Any]]) -> None:
    now = list(dict.items(mapping))
    if "_iterator" in mapping and any(key == "_DataLoader__initialized" for key, _ in items):
        # A DataLoader's workers stay from sweep to sweep where they are persistent.
        items = [(key, mapping[key] if key == "_iterator" else value) for key, value in items]
    if len(now) == len(items) and all(a is c and b is d for (a, b), (c, d) in zip(now, items, strict=True)):
        return
    kind: Any = collections.OrderedDict if isinstance(mapping, collections.OrderedDict) else dict
    kind.clear(mapping)
    for key, value in items:
        kind.__setitem__(mapping, key, value)


def _refill_list(values: list[Any], items: list[Any]) -> None:
    list.__setitem__(values, slice(None), items)


def _refill(values: Any, fill: Callable[[Any, Iterable[Any]], Any], items: Iterable[Any]) -> None:
    values.clear()
    fill(values, items)
