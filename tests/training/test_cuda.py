"""The CUDA backend. Without a device its steps run by themselves on the CPU; what needs one is marked on_a_gpu."""

import numpy as np
import pytest
import torch

from lrlib import Run
from lrlib.problems.registry import load_problem
from lrlib.schedules import Constant, OneCycle, lr_per_step
from lrlib.training.backends import BackendError, cuda
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.epoch import evaluate as evaluate_on_cpu
from lrlib.training.epoch import train_epoch as train_on_cpu
from lrlib.training.numerics import fixed_numerics
from lrlib.training.optimizers import OPTIMIZERS
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
    with fixed_numerics():
        yield


@pytest.fixture(autouse=True)
def uncaptured(monkeypatch):
    """Where there is no device, the backend's steps run on the CPU."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
        monkeypatch.setattr(cuda.TrainingStep, "capture", lambda step: None)
    yield
    cuda._capture_step.cache_clear()
    cuda._copy_to_device.cache_clear()


def train(train_epoch, data, *, lr, momentum, batch_size=BATCH, optimizer="sgd", weight_decay=5e-4, **about):
    """The states after each of some epochs, and the losses of all their steps."""
    n_steps = -(-N // batch_size)
    states, losses = [initial_state(3)], []
    for number in range(len(lr) // n_steps):
        steps = slice(number * n_steps, (number + 1) * n_steps)
        state, part = train_epoch(
            states[-1], lr=lr[steps], momentum=momentum[steps], inputs=data[0], targets=data[1],
            order=epoch_order(3, number + 1, N), batch_size=batch_size, optimizer=optimizer, weight_decay=weight_decay,
            **about,
        )  # fmt: skip
        states.append(state)
        losses.extend(part)
    return states[1:], losses


def assert_close(found, expected):
    """The same names, kinds and shapes, and values as close as another order of the sums allows."""
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for name in expected:
        assert found[name].is_contiguous()
        assert found[name].untyped_storage().nbytes() == found[name].nbytes


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "max_lr"), [("sgd", 5e-4, 0.1), ("adam", 0.0, 0.01), ("adam", 0.1, 0.01)]
)
@pytest.mark.parametrize("batch_size", [BATCH, 35, 100], ids=["a short last batch", "full batches", "one short batch"])
def test_epochs_are_those_of_the_training_loop(data, optimizer, weight_decay, max_lr, batch_size):
    steps = -(-N // batch_size)
    lr, momentum = lr_per_step(OneCycle(max_lr), epochs=EPOCHS, steps_per_epoch=steps, momentum=0.9)
    settings = {"lr": lr, "momentum": momentum, "batch_size": batch_size}
    settings |= {"optimizer": optimizer, "weight_decay": weight_decay}
    found, losses = train(cuda.train_epoch, data, processes=1, **settings)
    expected, expected_losses = train(train_on_cpu, data, **settings)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    again, losses_again = train(cuda.train_epoch, data, processes=1, **settings)
    assert losses_again == losses
    assert all(torch.equal(again[-1][name], tensor) for name, tensor in found[-1].items())


def test_training_without_momentum_leaves_no_buffers_as_torch_does(data):
    settings = {"lr": [0.1] * 6, "momentum": [0.0] * 6}
    found, _ = train(cuda.train_epoch, data, processes=1, **settings)
    expected, _ = train(train_on_cpu, data, **settings)
    assert_close(found[-1], expected[-1])


@pytest.mark.parametrize("bad", [0, 1, 20])
def test_a_loss_that_is_not_finite_ends_the_epoch_at_its_step(data, bad):
    lr, state = [1e-3] * 35, initial_state(0)
    if bad == 0:
        state["model.fc2.bias"] = torch.full((10,), torch.inf)
    else:
        lr[bad - 1] = np.inf
    given = {"lr": lr, "momentum": [0.9] * 35, "inputs": data[0], "targets": data[1], "order": epoch_order(0, 1, N)}
    given |= {"batch_size": 2, "optimizer": "sgd", "weight_decay": 5e-4}
    found, losses = cuda.train_epoch(state, processes=1, **given)
    expected, expected_losses = train_on_cpu(state, **given)
    assert np.flatnonzero(~np.isfinite(losses)).tolist() == list(range(bad, 35))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    if bad == 0:
        assert all(torch.equal(found[name], state[name]) for name in state)
    else:
        assert found.keys() == expected.keys()
        name = "optimizer.conv1.weight.momentum_buffer"
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-6)


def test_what_it_cannot_do_is_an_error(data):
    with pytest.raises(ValueError, match="processes must be 1 for backend cuda, got 2"):
        Run(Constant(0.1), backend="cuda", processes=2)
    given = {"processes": 1, "inputs": data[0], "targets": data[1], "order": epoch_order(0, 1, N), "batch_size": BATCH}
    with pytest.raises(ValueError, match="optimizer must be one of sgd, adam for backend cuda, got 'adamw'"):
        cuda.train_epoch({}, lr=[1.0] * 3, momentum=[0.9] * 3, optimizer="adamw", weight_decay=0.0, **given)
    with pytest.raises(ValueError, match="one value for each of 3 steps, got 2 and 3"):
        cuda.train_epoch({}, lr=[1.0] * 2, momentum=[0.9] * 3, optimizer="sgd", weight_decay=0.0, **given)


def test_a_model_with_buffers_is_refused():
    with pytest.raises(ValueError, match="cannot train 'small_problems:normed', which has buffers"):
        cuda.check(1, load_problem("small_problems:normed"))
    cuda.check(1, load_problem("small_problems:mlp"))


def test_it_evaluates_as_the_cpu_does(data):
    given = {"inputs": data[0], "targets": data[1], "batch_size": BATCH}
    loss, n_correct = cuda.evaluate(initial_state(5), **given)
    expected, n_expected = evaluate_on_cpu(initial_state(5), **given)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert n_correct == n_expected


@without_a_gpu
def test_without_a_device_its_epochs_have_no_name():
    with pytest.raises(BackendError, match="backend cuda requires a CUDA device, and torch .* finds none"):
        describe_numerics("cuda")


@on_a_gpu
@pytest.mark.parametrize(("optimizer", "max_lr"), [("sgd", 0.1), ("adam", 0.01)])
def test_a_graph_is_its_step_to_the_bit(data, optimizer, max_lr, monkeypatch):
    lr, momentum = lr_per_step(OneCycle(max_lr), epochs=EPOCHS, steps_per_epoch=STEPS, momentum=0.9)
    settings = {"lr": lr, "momentum": momentum, "optimizer": optimizer, "processes": 1}
    settings |= {"weight_decay": OPTIMIZERS[optimizer]["weight_decay"]}
    captured, losses = train(cuda.train_epoch, data, **settings)
    cuda._capture_step.cache_clear()
    monkeypatch.setattr(cuda.TrainingStep, "capture", lambda step: None)
    eager, eager_losses = train(cuda.train_epoch, data, **settings)
    assert losses == eager_losses
    assert all(torch.equal(captured[-1][name], tensor) for name, tensor in eager[-1].items())


@on_a_gpu
def test_an_epoch_s_name_says_on_which_device_it_was_trained():
    assert describe_numerics("cuda")["device"] == torch.cuda.get_device_name()
