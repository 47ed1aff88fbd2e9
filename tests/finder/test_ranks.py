"""Two processes that train one model, over gloo on CPUs."""

import datetime
import json
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from trainings import cross_entropy, plain

from lrlib.finder.sweeps import range_test

OPTIONS = {"num_iter": 60, "start_lr": 1e-4, "repeats": 2, "progress": False}


def samples(n=256):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 8, generator=generator)
    return TensorDataset(inputs, (inputs[:, 0] > 0.5).long() + (inputs[:, 1] > 0).long())


def net(norm=False):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32) if norm else nn.ReLU(), nn.Linear(32, 3))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)


def loader():
    sampler = DistributedSampler(samples(), dist.get_world_size(), dist.get_rank(), shuffle=True)
    sampler.set_epoch(3)
    return DataLoader(sampler.dataset, batch_size=4, sampler=sampler)


def state_of(model, optimizer):
    grads = [(id(p.grad), p.grad) for p in model.parameters()]
    return plain([model.state_dict(), optimizer.state_dict(), grads])


def swept(model, batches, optimizer=None, loss_fn=cross_entropy, **changes):
    """What a sweep finds, and whether everything is back."""
    optimizer = optimizer or sgd(model)
    before = state_of(model, optimizer)
    result = range_test(model, optimizer, loss_fn, batches, **{**OPTIONS, **changes})
    found = {"losses": [each.loss.tolist() for each in result.sweeps], "whole": result._to_json()}
    found["val"] = [each.val.tolist() for each in result.sweeps]
    return {**found, "back": state_of(model, optimizer) == before}


def ddp(rank):
    batches, seen = loader(), []
    own = type(batches.sampler).set_epoch
    batches.sampler.set_epoch = lambda epoch: (seen.append(epoch), own(batches.sampler, epoch))
    found = swept(DistributedDataParallel(net(norm=True)), batches, num_iter=100)
    return {**found, "epoch": batches.sampler.epoch, "seen": seen}


def refined(rank):
    return swept(DistributedDataParallel(net(norm=True)), loader(), refine=True, num_iter=100)


def means(rank):
    """Losses are the means over the processes: the curve of one process that has both halves of every batch."""
    data = samples(64)
    batches = [data[rank * 32 + i : rank * 32 + i + 8] for i in range(0, 32, 8)]
    halves = [zip(data[i : i + 8], data[32 + i : 40 + i], strict=True) for i in range(0, 32, 8)]
    both = [[torch.cat(parts) for parts in pair] for pair in halves]
    return {**swept(DistributedDataParallel(net()), batches), "alone": swept(net(), both)["losses"]}


def validated(rank):
    """One process has more validation batches than the other; the mean is over all samples of both."""
    data, model = samples(40), DistributedDataParallel(net(norm=True))
    val = [data[:10], data[10:20]] if rank == 0 else [data[20:25]]
    few = {"start_lr": 1e-30, "end_lr": 1e-29, "num_iter": 10}
    weighted = swept(model, loader(), val_loader=val, val_metric=lambda batch: float(len(batch[0])), **few)["val"][0]
    return {**swept(model, loader(), val_loader=val), "weighted": weighted}


def raising(rank):
    """Every process raises, at first by a bug and then where the output is no longer finite."""
    model, calls = DistributedDataParallel(net()), []

    def bug(out, targets):
        calls.append(1)
        if len(calls) == 20:
            raise ValueError("mine")
        return cross_entropy(out, targets)

    try:
        swept(model, loader(), loss_fn=bug, end_lr=0.1)
    except Exception as err:
        return {**swept(model, loader(), end_lr=1e30, diverge_th=None), "bug": f"{type(err).__name__}: {err}"}


def in_buckets(rank):
    """Gradients that are views of DDP's buckets, which the sweep writes to."""
    model, batch = DistributedDataParallel(net(), gradient_as_bucket_view=True), samples(8)[:]
    for _ in range(2):
        cross_entropy(model(batch[0]), batch[1]).backward()
    return swept(model, loader())


def sharded(rank):
    """FSDP, its second kind, on CPUs."""
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.fsdp import fully_shard

        model, mesh, data = net(), init_device_mesh("cpu", (2,)), samples(16)
        for part in (model[0], model):
            fully_shard(part, mesh=mesh)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        cross_entropy(model(data[:][0]), data[:][1]).backward()
    except (ImportError, RuntimeError, NotImplementedError, AssertionError) as err:
        return {"skipped": f"this torch does not shard on CPUs: {err}"}
    optimizer.step()
    before = [p.to_local().tolist() for p in model.parameters()]
    result = range_test(model, optimizer, cross_entropy, loader(), clip_norm=1.0, **OPTIONS)
    return {"whole": result._to_json(), "back": [p.to_local().tolist() for p in model.parameters()] == before}


CASES = {case.__name__: case for case in (ddp, refined, means, validated, raising, sharded, in_buckets)}


def answer(rank, folder):
    """What each of the two processes does."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=120)  # so that a deadlock fails
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=wait)
    answers = {}
    for name, case in CASES.items():
        answers[name] = case(rank)
        dist.all_reduce(torch.ones(1))  # reached by both processes only if neither is stuck in a sweep
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers of process 0 and of process 1 in each case."""
    folder = tmp_path_factory.mktemp("ranks")
    start_processes(answer, (folder,), nprocs=2, start_method="fork")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_all_processes_return_the_same_result_and_everything_is_back_in_each(answers, case):
    first, second = (each[case] for each in answers)
    if "skipped" in first:
        pytest.skip(first["skipped"])
    assert first.get("whole") == second.get("whole")
    assert first["back"] and second["back"]


def test_a_distributed_sampler_gets_an_epoch_of_its_own_for_each_pass_and_its_own_back(answers):
    for each in (answers[0]["ddp"], answers[1]["ddp"]):
        assert each["epoch"] == 3
        assert len(each["seen"]) >= 4 and len(set(each["seen"])) >= 4  # two sweeps of 32 batches a pass
        assert not np.array_equal(each["losses"][0][:20], each["losses"][1][:20])


def test_losses_are_the_means_over_the_processes_and_validation_is_over_all_samples(answers):
    means = answers[0]["means"]
    assert np.allclose(means["losses"][0][:40], means["alone"][0][:40], rtol=1e-4)
    assert answers[0]["validated"]["weighted"] == [pytest.approx((10 * 10 + 5 * 5) / 15)] * 10


def test_an_exception_of_all_processes_comes_out_of_each(answers):
    assert [each["raising"]["bug"] for each in answers] == ["ValueError: mine"] * 2
