"""Find everything that is reachable from the arguments of a range test, and how to restore each thing.

A thing that can change is copied shallowly (a list: its items; an object: its attributes), and then everything that it
holds. So afterwards every object is the same object, with its former values. Samples are only watched.
"""

import collections
import contextlib
import copy
import dis
import io
import itertools
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrlib.finder import restorers
from lrlib.finder.restorers import Generator, KeptTensor, Restore, slots_of

# Not entered: these packages hold a program's loggers, queues and connections, not the state of a training.
LEFT_ALONE = sys.stdlib_module_names | {"IPython", "PIL", "accelerate", "comet_ml", "deepspeed", "fastai", "fastcore"}
LEFT_ALONE |= {"fsspec", "h5py", "ignite", "lightning", "lightning_fabric", "lightning_utilities", "matplotlib"}
LEFT_ALONE |= {"mlflow", "neptune", "pandas", "pytorch_lightning", "ray", "tensorboard", "tensorboardX", "tokenizers"}
LEFT_ALONE |= {"torch", "tqdm", "transformers", "wandb"}
ENTERED: tuple[str, ...] = ("collections", "types", "argparse", "queue", "multiprocessing.sharedctypes", "torch.optim")
ENTERED += ("torch.amp", "torch.utils.data", "torch.cuda.amp", "torch.distributions", "torch.distributed.optim")
MANY = 1000  # items: longer containers of samples are kept, but not looked through
ORDER = 2**27  # bytes of the longest order of samples that is copied
OF_DATA = (Dataset, DataLoader, Sampler)
OF_TRAINING = (nn.Module, torch.optim.Optimizer, LRScheduler, Generator)
FUNCTIONS = (types.FunctionType, types.MethodType, partial)
CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
ATOMS = (bool, int, float, complex, str, bytes, type(None), type, types.ModuleType, np.generic)
Children = Iterable[tuple[str, Any]]


class Reach:
    """What has been found so far, and how to restore it."""

    def __init__(self) -> None:
        self.tensors: list[KeptTensor] = []
        self.parts: list[tuple[str, Restore]] = []
        self.data_generators: list[Generator] = []  # of loaders, samplers and datasets
        self.loaders: list[DataLoader[Any]] = []
        self.watched: list[tuple[str, Tensor, int]] = []  # with their versions, instead of copies
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

    def _keep_one(self, name: str, thing: Any, data: bool) -> Children:
        """Keep one thing. Returns what it holds."""
        if isinstance(thing, Tensor):
            return self._keep_tensor(name, thing, data)
        if isinstance(thing, nn.Module):
            return self._keep_module(name, thing)
        if isinstance(thing, FUNCTIONS):
            return () if data else self._keep_function(name, thing)
        is_sample = data and isinstance(thing, np.ndarray) and not _is_order(name, thing)
        if is_sample or isinstance(thing, _BaseDataLoaderIter):
            return ()
        kind, own, slots = type(thing).__name__, getattr(thing, "__dict__", None), slots_of(thing)
        if data and any(isinstance(value, threading.Thread) for value in (own or {}).values()):
            warnings.warn(f"{name} ({kind}) runs threads, so its position is not restored", stacklevel=2)
            return ()
        if isinstance(thing, DataLoader):
            self.loaders.append(thing)
        if data and isinstance(thing, Generator):
            self.data_generators.append(thing)
        restore, is_container = restorers.of(thing), isinstance(thing, CONTAINERS)
        if restore is not None:
            self.parts.append((name, restore))
        elif not (is_container or own is not None or slots):
            if _is_opaque(thing, data):
                advice = "or give its owner state_dict and load_state_dict and pass the owner in extra_state"
                raise TypeError(f"cannot snapshot {name} ({kind}); make it a number, a list or a tensor, {advice}")
            return ()
        is_root = id(thing) in self._roots
        if not is_container and (restore is not None or not (_is_entered(thing) or is_root)):
            return ()
        if slots:
            self.parts.append((name, restorers.of_slots(thing, slots)))
        items = _items(name, thing) if is_container and not (data and len(thing) > MANY) else ()
        children = [*items, *_named(name, slots), *(() if own is None else self._keep_dict(name, own))]
        if is_root and isinstance(vars(type(thing)).get("__call__"), types.FunctionType):
            children.append((name, type(thing).__call__))
        return children

    def _keep_tensor(self, name: str, tensor: Tensor, data: bool) -> Children:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} has no shape yet; run one batch through the lazy model first")
        if data and not _is_order(name, tensor):
            self._watch(name, tensor)
            return ()
        try:
            self.tensors.append(KeptTensor(name, tensor))
        except NotImplementedError as err:
            kind = type(tensor).__name__
            raise TypeError(f"cannot snapshot {name} ({kind}), which has no clone(); sweep with plain tensors") from err
        hooks = [tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)]
        used = [(f"a hook of {name}", hook) for table in hooks for hook in (table or {}).values()]
        is_distributed = type(tensor).__module__.startswith("torch.distributed")
        return used if is_distributed or not tensor.__dict__ else [*used, *self._keep_dict(name, tensor.__dict__)]

    def _keep_module(self, name: str, module: nn.Module) -> Children:
        self.parts.append((f"{name}.training", partial(setattr, module, "training", module.training)))
        if isinstance(module, torch.jit.ScriptModule):
            inner = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            return _named(name, dict([*inner, *module.named_children()]))
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            state = copy.deepcopy(module.get_extra_state())
            # First of all, so that the attributes that it sets are afterwards the objects that they were.
            self.parts.insert(0, (f"{name}'s extra state", lambda: module.set_extra_state(copy.deepcopy(state))))
        # No level in names: model.0.weight, as in torch.
        tables: list[Any] = [module._parameters, module._buffers, module._modules]
        if not type(module).__module__.startswith(("torch.distributed", "torch.nn.parallel")):
            tables.append(module.__dict__)  # those of DDP and FSDP mirror state that is not Python's
        self._seen.update((id(table), table) for table in tables)
        return [child for table in tables for child in self._keep_dict(name, table)]

    def _keep_function(self, name: str, function: Any) -> Children:
        """Keep the state that a function uses from outside its arguments. Returns it, and the functions that it calls.

        State is: modules, optimizers, schedulers, generators, objects with a state_dict, a user's objects and
        containers that hold tensors (a hand-written moving average), and variables that are tensors or floats. Bare
        tensors may be data: they are watched, not copied. Others, such as a list of losses, are the user's records.
        """
        if _top_package(function) == "torch":
            return
        for child, held, rebind in _used_by(function):
            where = f"{name}'s {child}"
            if rebind is not None and isinstance(held, (Tensor, float, type(None))):
                self.parts.append((where, rebind))
            if isinstance(held, FUNCTIONS):
                if isinstance(held, partial) or _top_package(held) not in LEFT_ALONE:
                    yield where, held
            elif isinstance(held, Tensor):
                if id(held) not in self._seen:
                    self._watch(where, held)
            elif found := _state_of(where, held):
                self._roots.update(id(state) for _, state in found)
                yield from found
            else:
                is_entered = not isinstance(held, (*ATOMS, *OF_DATA)) and _is_entered(held)
                table = held if isinstance(held, dict) else getattr(held, "__dict__", None) if is_entered else None
                self.parts += [(where, _if_filled(table))] if table is not None else []

    def _keep_dict(self, name: str, attributes: dict[str, Any]) -> list[tuple[str, Any]]:
        self.parts.append((name, restorers.of_dict(attributes)))
        return _named(name, attributes)

    def _watch(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_inference():
            self.watched.append((name, tensor, tensor._version))


def has_state_dict(thing: Any) -> bool:
    """Whether an object has state_dict and load_state_dict."""
    return hasattr(type(thing), "state_dict") and hasattr(type(thing), "load_state_dict")


def _named(name: str, attributes: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{name}.{key}", value) for key, value in attributes.items()]


def _items(name: str, container: Any) -> Children:
    """All that a container holds, its keys included."""
    entries = dict.items(container) if isinstance(container, dict) else enumerate(container)
    for key, value in entries:
        is_short = isinstance(key, (str, int, float, tuple)) and len(repr(key)) < 60
        shown = f"{name}[{repr(key) if is_short else type(key).__name__}]"
        yield from ((shown, key), (shown, value)) if isinstance(container, dict) else ((shown, value),)


def _is_entered(thing: Any) -> bool:
    """Whether an object's attributes are kept."""
    if isinstance(thing, (torch.optim.Optimizer, LRScheduler, *OF_DATA)) or has_state_dict(thing):
        return True
    return _top_package(type(thing)) not in LEFT_ALONE or type(thing).__module__.startswith(ENTERED)


def _top_package(thing: Any) -> str:
    """Of a class or a function."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def _is_order(name: str, values: Any) -> bool:
    """Whether this is an attribute that holds the order of samples rather than samples."""
    is_integer = not values.dtype.is_floating_point if isinstance(values, Tensor) else values.dtype.kind in "iu"
    return is_integer and values.ndim <= 1 and values.nbytes <= ORDER and not name.endswith("]")


def _is_opaque(thing: Any, data: bool) -> bool:
    """Whether a thing holds state that cannot be reached. Locks, connections and the like do not count."""
    if data:
        return hasattr(thing, "__next__") and type(thing).__module__ in ("builtins", "itertools")
    methods = ("__next__", "__setitem__", "append", "add", "put")
    holds = any(hasattr(type(thing), method) for method in methods) and not isinstance(thing, io.IOBase)
    return holds or isinstance(thing, (types.MappingProxyType, np.random.BitGenerator))


def _state_of(name: str, held: Any) -> list[tuple[str, Any]]:
    """The parts of an object that are state: all of it if it holds tensors, else those that belong to the training."""
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
        if isinstance(thing, OF_TRAINING) or has_state_dict(thing):
            found.append((path, thing))
        elif isinstance(thing, CONTAINERS):
            waiting.extend(itertools.islice(_items(path, thing), MANY))
        elif _is_entered(thing):
            waiting.extend(_named(path, {**slots_of(thing), **getattr(thing, "__dict__", {})}))
    return found


def _if_filled(table: dict[Any, Any]) -> Restore:
    """Restores a dict if it holds state when it is called, such as an average that the first step makes."""
    restore = restorers.of_dict(table)
    return lambda: restore() if _state_of("", table) else None


def _used_by(function: Any) -> Iterator[tuple[str, Any, Restore | None]]:
    """(name, object, function that rebinds the name to it) of all that a function, method or partial uses."""
    if isinstance(function, partial):
        yield "function", function.func, None
        yield from ((str(key), value, None) for key, value in (*enumerate(function.args), *function.keywords.items()))
    elif isinstance(function, types.MethodType):
        yield "object", function.__self__, None
        yield "function", function.__func__, None
    else:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            get, put = partial(getattr, cell, "cell_contents"), partial(setattr, cell, "cell_contents")
            with contextlib.suppress(ValueError):  # a name that has no value yet
                yield name, get(), _rebinder(get, put)
        named = {**(function.__kwdefaults__ or {}), **function.__dict__}
        yield from ((str(key), value, None) for key, value in (*enumerate(function.__defaults__ or ()), *named.items()))
        variables = function.__globals__
        for name in sorted(_global_names(function.__code__) & variables.keys()):
            get, put = partial(variables.get, name), partial(variables.__setitem__, name)
            yield name, get(), _rebinder(get, put)


def _rebinder(get: Callable[[], Any], put: Callable[[Any], None]) -> Restore:
    """Gives a variable its value back. A variable that was None is reset only if it now holds state."""
    value = get()

    def restore() -> None:
        now = get()
        if now is not value and (value is not None or _state_of("", now)):
            put(value)

    return restore


@cache
def _global_names(code: types.CodeType) -> frozenset[str]:
    steps = dis.get_instructions(code)
    own = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")}
    return frozenset(own).union(*(_global_names(each) for each in code.co_consts if isinstance(each, types.CodeType)))
