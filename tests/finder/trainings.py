"""What the tests of the range test share: a small training, its sweep, and a fingerprint of all that it may change."""

import random

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


def generators_of(loader):
    """The random generators of a loader and its samplers."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
    return list({id(value): value for value in found if isinstance(value, torch.Generator)}.values())


def fingerprint(model, optimizer, loader, scaler=None, schedulers=()):
    return {
        "parameters": {n: (id(p), plain(p), p.requires_grad, p.grad is None) for n, p in model.named_parameters()},
        "grads": {n: (id(p.grad), plain(p.grad)) for n, p in model.named_parameters()},
        "buffers": {n: (id(b), plain(b)) for n, b in model.named_buffers()},
        "modes": [m.training for m in model.modules()],
        "groups": [(id(g), plain({k: v for k, v in g.items() if k != "params"})) for g in optimizer.param_groups],
        "members": [[id(p) for p in g["params"]] for g in optimizer.param_groups],
        "state": {id(p): plain(state) for p, state in optimizer.state.items()},
        "attributes": sorted(vars(optimizer)),
        "scaler": None if scaler is None else plain(scaler.state_dict()) | {"lazy": scaler._scale is None},
        "schedulers": [plain({k: v for k, v in vars(s).items() if k != "optimizer"}) for s in schedulers],
        "random": (random.getstate(), plain(np.random.get_state()), plain(torch.get_rng_state())),
        "generators": [plain(g.get_state()) for g in generators_of(loader)],
    }
