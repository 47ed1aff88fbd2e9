"""Colossal-AI trains what plain PyTorch trains, and none of its processes outlives those who asked for it.

The tests marked needs_colossalai are skipped where it is not installed; `make colossalai` does that.
"""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_faults import in_session, wait_until

from lrlib import Run, train
from lrlib.report.command_line import main
from lrlib.runs.cluster import EngineError, open_client
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store
from lrlib.schedules import OneCycle, lr_per_step
from lrlib.training.backends import BackendError, colossal
from lrlib.training.backends.colossal_rank import BoostedTorch
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.numerics import fix_numerics
from lrlib.training.registry import describe_numerics, load_backend

BATCH, EPOCHS, STEPS = 32, 2, 3
# How far the losses of two processes may be from those of one, relatively: only the order of a batch's sums differs.
TOLERANCE = 1e-5

needs_colossalai = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, colossal.PACKAGES)), reason="Colossal-AI is not installed (make colossalai)"
)

# A rank that takes a CPU for a CUDA device, as far as Colossal-AI's ZeRO asks for one.
STAND_IN = """
import sys
from contextlib import nullcontext
from multiprocessing.connection import Connection
from colossalai.accelerator import api
from lrlib.training.backends.colossal_rank import serve

class StandIn(api.CpuAccelerator):
    name = "cuda"
    current_stream = Stream = synchronize = lambda self, *_: None
    stream = lambda self, _: nullcontext()

api._ACCELERATOR_MAPPING["cuda"] = StandIn
serve(Connection(int(sys.argv[1])))
"""

# A person's program: trains for minutes.
CALLER = """
import sys
from lrlib import Run, train
from lrlib.schedules import Constant
from lrlib.runs.store import Store

print("ready", flush=True)
run = Run(Constant(0.01), problem="lenet5_sample", epochs=1000, backend="colossalai", processes=2)
try:
    train([run], store=Store(sys.argv[1]), progress=False)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module", autouse=True)
def numerics():
    """The numerics of a worker in this process, and afterwards those of before; no rank is left."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    fix_numerics()
    yield
    colossal.close_ranks()
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    torch.utils.deterministic.fill_uninitialized_memory = fill


def make_data(n):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (n,), generator=generator)


# Three batches an epoch, the last of 5 images, and the last of 1, of which two processes get 1 and 0.
DATA = {n: make_data(n) for n in (69, 65)}


def train_by(backend, *, processes=1, n=69, optimizer="sgd", make_order=epoch_order):
    """The state after EPOCHS epochs of one cycle, and all step losses (EPOCHS * STEPS,)."""
    schedule = OneCycle(0.1 if optimizer == "sgd" else 1e-3, final_div_factor=4)
    lr, momentum = lr_per_step(schedule, epochs=EPOCHS, steps_per_epoch=STEPS, momentum=0.9)
    state, losses = initial_state(3), []
    for epoch in range(1, EPOCHS + 1):
        steps = slice((epoch - 1) * STEPS, epoch * STEPS)
        state, part = load_backend(backend).train_epoch(
            state, processes=processes, lr=lr[steps], momentum=momentum[steps], inputs=DATA[n][0], targets=DATA[n][1],
            order=make_order(3, epoch, n), batch_size=BATCH, optimizer=optimizer, weight_decay=5e-4,
        )  # fmt: skip
        losses.append(part)
    return state, np.concatenate(losses)


def assert_equal(found, expected):
    assert found[0].keys() == expected[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor) and found[0][name].dtype == tensor.dtype, name
    assert np.array_equal(found[1], expected[1])


def ranks_below(pid):
    """The ranks among a process's descendants, by process id."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "lrlib.training.backends.colossal_rank" in child.cmdline():
                found.append(child)
    return sorted(found, key=lambda child: child.pid)


def is_alive(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def not_installed(monkeypatch):
    """As where a package of Colossal-AI's is missing."""
    monkeypatch.setattr(colossal, "PACKAGES", ("no_such_package",))
    describe_numerics.cache_clear()
    yield
    describe_numerics.cache_clear()


def test_what_is_not_installed_is_said_with_what_to_type(not_installed, capsys):
    needed = "backend colossalai needs no_such_package, which is not installed here; type `make colossalai`"
    with pytest.raises(BackendError, match=needed):
        plan_epochs(Run(OneCycle(0.1), problem="lenet5_sample", backend="colossalai"))
    assert main(["section", "2-3", "--quick", "--backend", "colossalai"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"lrlib: {needed}"


def test_a_plugin_that_trains_on_devices_needs_one_for_each_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendError, match="needs a CUDA device for each of 2 processes, and 1 are here; take fewer"):
        load_backend("colossalai:LowLevelZeroPlugin").describe(2)


def test_an_unknown_plugin_is_said_with_those_there_are():
    with pytest.raises(ValueError, match="one of torch, .*, colossalai:LowLevelZeroPlugin, got 'colossalai:Zero'"):
        Run(OneCycle(0.1), backend="colossalai:Zero")


def test_the_lock_holds_exact_versions_of_just_what_is_needed_and_nothing_of_the_main_lock(root):
    def read(name):
        return [Requirement(line) for line in (root / name).read_text().splitlines() if not line.startswith("#")]

    lock = read("colossalai.lock")
    assert [r.name for r in lock] == [canonicalize_name(r.name) for r in lock] == sorted(r.name for r in lock)
    assert {r.name for r in lock} == {canonicalize_name(name) for name in colossal.PACKAGES}
    assert all(re.fullmatch(r"==[\d.]+", str(r.specifier)) for r in lock)
    assert not {r.name for r in lock} & {canonicalize_name(r.name) for r in read("requirements.lock")}
    assert "://" not in (root / "colossalai.lock").read_text()


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("n_images", [1, 4, 127, 128])
def test_the_parts_of_all_processes_make_up_a_batch_in_its_order(world_size, n_images):
    batch = torch.randperm(n_images)
    ranks = [BoostedTorch(None, rank=rank, world_size=world_size, device="cpu") for rank in range(world_size)]
    parts = [rank.share(batch) for rank in ranks]
    assert torch.equal(torch.cat(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_that_does_not_start_is_said(monkeypatch):
    monkeypatch.setattr(colossal, "RANK_MODULE", "no_such_module")
    with pytest.raises(BackendError, match="process 0 of 1 of backend colossalai ended with status 1: .*no_such_"):
        colossal.Ranks(colossal.torch_ddp, 1)
    assert not ranks_below(os.getpid())


@needs_colossalai
def test_one_process_trains_what_plain_pytorch_trains_to_the_bit_and_prints_nothing(capfd):
    for optimizer in ("sgd", "adam"):
        assert_equal(train_by("colossalai", optimizer=optimizer), train_by("torch", optimizer=optimizer))
    assert capfd.readouterr() == ("", "")
    assert not torch.distributed.is_initialized()
    assert "colossalai" not in sys.modules


@needs_colossalai
@pytest.mark.parametrize("n", DATA)
def test_two_processes_train_as_one_does_but_for_the_order_of_sums(n):
    state, losses = found = train_by("colossalai", processes=2, n=n)
    expected_state, expected_losses = train_by("torch", n=n)
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    for name, tensor in expected_state.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-6)
    assert_equal(train_by("colossalai", processes=2, n=n), found)


@needs_colossalai
def test_one_image_in_another_s_place_shows_in_the_losses_of_two_processes():
    def swap(seed, epoch, n):
        order = epoch_order(seed, epoch, n)
        order[20] = order[40]  # one twice, one not at all
        return order

    _, losses = train_by("colossalai", processes=2, make_order=swap)
    _, expected = train_by("torch")
    assert (np.abs(losses / expected - 1)[::STEPS] > 10 * TOLERANCE).all()  # the batches with the image twice


@needs_colossalai
def test_a_loss_that_is_not_finite_ends_the_epoch_of_all_processes_at_the_same_step():
    settings = {"inputs": DATA[69][0], "targets": DATA[69][1], "order": epoch_order(3, 1, 69), "batch_size": 4}
    settings |= {"lr": np.full(18, 1e30), "momentum": np.full(18, 0.9), "optimizer": "sgd", "weight_decay": 5e-4}
    found = load_backend("colossalai").train_epoch(initial_state(3), processes=2, **settings)
    expected = load_backend("torch").train_epoch(initial_state(3), processes=1, **settings)
    assert 1 <= np.isfinite(found[1]).sum() < 17
    assert np.isfinite(found[1]).sum() == np.isfinite(expected[1]).sum()


@needs_colossalai
def test_processes_stay_from_one_epoch_to_the_next_and_get_the_data_once(monkeypatch):
    train_by("colossalai", processes=2)
    asked, ask, pids = [], colossal.Ranks.ask, ranks_below(os.getpid())
    monkeypatch.setattr(colossal.Ranks, "ask", lambda self, method, **a: asked.append(method) or ask(self, method, **a))
    train_by("colossalai", processes=2)
    assert asked == ["train_epoch"] * EPOCHS
    assert ranks_below(os.getpid()) == pids and len(pids) == 2
    train_by("colossalai", processes=2, n=65)
    assert asked == ["train_epoch"] * EPOCHS + ["take_data"] + ["train_epoch"] * EPOCHS


@needs_colossalai
def test_a_plugin_that_spreads_the_optimizer_keeps_its_buffers_between_epochs(tmp_path, monkeypatch):
    expected = train_by("colossalai", processes=2)
    (tmp_path / "stand_in_rank.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(colossal, "RANK_MODULE", "stand_in_rank")
    found = train_by("colossalai:LowLevelZeroPlugin", processes=2)
    # ZeRO lays the parameters out otherwise, and torch's fused kernels round the tail of a tensor by another instruction.
    assert found[0].keys() == expected[0].keys()
    for name, tensor in expected[0].items():
        torch.testing.assert_close(found[0][name], tensor, rtol=TOLERANCE, atol=1e-6, msg=name)


@needs_colossalai
@pytest.mark.faults
def test_the_error_of_one_process_is_said_and_both_are_ended():
    def spoil(seed, epoch, n):
        order = epoch_order(seed, epoch, n)
        order[BATCH - 1] = n  # in the second process's part
        return order

    with pytest.raises(BackendError, match="process 1 of 2 of backend colossalai failed: IndexError: index out of"):
        train_by("colossalai", processes=2, make_order=spoil)
    assert not ranks_below(os.getpid())


@needs_colossalai
@pytest.mark.faults
def test_a_process_that_ended_between_epochs_is_replaced():
    expected = train_by("colossalai", processes=1)
    [rank] = ranks_below(os.getpid())
    rank.kill()
    wait_until(lambda: not colossal._last_ranks.are_alive(), "its end")
    assert_equal(train_by("colossalai", processes=1), expected)
    colossal.close_ranks()
    assert not ranks_below(os.getpid())


@needs_colossalai
@pytest.mark.faults
def test_runs_on_a_cluster_say_what_ended_a_process_and_lose_none_with_a_killed_worker(tmp_path):
    store = Store(tmp_path)
    settings = {"problem": "lenet5_sample", "epochs": 2}
    plain = Run(OneCycle(0.1), **settings)
    first, second = (Run(OneCycle(0.1), seed=s, backend="colossalai", processes=2, **settings) for s in (0, 1))
    assert not {epoch.name for epoch in plan_epochs(first)} & {epoch.name for epoch in plan_epochs(plain)}
    with open_client(1) as client:
        steps = train([first, plain], store=store, client=client, progress=False).steps
        np.testing.assert_allclose(*np.split(steps["loss"].to_numpy(), 2), rtol=TOLERANCE)

        [worker] = client.run(os.getpid).values()
        ranks = ranks_below(worker)
        assert len(ranks) == 2
        ranks[1].suspend()  # so that it is in the middle of an epoch when it is killed
        killer = threading.Timer(2, ranks[1].kill)
        killer.start()
        said = "an epoch could not be computed: process . of 2 of backend colossalai was ended by signal 9"
        with pytest.raises(EngineError, match=said):
            train([second], store=store, client=client, progress=False)
        assert not ranks_below(worker)

        again = {"store": store, "client": client, "progress": False}
        trained = threading.Thread(target=train, args=([second],), kwargs=again)
        trained.start()
        wait_until(lambda: len(ranks_below(worker)) == 2, "new ranks", seconds=600)
        ranks = ranks_below(worker)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, ranks)), "the end of the ranks", seconds=60)
        trained.join()
        assert train([second], store=store, progress=False).n_computed == 0


@needs_colossalai
@pytest.mark.faults
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_caller_that_is_killed_or_hears_ctrl_c_leaves_no_process(kill, tmp_path):
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        wait_until(Store(tmp_path).list_files, "a first epoch", seconds=600)
        assert len(ranks_below(caller.pid)) == 2
        (os.killpg if kill == signal.SIGINT else os.kill)(caller.pid, kill)
        output, errors = caller.communicate(timeout=120)
        if kill == signal.SIGINT:
            assert (caller.returncode, output, errors) == (130, "ready\n", "")
        wait_until(lambda: not in_session(caller), "the end of workers and ranks", seconds=60)
    finally:
        caller.kill()
