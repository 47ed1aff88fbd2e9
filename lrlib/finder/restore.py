"""Training state that is put back to the bit: model, optimizer, scaler, schedulers, random generators."""

import copy
import random
import signal
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

OFFLOADS = (None, "disk")


@contextmanager
def kept(model, optimizer, *, scaler=None, schedulers=(), loaders=(), offload=None):
    """Keep the training state on entry, put it back to the bit on exit: also after an exception or Ctrl-C.

    Yields the State, whose put_back() may be called in between, as often as needed.
    A Ctrl-C while the state is being put back takes effect once all of it is back.

    Kept are the model's parameters (values, requires_grad, gradients), buffers, extra state and the train/eval
    mode of every submodule; the optimizer's state and parameter groups; the scaler; the schedulers; the random
    state of Python, NumPy and torch on each device; and the generators of the loaders and their samplers.
    Not kept: plain Python attributes of modules and datasets, and the random state inside persistent
    loader workers.

    offload: None keeps one copy of model and optimizer state where they are, "disk" in a temporary file.
    Gradients are set aside, not copied, and are None inside.
    Raises ValueError if offload is unknown or the model has parameters that have no shape yet.
    """
    state = State(model, optimizer, scaler=scaler, schedulers=schedulers, loaders=loaders, offload=offload)
    try:
        state.set_gradients_aside()
        yield state
    finally:
        with _interrupts_deferred():
            state.put_back()
            state.put_gradients_back()
            state.discard()


class State:
    """One copy of everything that training changes; see `kept`."""

    def __init__(self, model, optimizer, *, scaler=None, schedulers=(), loaders=(), offload=None):
        if offload not in OFFLOADS:
            raise ValueError(f'offload must be None or "disk", got {offload!r}; None keeps the copy in memory')
        for name, parameter in model.named_parameters():
            if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
                raise ValueError(f"parameter {name} has no shape yet; run one batch through the lazy model first")
        self._tensors = []  # (tensor, its copy)
        self._copy = torch.Tensor.detach if offload == "disk" else _clone  # a file is a copy by itself
        self._file = None
        self._model, self._optimizer = model, optimizer

        self._modules = [
            (module, module.training, dict(module._parameters), dict(module._buffers), _extra_state(module))
            for module in model.modules()
        ]
        parameters = [*model.parameters(), *(p for group in optimizer.param_groups for p in group["params"])]
        parameters = list({id(p): p for p in parameters}.values())
        self._parameters = [(p, p.requires_grad, p.grad) for p in parameters]
        self._shapes = {id(p): tuple(p.shape) for p in parameters}
        for tensor in {id(t): t for t in [*parameters, *model.buffers()]}.values():
            self._plan(tensor)

        self._attributes = dict(vars(optimizer))
        self._state_plan = self._plan(optimizer.state)
        self._groups = [(group, list(group["params"])) for group in optimizer.param_groups]
        self._group_plans = [
            self._plan({k: v for k, v in group.items() if k != "params"}) for group in optimizer.param_groups
        ]
        carriers = [carrier for carrier in (scaler, *schedulers) if carrier is not None]
        self._carrier_plans = [self._plan(vars(carrier)) for carrier in carriers]
        self._generators = [(g, _generator_state(g)) for g in generators_of(*loaders)]
        self._random_state = _random_state()
        if offload == "disk":
            self._move_to_disk()

    def put_back(self):
        """Everything but the gradients, which are None afterwards."""
        copies = self._copies()
        with torch.no_grad():
            for (tensor, _), copied in zip(self._tensors, copies, strict=True):
                _overwrite(tensor, copied)
        for module, training, parameters, buffers, extra_state in self._modules:
            module.training = training
            _refill(module._parameters, parameters)
            _refill(module._buffers, buffers)
            if extra_state is not None:
                module.set_extra_state(copy.deepcopy(extra_state))
        for parameter, requires_grad, _ in self._parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = None

        self._state_plan()
        for (group, parameters), plan in zip(self._groups, self._group_plans, strict=True):
            group["params"][:] = parameters
            _refill(group, {"params": group["params"], **plan()})
        _refill(vars(self._optimizer), self._attributes)
        self._optimizer.param_groups[:] = [group for group, _ in self._groups]
        for plan in self._carrier_plans:
            plan()
        for generator, state in self._generators:
            _set_generator_state(generator, state)
        _set_random_state(self._random_state)

    def set_gradients_aside(self):
        for parameter, _, _ in self._parameters:
            parameter.grad = None

    def put_gradients_back(self):
        for parameter, _, gradient in self._parameters:
            parameter.grad = gradient

    def changed_shapes(self):
        """(name, shape kept, shape now) of every parameter whose shape has changed."""
        return [
            (name, self._shapes[id(p)], tuple(p.shape))
            for name, p in self._model.named_parameters()
            if id(p) in self._shapes and self._shapes[id(p)] != tuple(p.shape)
        ]

    def discard(self):
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _plan(self, value):
        """A function that gives the value back as it was: the same objects, holding what they held."""
        if isinstance(value, torch.Tensor):
            self._tensors.append((value, self._copy(value)))
            return lambda: value
        if isinstance(value, dict):
            plans = {key: self._plan(item) for key, item in value.items()}
            return lambda: _refill(value, {key: plan() for key, plan in plans.items()})
        if isinstance(value, list):
            plans = [self._plan(item) for item in value]
            return lambda: _refill_list(value, [plan() for plan in plans])
        if isinstance(value, tuple):  # betas may be tensors
            for item in value:
                self._plan(item)
        if isinstance(value, LRScheduler):  # SequentialLR and ChainedScheduler hold others
            attributes = self._plan(vars(value))
            return lambda: (attributes(), value)[1]
        return lambda: value

    def _move_to_disk(self):
        with tempfile.NamedTemporaryFile(prefix="lrlib-", suffix=".pt", delete=False) as file:
            self._file = Path(file.name)
        try:
            torch.save([copied for _, copied in self._tensors], self._file)
        except BaseException:
            self.discard()
            raise
        self._tensors = [(tensor, None) for tensor, _ in self._tensors]

    def _copies(self):
        if self._file is None:
            return [copied for _, copied in self._tensors]
        return torch.load(self._file, map_location="cpu", mmap=True, weights_only=True)


def generators_of(*loaders):
    """Every random generator that a loader, its samplers or its own attributes hold: a list without repeats.

    The kinds: torch.Generator, numpy.random.Generator, numpy.random.RandomState, random.Random.
    """
    found = {}
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        for owner in (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            for value in getattr(owner, "__dict__", {}).values():
                if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
                    found[id(value)] = value
    return list(found.values())


def seed_everything(seed, generators=()):
    """Seed Python, NumPy, torch (each device) and the given generators with one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    for generator in generators:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            bits = type(generator.bit_generator)(seed)
            generator.bit_generator.state = bits.state
        else:
            generator.seed(seed % 2**32)


def _refill(mapping, items):
    mapping.clear()
    mapping.update(items)
    return mapping


def _refill_list(values, items):
    values[:] = items
    return values


def _clone(tensor):
    return tensor.detach().clone()


def _overwrite(tensor, copied):
    if tensor.shape == copied.shape and tensor.dtype == copied.dtype:
        tensor.copy_(copied)
    else:
        tensor.data = copied.to(tensor.device, copy=True)


def _extra_state(module):
    if type(module).get_extra_state is torch.nn.Module.get_extra_state:
        return None
    return copy.deepcopy(module.get_extra_state())


def _generator_state(generator):
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def _set_generator_state(generator, state):
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _device_backends():
    """The torch backends with random state of their own that are in use: asking an unused one would start it."""
    backends = [torch.cuda, torch.xpu]
    return [backend for backend in backends if backend.is_available() and backend.is_initialized()]


def _random_state():
    devices = [(backend, backend.get_rng_state_all()) for backend in _device_backends()]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), devices, mps


def _set_random_state(state):
    python, numpy, cpu, devices, mps = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    for backend, states in devices:
        backend.set_rng_state_all(states)
    if mps is not None:
        torch.mps.set_rng_state(mps)


@contextmanager
def _interrupts_deferred():
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
