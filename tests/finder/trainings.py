"""What the tests of the range test share: a small training, its sweep, and a fingerprint of all that it may change."""

import collections
import ctypes
import io
import queue
import random
import types

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrlib.finder.sweeps import range_test

cross_entropy = nn.functional.cross_entropy


def blobs(n=512, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    centres = 2 * torch.randn(3, 6, generator=generator)
    return centres[targets] + torch.randn(n, 6, generator=generator), targets


def build(n=512, batch_size=32, lr=0.1, **optimizer_settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **optimizer_settings)
    loader = DataLoader(
        TensorDataset(*blobs(n)), batch_size=batch_size, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    return model, optimizer, loader


def net():
    """A smaller one, without buffers and dropout."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def batches(n=256, size=32):
    return list(zip(*(part.split(size) for part in blobs(n)), strict=True))


def sweep(model, optimizer, loader, **changes):
    changes = {"num_iter": 60, "start_lr": 1e-4, "repeats": 1, "progress": False, **changes}
    loss_fn = changes.pop("loss_fn", None if "step_fn" in changes else cross_entropy)
    return range_test(model, optimizer, loss_fn, loader, **changes)


def train(model, optimizer, loader, scaler=None):
    """One step a batch, as in a loop written by hand. Returns the losses."""
    scaler, losses = scaler or torch.amp.GradScaler("cpu", enabled=False), []
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses


def record_lrs(optimizer):
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append([float(g["lr"]) for g in optimizer.param_groups]))
    return seen


def plain(value):
    """The value with every tensor as (dtype, shape, bytes), comparable with ==."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().cpu().contiguous().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {k if not isinstance(k, torch.Tensor) else id(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


# How values are read, without the code under test.
VALUES = {
    torch.Tensor: lambda t: (plain(t), t.data_ptr(), t.stride(), t.requires_grad, t.is_leaf and id(t.grad)),
    torch.Generator: lambda g: plain(g.get_state()),
    np.random.Generator: lambda g: repr(g.bit_generator.state),
    np.random.RandomState: lambda g: plain(g.get_state()),
    random.Random: lambda g: g.getstate(),
    np.ndarray: lambda a: (a.tobytes(), a.shape),
    bytearray: bytes,
    io.BytesIO: lambda f: (f.getvalue(), f.tell()),
    ctypes._SimpleCData: lambda c: c.value,
    set: lambda s: sorted(map(repr, s)),
    dict: lambda d: [key if isinstance(key, (str, int)) else id(key) for key in d],
}


def children(thing):
    if isinstance(thing, queue.Queue):
        return [thing.queue]
    if isinstance(thing, torch.Tensor) and thing.is_leaf and thing.grad is not None:
        return [thing.grad, *vars(thing).values()]
    items = thing.values() if isinstance(thing, dict) else thing
    items = list(items) if isinstance(thing, (dict, list, tuple, collections.deque)) else []
    slots = [getattr(thing, slot, "missing") for slot in getattr(type(thing), "__slots__", ())]
    return [*items, *(value for _, value in sorted(getattr(thing, "__dict__", {}).items())), *slots]


def fingerprint(*roots):
    """The random state, and (id, value) of all that is reachable through attributes and containers."""
    found = [random.getstate(), plain(np.random.get_state()), plain(torch.get_rng_state())]
    seen, waiting = set(), list(roots)
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, (str, int, float, bool, bytes, type(None), type, types.FunctionType, np.generic)):
            found.append(repr(thing))
        elif id(thing) not in seen:
            seen.add(id(thing))
            found.append((id(thing), [value(thing) for kind, value in VALUES.items() if isinstance(thing, kind)]))
            waiting += children(thing)
    return found
