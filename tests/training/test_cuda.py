import threading

import numpy as np
import pytest
import torch
from conftest import assert_same_epochs
from distributed import Client, LocalCluster

from lrlib import Run
from lrlib.problems.registry import load_problem
from lrlib.runs.store import Store
from lrlib.runs.trainer import train as train_runs
from lrlib.schedules import Constant, OneCycle, lr_per_step
from lrlib.training.backends import BackendError, cuda
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.epoch import evaluate as evaluate_on_cpu
from lrlib.training.epoch import train_epoch as train_on_cpu
from lrlib.training.numerics import fix_numerics
from lrlib.training.optimizers import OPTIMIZERS, build_optimizer
from lrlib.training.registry import describe_numerics

N, BATCH = 70, 32  # three steps an epoch, the last with 6 images
EPOCHS, STEPS = 3, 3

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (N,), generator=generator)


@pytest.fixture(autouse=True)
def exact():
    """The numerics of a worker, and afterwards those of before."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    fix_numerics()
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    torch.utils.deterministic.fill_uninitialized_memory = fill


def make_step(data, *, optimizer="sgd", weight_decay=5e-4, batch_size=BATCH, device="cpu"):
    return cuda.TrainingStep(
        data[0].to(device), data[1].to(device), n_samples=N, batch_size=batch_size, optimizer=optimizer,
        weight_decay=weight_decay,
    )  # fmt: skip


def train(train_epoch, *, lr, momentum, batch_size=BATCH):
    """The states after each of some epochs, and the losses of all their steps."""
    n_steps = -(-N // batch_size)
    states, losses = [initial_state(3)], []
    for epoch in range(len(lr) // n_steps):
        steps = slice(epoch * n_steps, (epoch + 1) * n_steps)
        state, part = train_epoch(
            states[-1], lr=lr[steps], momentum=momentum[steps], order=epoch_order(3, epoch + 1, N)
        )
        states.append(state)
        losses.extend(part)
    return states[1:], losses


def train_by_steps(step, **settings):
    return train(lambda state, **given: cuda.run_epoch(step, state, **given), batch_size=step.batch_size, **settings)


def train_by_torch(data, *, optimizer="sgd", weight_decay=5e-4, batch_size=BATCH, **settings):
    def epoch(state, **given):
        return train_on_cpu(
            state, inputs=data[0], targets=data[1], batch_size=batch_size, optimizer=optimizer,
            weight_decay=weight_decay, **given,
        )  # fmt: skip

    return train(epoch, batch_size=batch_size, **settings)


def assert_close(found, expected):
    """The same names, kinds and shapes, and values as close as another order of the sums allows."""
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for name in expected:
        assert found[name].is_contiguous()
        assert found[name].untyped_storage().nbytes() == found[name].nbytes


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_update_is_torch_s(optimizer, weight_decay):
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(50, generator=generator)
    theirs = parameters.clone().requires_grad_()
    torch_optimizer = build_optimizer(optimizer, [theirs], lr=1.0, momentum=0.9, weight_decay=weight_decay)
    lr, momentum = np.linspace(0.1, 0.01, 12), np.linspace(0.95, 0.8, 12)
    update = cuda.UPDATES[optimizer]
    buffers = [torch.zeros(50) for _ in update.buffers]
    # In two parts, as two epochs are: the second counts on from the first.
    table = np.concatenate([update.tabulate(lr[:5], momentum[:5], 0), update.tabulate(lr[5:], momentum[5:], 5)])
    for step in range(12):
        gradient = torch.randn(50, generator=generator)
        theirs.grad = gradient.clone()
        group = torch_optimizer.param_groups[0]
        group["lr"] = lr[step]
        if optimizer == "sgd":
            group["momentum"] = momentum[step]
        else:
            group["betas"] = (momentum[step], group["betas"][1])
        torch_optimizer.step()
        update.apply(parameters, gradient + weight_decay * parameters, *buffers, *torch.from_numpy(table[step]).float())
        torch.testing.assert_close(parameters, theirs.detach(), rtol=1e-5, atol=1e-6)
    for name, buffer in zip(update.buffers, buffers):
        torch.testing.assert_close(buffer, torch_optimizer.state[theirs][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("optimizer", "weight_decay", "max_lr"), [("sgd", 5e-4, 0.1), ("adam", 0.0, 0.01)])
@pytest.mark.parametrize("batch_size", [BATCH, 35, 100], ids=["a short last batch", "full batches", "one short batch"])
def test_epochs_are_those_of_the_training_loop(data, optimizer, weight_decay, max_lr, batch_size):
    steps = -(-N // batch_size)
    lr, momentum = lr_per_step(OneCycle(max_lr), epochs=EPOCHS, steps_per_epoch=steps, momentum=0.9)
    settings = {"optimizer": optimizer, "weight_decay": weight_decay, "batch_size": batch_size}
    found, losses = train_by_steps(make_step(data, **settings), lr=lr, momentum=momentum)
    expected, expected_losses = train_by_torch(data, lr=lr, momentum=momentum, **settings)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for one, other in zip(found, expected):
        assert_close(one, other)


@pytest.mark.parametrize("momentum", [[0.0] * 6, [0.0, 0.9, 0.0, 0.0, 0.0, 0.9]], ids=["none", "at some steps"])
def test_a_step_without_momentum_leaves_the_buffer_as_torch_does(data, momentum):
    found, _ = train_by_steps(make_step(data), lr=[0.1] * 6, momentum=momentum)
    expected, _ = train_by_torch(data, lr=[0.1] * 6, momentum=momentum)
    for one, other in zip(found, expected):
        assert_close(one, other)


@pytest.mark.parametrize("bad", [0, 1, 20])
def test_a_loss_that_is_not_finite_ends_the_epoch_at_its_step(data, bad):
    lr = [1e-3] * 35
    state = initial_state(0)
    if bad == 0:
        state["model.fc2.bias"] = torch.full((10,), torch.inf)
    else:
        lr[bad - 1] = np.inf
    order, given = epoch_order(0, 1, N), {"lr": lr, "momentum": [0.9] * 35}
    found, losses = cuda.run_epoch(make_step(data, batch_size=2), state, order=order, **given)
    expected, expected_losses = train_on_cpu(
        state, inputs=data[0], targets=data[1], order=order, batch_size=2, optimizer="sgd", weight_decay=5e-4, **given
    )
    assert np.flatnonzero(~np.isfinite(losses)).tolist() == list(range(bad, 35))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert found.keys() == expected.keys()
    if bad == 0:
        assert all(torch.equal(found[name], state[name]) for name in state)
    else:
        name = "optimizer.conv1.weight.momentum_buffer"
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-6)


def test_an_epoch_does_not_depend_on_what_the_step_did_before(data):
    step = make_step(data)
    settings = {"lr": [0.1] * STEPS, "momentum": [0.9] * STEPS}
    once, _ = train_by_steps(step, **settings)
    train_by_steps(step, lr=[0.5] * 2 * STEPS, momentum=[0.5] * 2 * STEPS)
    again, _ = train_by_steps(step, **settings)
    assert all(torch.equal(once[0][name], again[0][name]) for name in once[0])


def test_what_it_cannot_do_is_said(data):
    with pytest.raises(ValueError, match="processes must be 1 for backend cuda, got 2"):
        Run(Constant(0.1), backend="cuda", processes=2)
    given = {"processes": 1, "inputs": data[0], "targets": data[1], "order": epoch_order(0, 1, N), "batch_size": BATCH}
    with pytest.raises(ValueError, match="optimizer must be one of sgd, adam for backend cuda, got 'adamw'"):
        cuda.train_epoch({}, lr=[1.0] * 3, momentum=[0.9] * 3, optimizer="adamw", weight_decay=0.0, **given)
    with pytest.raises(ValueError, match="one value for each of 3 steps, got 2 and 3"):
        cuda.train_epoch({}, lr=[1.0] * 2, momentum=[0.9] * 3, optimizer="sgd", weight_decay=0.0, **given)


def test_a_tensor_is_copied_to_the_device_once_for_as_long_as_it_lives(data, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor.clone())
    images = data[0].clone()
    copy = cuda._copy_to_device(images)
    assert copy is not images and torch.equal(copy, images)
    assert cuda._copy_to_device(images) is copy
    n_kept = len(cuda._on_device)
    del images
    assert len(cuda._on_device) == n_kept - 1


def test_each_thread_has_a_step_of_its_own_and_keeps_it(data, monkeypatch):
    monkeypatch.setattr(cuda.TrainingStep, "capture", lambda step: None)
    given = (*data, N, BATCH, "sgd", 5e-4, "lenet5_sample")
    step = cuda._capture_step(*given, 1)
    assert cuda._capture_step(*given, 1) is step
    assert cuda._capture_step(*given, 2) is not step
    cuda._capture_step.cache_clear()


@without_a_gpu
def test_the_backend_trains_and_evaluates_as_the_training_loop_does(data, monkeypatch):
    monkeypatch.setattr(cuda, "_copy_to_device", lambda tensor: tensor)
    monkeypatch.setattr(cuda, "_fix_numerics", lambda: None)
    monkeypatch.setattr(cuda, "EVALUATED_AT_ONCE", 50)
    monkeypatch.setattr(cuda.TrainingStep, "capture", lambda step: None)
    settings = {"lr": [0.1] * 2 * STEPS, "momentum": [0.9] * 2 * STEPS}
    found, losses = train_by_graphs(data, **settings)
    cuda._capture_step.cache_clear()
    expected, expected_losses = train_by_torch(data, **settings)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert_close(found[-1], expected[-1])
    given = {"inputs": data[0], "targets": data[1], "batch_size": BATCH}
    loss, n_correct = cuda.evaluate(found[-1], **given)
    assert (pytest.approx(loss, rel=1e-5), n_correct) == evaluate_on_cpu(found[-1], **given)


@without_a_gpu
def test_without_a_device_its_epochs_have_no_name():
    with pytest.raises(BackendError, match="backend cuda needs a CUDA device, and torch .* finds none here"):
        describe_numerics("cuda")


def train_by_graphs(data, *, optimizer="sgd", **settings):
    def epoch(state, **given):
        return cuda.train_epoch(
            state, processes=1, inputs=data[0], targets=data[1], batch_size=BATCH, optimizer=optimizer,
            weight_decay=OPTIMIZERS[optimizer]["weight_decay"], **given,
        )  # fmt: skip

    return train(epoch, **settings)


@pytest.fixture
def on_any_device(monkeypatch):
    """The backend as it is on a GPU; where there is none, its steps by themselves on the CPU."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(cuda, "describe", lambda processes: {"device": "none"})
        monkeypatch.setattr(cuda, "_copy_to_device", lambda tensor: tensor)
        monkeypatch.setattr(cuda, "_fix_numerics", lambda: None)
        monkeypatch.setattr(cuda.TrainingStep, "capture", lambda step: None)
    describe_numerics.cache_clear()
    yield
    describe_numerics.cache_clear()
    cuda._capture_step.cache_clear()


def test_runs_at_once_are_threads_of_one_process_with_the_bits_of_each_alone(on_any_device, tmp_path, monkeypatch):
    runs = [Run(Constant(0.1), epochs=2, seed=seed, problem="lenet5_sample", backend="cuda") for seed in range(2)]
    settings = {"processes": False, "n_workers": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    stores = {n: Store(tmp_path / str(n)) for n in (1, 2)}
    run_epoch, met = cuda.run_epoch, threading.Barrier(2)

    def run_epoch_beside_another(*args, **given):
        met.wait(timeout=60)
        return run_epoch(*args, **given)

    for n_threads, store in stores.items():
        monkeypatch.setattr(cuda, "run_epoch", run_epoch_beside_another if n_threads == 2 else run_epoch)
        with (
            LocalCluster(threads_per_worker=n_threads, **settings) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            assert train_runs(runs, store=store, client=client, progress=False).n_computed == 4
    assert_same_epochs(stores[2], stores[1], runs)


def test_building_a_model_leaves_the_random_generator_alone():
    before = torch.get_rng_state()
    cuda._build_model(load_problem("lenet5_mnist"), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@on_a_gpu
@pytest.mark.parametrize(("optimizer", "max_lr"), [("sgd", 0.1), ("adam", 0.01)])
def test_a_graph_is_its_step_and_two_runs_are_one_to_the_bit(data, optimizer, max_lr):
    lr, momentum = lr_per_step(OneCycle(max_lr), epochs=EPOCHS, steps_per_epoch=STEPS, momentum=0.9)
    weight_decay = OPTIMIZERS[optimizer]["weight_decay"]
    captured, losses = train_by_graphs(data, lr=lr, momentum=momentum, optimizer=optimizer)
    again, losses_again = train_by_graphs(data, lr=lr, momentum=momentum, optimizer=optimizer)
    step = make_step(data, device="cuda", optimizer=optimizer, weight_decay=weight_decay)
    eager, eager_losses = train_by_steps(step, lr=lr, momentum=momentum)
    assert losses == losses_again == eager_losses
    for one, two, three in zip(captured, again, eager):
        assert all(torch.equal(one[name], two[name]) and torch.equal(one[name], three[name]) for name in one)
    on_cpu, cpu_losses = train_by_torch(data, lr=lr, momentum=momentum, optimizer=optimizer, weight_decay=weight_decay)
    np.testing.assert_allclose(losses, cpu_losses, rtol=1e-3)
    assert captured[-1].keys() == on_cpu[-1].keys()


@on_a_gpu
def test_a_device_evaluates_as_the_cpu_does(data):
    given = {"inputs": data[0], "targets": data[1], "batch_size": BATCH}
    loss, n_correct = cuda.evaluate(initial_state(5), **given)
    expected, n_expected = evaluate_on_cpu(initial_state(5), **given)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert n_correct == n_expected


@on_a_gpu
def test_an_epoch_s_name_says_on_which_device_it_was_trained():
    assert describe_numerics("cuda")["device"] == torch.cuda.get_device_name()
    assert describe_numerics()["device"] == "cpu"


def test_a_model_with_buffers_is_refused():
    with pytest.raises(ValueError, match="problem 'small_problems:normed' has buffers"):
        cuda.check(1, load_problem("small_problems:normed"))
    cuda.check(1, load_problem("small_problems:mlp"))


def test_a_step_of_another_problem_is_that_of_the_plain_loop():
    data = load_problem("small_problems:mlp").load_data()
    order = epoch_order(0, 1, 60)
    given = {"lr": [0.01] * 3, "momentum": [0.9] * 3, "order": order}
    step = cuda.TrainingStep(
        *data.train, n_samples=60, batch_size=20, optimizer="sgd", weight_decay=5e-4, problem="small_problems:mlp"
    )
    found, losses = step.repeat(initial_state(3, "small_problems:mlp"), **given)
    expected, expected_losses = train_on_cpu(
        initial_state(3, "small_problems:mlp"), inputs=data.train[0], targets=data.train[1], batch_size=20, optimizer="sgd",
        weight_decay=5e-4, problem="small_problems:mlp", **given,
    )  # fmt: skip
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7)
