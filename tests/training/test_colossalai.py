"""Colossal-AI trains what plain PyTorch trains, and none of its processes outlives those who asked for it.

The tests marked needs_colossalai are skipped where it is not installed; `make colossalai` does that.
"""

import functools
import importlib.util
import re
import sys
import threading

import numpy as np
import psutil
import pytest
import torch
from conftest import find_workers, wait_until
from small_problems import make_images, train

from lrlib import Run
from lrlib.runs.engine import EngineError
from lrlib.runs.store import Store
from lrlib.runs.trainer import train as train_runs
from lrlib.schedules import Constant, OneCycle
from lrlib.training.backends import BackendError, colossal
from lrlib.training.epoch import epoch_order
from lrlib.training.numerics import fixed_numerics
from lrlib.training.processes import start_pool
from lrlib.training.registry import describe_numerics

# How far the losses of two processes may be from those of one, relatively: only the order of a batch's sums differs.
TOLERANCE = 1e-5

needs_colossalai = pytest.mark.skipif(
    importlib.util.find_spec("colossalai") is None, reason="Colossal-AI is not installed (make colossalai)"
)


@pytest.fixture(scope="module", autouse=True)
def no_rank_is_left():
    yield
    colossal.close_ranks()
    assert not find_workers()


# Three batches an epoch, the last of 5 images, and the last of 1, of which two processes get 1 and 0.
DATA = {n: make_images(n) for n in (69, 65)}


assert_equal = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


@fixed_numerics()
def train_by(backend, *, n=69, optimizer="sgd", **settings):
    schedule = OneCycle(0.1 if optimizer == "sgd" else 1e-3, final_div_factor=4)
    return train(backend, DATA[n], schedule, optimizer=optimizer, **settings)


def test_what_is_not_installed_is_an_error_with_what_to_type(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="requires colossalai: type `make colossalai`"):
        describe_numerics("colossalai")


def _fail(*_):
    raise ImportError("no such plugin\nin a place")


def test_a_process_that_cannot_join_is_an_error_and_none_is_left(monkeypatch):
    monkeypatch.setattr(colossal, "_join", _fail)
    with pytest.raises(BackendError, match="a process of backend colossalai failed: ImportError: no such plugin$"):
        train_by("colossalai", processes=2)
    assert not find_workers()


@needs_colossalai
@pytest.mark.faults
def test_one_process_trains_what_plain_pytorch_trains_to_the_bit_and_prints_nothing(capfd):
    for optimizer in ("sgd", "adam"):
        assert_equal(train_by("colossalai", optimizer=optimizer), train_by("torch", optimizer=optimizer))
    assert capfd.readouterr() == ("", "")
    assert not torch.distributed.is_initialized()
    assert "colossalai" not in sys.modules
    assert describe_numerics("colossalai")["colossalai"] == "0.5.0"


@needs_colossalai
@pytest.mark.faults
@pytest.mark.parametrize("n", DATA)
def test_two_processes_train_as_one_does_but_for_the_order_of_sums(n):
    state, losses = found = train_by("colossalai", processes=2, n=n)
    ranks = {rank.pid for rank in find_workers()}
    expected_state, expected_losses = train_by("torch", n=n)
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    torch.testing.assert_close(state, expected_state, rtol=1e-4, atol=1e-6)
    assert_equal(train_by("colossalai", processes=2, n=n), found)
    assert {rank.pid for rank in find_workers()} == ranks and len(ranks) == 2


@needs_colossalai
@pytest.mark.faults
def test_one_image_in_another_s_place_shows_in_the_losses_of_two_processes():
    def swap(seed, epoch, n):
        order = epoch_order(seed, epoch, n)
        order[20] = order[40]  # one twice, one not at all
        return order

    _, losses = train_by("colossalai", processes=2, make_order=swap)
    _, expected = train_by("torch")
    assert (np.abs(losses / expected - 1)[::3] > 10 * TOLERANCE).all()  # the batches with the image twice


@needs_colossalai
@pytest.mark.faults
def test_a_loss_that_is_not_finite_ends_the_epoch_of_all_processes_at_the_same_step():
    settings = {"data": DATA[69], "schedule": Constant(1e30), "epochs": 1, "batch_size": 4}
    _, losses = train("colossalai", processes=2, **settings)
    _, expected = train("torch", **settings)
    assert 1 <= np.isfinite(losses).sum() == np.isfinite(expected).sum() < 17


@needs_colossalai
@pytest.mark.faults
def test_the_error_of_one_process_is_reported_and_both_are_ended():
    def spoil(seed, epoch, n):
        order = epoch_order(seed, epoch, n)
        order[31] = n  # in the second process's part
        return order

    with pytest.raises(BackendError, match="a process of backend colossalai failed: IndexError: index"):
        train_by("colossalai", processes=2, make_order=spoil)
    assert not find_workers()


@needs_colossalai
@pytest.mark.faults
def test_a_process_that_died_between_epochs_is_replaced():
    expected = train_by("colossalai", processes=1)
    [rank] = find_workers()
    rank.kill()
    wait_until(lambda: not find_workers(), "its end")
    assert_equal(train_by("colossalai", processes=1), expected)


@needs_colossalai
@pytest.mark.faults
def test_a_process_that_dies_in_an_epoch_is_an_error_and_none_is_left(tmp_path):
    store = Store(tmp_path)
    run = Run(Constant(0.01), problem="lenet5_sample", epochs=500, backend="colossalai", processes=2)
    found = []

    def train_in_a_thread():
        try:
            train_runs([run], store=store, progress=False)
        except EngineError as err:
            found.append(str(err))

    colossal.close_ranks()
    thread = threading.Thread(target=train_in_a_thread)
    thread.start()
    wait_until(store.list_files, "an epoch", seconds=600)
    [worker] = [child for child in psutil.Process().children() if find_workers(child.pid)]
    while thread.is_alive():  # each first death is forgiven, so until two are of the same epoch
        for rank in find_workers(worker.pid)[1:]:
            rank.kill()
        thread.join(timeout=3)
    assert re.search("a process of backend colossalai died: SIGKILL", found[0])
    wait_until(lambda: not find_workers(), "the end of all processes")


@needs_colossalai
@pytest.mark.faults
def test_a_killed_worker_leaves_no_rank():
    pool = start_pool(1, {})
    pool.submit(train_by, "colossalai", processes=2).result()
    [worker] = [child for child in psutil.Process().children() if find_workers(child.pid)]
    assert len(find_workers(worker.pid)) == 2
    worker.kill()
    wait_until(lambda: not find_workers(), "the end of all processes")
