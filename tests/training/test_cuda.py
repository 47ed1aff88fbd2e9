"""The CUDA backend. Without a device its tensors stay on the CPU; what needs one is marked on_a_gpu."""

import numpy as np
import pytest
import torch

from lrlib import Run
from lrlib.problems.registry import load_data
from lrlib.schedules import Constant, OneCycle, lr_per_step
from lrlib.training.backends import BackendError, cuda, plain
from lrlib.training.epoch import epoch_order, initial_state
from lrlib.training.numerics import fixed_numerics
from lrlib.training.registry import describe_numerics

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor.clone())
    with fixed_numerics():
        yield
    cuda._copy_to_device.cache_clear()


def train(backend, problem, optimizer):
    """The state after two epochs of at most four batches, the last short, its step losses, and its test."""
    data, state, losses = load_data(problem), initial_state(3, problem), []
    inputs, targets = (part[:70] for part in data.train)
    steps = -(-len(inputs) // 20)
    lr, momentum = lr_per_step(OneCycle(0.01), epochs=2, steps_per_epoch=steps, momentum=0.9)
    for number in (0, 1):
        rates = slice(number * steps, (number + 1) * steps)
        state, part = backend.train_epoch(
            state, processes=1, lr=lr[rates], momentum=momentum[rates], inputs=inputs, targets=targets, batch_size=20,
            order=epoch_order(3, number + 1, len(inputs)), optimizer=optimizer, weight_decay=5e-4, problem=problem,
        )  # fmt: skip
        losses.append(part)
    return state, losses, backend.evaluate(state, inputs=inputs, targets=targets, batch_size=20, problem=problem)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("problem", ["lenet5_sample", "small_problems:mlp", "small_problems:normed"])
def test_it_trains_what_the_plain_loop_trains(problem, optimizer):
    state, losses, test = train(cuda, problem, optimizer)
    expected, expected_losses, expected_test = train(plain, problem, optimizer)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert test == pytest.approx(expected_test, rel=1e-4)
    assert state.keys() == expected.keys()
    torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-6)
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    again, losses_again, _ = train(cuda, problem, optimizer)
    assert np.array_equal(losses_again, losses) and all(torch.equal(again[name], state[name]) for name in state)


def test_several_processes_are_refused():
    with pytest.raises(ValueError, match="processes must be 1 for backend cuda, got 2"):
        Run(Constant(0.1), backend="cuda", processes=2)


@without_a_gpu
def test_without_a_device_its_epochs_have_no_name():
    with pytest.raises(BackendError, match="backend cuda requires a CUDA device, and torch .* finds none"):
        describe_numerics("cuda")


@on_a_gpu
def test_an_epoch_s_name_says_on_which_device_it_was_trained():
    assert describe_numerics("cuda")["device"] == torch.cuda.get_device_name()
