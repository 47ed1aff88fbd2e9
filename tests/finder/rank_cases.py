"""What each of two processes does in test_ranks.py: `python rank_cases.py RANK FOLDER [CASE]`.

Answers in FOLDER/RANK.json: of all cases after which the processes go on together, or of the one that was named.
"""

import datetime
import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lrlib.finder.sweeps import range_test

cross_entropy = nn.functional.cross_entropy
OPTIONS = {"num_iter": 60, "start_lr": 1e-4, "repeats": 2, "progress": False}


def samples(n=256):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 8, generator=generator)
    return TensorDataset(inputs, (inputs[:, 0] > 0.5).long() + (inputs[:, 1] > 0).long())


def build(optimizer=torch.optim.SGD, norm=False, layers=(), **settings):
    torch.manual_seed(0)
    layers = layers or [nn.Linear(8, 32), nn.BatchNorm1d(32) if norm else nn.ReLU(), nn.Linear(32, 3)]
    model = DistributedDataParallel(nn.Sequential(*layers), **settings)
    if optimizer is ZeroRedundancyOptimizer:
        return model, ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.01)
    return model, optimizer(model.parameters(), lr=0.01)


def loader(data=None, batch_size=4):
    data = data or samples()
    sampler = DistributedSampler(data, dist.get_world_size(), dist.get_rank(), shuffle=True)
    sampler.set_epoch(3)
    return DataLoader(data, batch_size=batch_size, sampler=sampler)


def bits(*things):
    """Every number of modules and optimizers, as text."""
    found = []
    for thing in things:
        state = thing.state_dict() if isinstance(thing, nn.Module) else getattr(thing, "optim", thing).state_dict()
        found.append(
            repr(torch.utils._pytree.tree_map(lambda v: v.tolist() if isinstance(v, torch.Tensor) else v, state))
        )
    return hash("".join(found))


def found(result):
    return {
        "steps": [len(swept.loss) for swept in result.sweeps],
        "losses": [swept.loss.tolist() for swept in result.sweeps],
        "val": [swept.val.tolist() for swept in result.sweeps],
        "reasons": [swept.stop_reason for swept in result.sweeps],
        "lr": result.suggest().lr,
        "whole": repr(result._head()),
    }


def goes_on():
    """What both processes reach only if neither is stuck in a sweep."""
    total = torch.ones(1)
    dist.all_reduce(total)
    return total.item()


def plain(rank):
    model, optimizer = build(norm=True)
    batches, seen = loader(), []
    batches.sampler.set_epoch = lambda epoch: (
        seen.append(epoch),
        type(batches.sampler).set_epoch(batches.sampler, epoch),
    )
    before = bits(model, optimizer)
    result = range_test(model, optimizer, cross_entropy, batches, **{**OPTIONS, "num_iter": 100})
    return {**found(result), "back": bits(model, optimizer) == before, "epoch": batches.sampler.epoch, "seen": seen}


def means(rank):
    """Losses are the means over the processes: the curve of one process that has both halves of every batch."""
    data = samples(64)
    batches = [data[rank * 32 + i : rank * 32 + i + 8] for i in range(0, 32, 8)]
    model, optimizer = build()
    shared = range_test(model, optimizer, cross_entropy, batches, **OPTIONS)
    halves = [zip(data[i : i + 8], data[32 + i : 40 + i], strict=True) for i in range(0, 32, 8)]
    both = [[torch.cat(parts) for parts in pair] for pair in halves]
    torch.manual_seed(0)
    alone = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.01)
    whole = range_test(alone, optimizer, cross_entropy, both, **OPTIONS)
    return {**found(shared), "alone": [swept.loss.tolist() for swept in whole.sweeps]}


def zero(rank):
    model, optimizer = build(ZeroRedundancyOptimizer)
    data = samples(16)
    optimizer.zero_grad()
    cross_entropy(model(data[:][0]), data[:][1]).backward()
    optimizer.step()
    before = bits(model, optimizer)
    result = range_test(model, optimizer, cross_entropy, [data[:]], **OPTIONS)
    return {**found(result), "back": bits(model, optimizer) == before}


def looked(rank):
    """Ends that a look chooses, and rates that are held."""
    model, optimizer = build()
    before = bits(model, optimizer)
    stairs = {"step_mode": "staircase", "num_rates": 12, "start_lr": None, "end_lr": None}
    result = range_test(model, optimizer, cross_entropy, loader(), **{**OPTIONS, **stairs})
    return {**found(result), "back": bits(model, optimizer) == before}


def validated(rank):
    """One process has more validation batches than the other; the mean is over all samples of both."""
    model, optimizer = build(norm=True)
    data = samples(40)
    val = [data[:10], data[10:20]] if rank == 0 else [data[20:25]]
    result = range_test(model, optimizer, cross_entropy, loader(), val_loader=val, val_every=10, **OPTIONS)
    first = range_test(
        model, optimizer, cross_entropy, loader(), val_loader=val, start_lr=1e-30, end_lr=1e-29, num_iter=10,
        val_every=10, repeats=1, progress=False, val_metric=lambda batch: float(len(batch[0])),
    )  # fmt: skip
    return {**found(result), "weighted": first.sweeps[0].val.tolist()}


def raising(rank):
    """One process alone raises, at first by a bug and then by the explosion."""
    answers = {}
    model, optimizer = build()
    calls = []

    def bug(out, targets):
        calls.append(1)
        if rank == 1 and len(calls) == 20:
            raise ValueError("mine")
        return cross_entropy(out, targets)

    before = bits(model, optimizer)
    try:
        range_test(model, optimizer, bug, loader(), **{**OPTIONS, "end_lr": 0.1})
    except Exception as err:
        answers["bug"] = f"{type(err).__name__}: {err}"
    answers["back"] = bits(model, optimizer) == before

    def strict(out, targets):
        if rank == 1 and not out.abs().max() < 50:
            raise ValueError("out of range")
        return (out.exp().sum(1) - out.gather(1, targets[:, None])[:, 0]).mean()

    result = range_test(model, optimizer, strict, loader(), **{**OPTIONS, "end_lr": 1e4, "diverge_th": 1e30})
    return {**answers, **found(result), "back after": bits(model, optimizer) == before}


class Breaking(nn.Module):
    """Passes on what it gets; its backward pass raises where it was told to, or where the gradient is not finite."""

    def __init__(self, raises=lambda: False):
        super().__init__()

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, values):
                return values.clone()

            @staticmethod
            def backward(ctx, gradient):
                if raises():
                    raise ValueError("mine")
                if not gradient.abs().max() < 1e6:
                    raise ValueError("out of range")
                return gradient

        self.function = Function

    def forward(self, values):
        return self.function.apply(values)


def in_backward(rank):
    """One process alone raises in its backward pass, with gradients on their way: by a bug, then by the explosion."""
    bugs = []
    for place, settings in {1: {}, 3: {"find_unused_parameters": True}, 5: {}}.items():
        calls = []

        def raises(calls=calls):
            calls.append(1)
            return rank == 1 and len(calls) == 21

        layers = [nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
        layers.insert(place, Breaking(raises))
        model, optimizer = build(layers=layers, bucket_cap_mb=0.01, **settings)
        before = bits(model, optimizer)
        try:
            range_test(model, optimizer, cross_entropy, loader(), accumulation_steps=2, **{**OPTIONS, "end_lr": 0.1})
        except Exception as err:
            bugs.append(f"{type(err).__name__}: {err}")
        assert bits(model, optimizer) == before

    def loss_fn(out, targets):
        return (out.exp().sum(1) - out.gather(1, targets[:, None])[:, 0]).mean()

    layers = [nn.Linear(8, 32), nn.ReLU(), *([Breaking()] if rank == 1 else [nn.Identity()]), nn.Linear(32, 3)]
    model, optimizer = build(layers=layers, bucket_cap_mb=1e-4)
    result = range_test(model, optimizer, loss_fn, loader(), **{**OPTIONS, "end_lr": 1e4, "diverge_th": 1e30})
    return {**found(result), "bugs": bugs}


def stuck(rank):
    """A sharded model whose backward pass raises in one process: the other waits for its group's timeout."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    calls = []

    def raises():
        calls.append(1)
        return rank == 1 and len(calls) == 15

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), Breaking(raises), nn.Linear(32, 3))
    for part in (model[0], model):
        fully_shard(part, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = repr([p.to_local().tolist() for p in model.parameters()])
    answers = said_by(model, optimizer)
    time.sleep(20 * rank)  # the other's connection is not closed
    return {**answers, "back": repr([p.to_local().tolist() for p in model.parameters()]) == before}


def ended(rank):
    """One process ends in its backward pass."""
    model, optimizer = build(layers=[nn.Linear(8, 32), Breaking(lambda: os._exit(1) if rank == 1 else False)])
    return said_by(model, optimizer)


def said_by(model, optimizer):
    try:
        range_test(model, optimizer, cross_entropy, loader(), **OPTIONS)
    except Exception as err:
        return {"said": f"{type(err).__name__}: {err}", "notes": getattr(err, "__notes__", [])}


def sharded(rank):
    """FSDP, its second kind, on CPUs."""
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        return {"skipped": "this torch has no fully_shard"}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    mesh = init_device_mesh("cpu", (2,))
    try:
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        data = samples(16)
        cross_entropy(model(data[:][0]), data[:][1]).backward()
    except (RuntimeError, NotImplementedError, AssertionError) as err:
        return {"skipped": f"this torch does not shard on CPUs: {err}"}
    optimizer.step()
    before = repr([p.to_local().tolist() for p in model.parameters()])
    result = range_test(model, optimizer, cross_entropy, loader(), clip_norm=1.0, **OPTIONS)
    return {**found(result), "back": repr([p.to_local().tolist() for p in model.parameters()]) == before}


CASES = {case.__name__: case for case in (plain, means, zero, looked, validated, raising, in_backward, sharded)}
ALONE = {case.__name__: case for case in (stuck, ended)}


def main(rank, folder, alone=None):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=10 if alone else 120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=wait)
    if alone:
        (folder / f"{rank}.json").write_text(json.dumps({alone: ALONE[alone](rank)}))
        os._exit(0)  # there is nobody to leave the group with
    answers = {}
    for name, case in CASES.items():
        answers[name] = {**case(rank), "went on": goes_on()}
        (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
