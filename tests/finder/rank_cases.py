"""What each of two processes does in test_ranks.py: `python rank_cases.py RANK FOLDER`; answers in FOLDER/RANK.json."""

import datetime
import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
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
    return {"losses": [swept.loss.tolist() for swept in result.sweeps], "whole": result._to_json()}


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


def refined(rank):
    model, optimizer = build(norm=True)
    before = bits(model, optimizer)
    result = range_test(model, optimizer, cross_entropy, loader(), refine=True, **{**OPTIONS, "num_iter": 100})
    lrs = [[float(held.lr[0]), len(held.lr)] for held in result.holds]
    return {**found(result), "back": bits(model, optimizer) == before, "holds": lrs}


def validated(rank):
    """One process has more validation batches than the other; the mean is over all samples of both."""
    model, optimizer = build(norm=True)
    data = samples(40)
    val = [data[:10], data[10:20]] if rank == 0 else [data[20:25]]
    result = range_test(model, optimizer, cross_entropy, loader(), val_loader=val, **OPTIONS)
    first = range_test(
        model, optimizer, cross_entropy, loader(), val_loader=val, start_lr=1e-30, end_lr=1e-29, num_iter=10,
        repeats=1, progress=False, val_metric=lambda batch: float(len(batch[0])),
    )  # fmt: skip
    return {**found(result), "weighted": first.sweeps[0].val.tolist()}


def raising(rank):
    """Every process raises, at first by a bug and then where the output is no longer finite."""
    answers = {}
    model, optimizer = build()
    calls = []

    def bug(out, targets):
        calls.append(1)
        if len(calls) == 20:
            raise ValueError("mine")
        return cross_entropy(out, targets)

    before = bits(model, optimizer)
    try:
        range_test(model, optimizer, bug, loader(), **{**OPTIONS, "end_lr": 0.1})
    except Exception as err:
        answers["bug"] = f"{type(err).__name__}: {err}"
    result = range_test(model, optimizer, cross_entropy, loader(), **{**OPTIONS, "end_lr": 1e30, "diverge_th": None})
    return {**answers, **found(result), "back": bits(model, optimizer) == before}


def in_buckets(rank):
    """Gradients that are views of DDP's buckets, which the sweep writes to."""
    model, optimizer = build(gradient_as_bucket_view=True)
    batch = samples(8)[:]
    for _ in range(2):
        cross_entropy(model(batch[0]), batch[1]).backward()
    before = [(id(p.grad), p.grad.tolist()) for p in model.parameters()]
    range_test(model, optimizer, cross_entropy, loader(), **OPTIONS)
    return {"back": [(id(p.grad), p.grad.tolist()) for p in model.parameters()] == before}


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


CASES = {
    "plain": plain, "refined": refined, "means": means, "validated": validated, "raising": raising, "sharded": sharded,
    "in buckets": in_buckets,
}  # fmt: skip


def main(rank, folder):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=wait)
    answers = {}
    for name, case in CASES.items():
        answers[name] = {**case(rank), "went on": goes_on()}
        (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
