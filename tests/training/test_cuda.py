"""The CUDA backend. Without a device its tensors stay on the CPU."""

import numpy as np
import pytest
import torch
from small_problems import train

from lrlib.problems.registry import load_data
from lrlib.schedules import OneCycle
from lrlib.training.backends import BackendError, cuda, plain
from lrlib.training.numerics import fixed_numerics
from lrlib.training.registry import describe_numerics


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor.clone())
    with fixed_numerics():
        yield
    cuda._copy_to_device.cache_clear()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("problem", ["lenet5_sample", "small_problems:mlp", "small_problems:normed"])
def test_it_trains_what_the_plain_loop_trains(problem, optimizer):
    data, given = [part[:70] for part in load_data(problem).train], {"problem": problem, "batch_size": 20}
    (state, losses), (again, losses_again), (expected, expected_losses) = (
        train(backend, data, OneCycle(0.01), optimizer=optimizer, **given) for backend in ("cuda", "cuda", "torch")
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-6)  # on the CPU
    torch.testing.assert_close(again, state, rtol=0, atol=0)
    assert np.array_equal(losses_again, losses)
    test, expected_test = (
        backend.evaluate(state, inputs=data[0], targets=data[1], **given) for backend in (cuda, plain)
    )
    assert test == pytest.approx(expected_test, rel=1e-4)


def test_an_epoch_s_name_says_on_which_device_it_was_trained():
    if torch.cuda.is_available():
        assert describe_numerics("cuda")["device"] == torch.cuda.get_device_name()
    else:
        with pytest.raises(BackendError, match="backend cuda requires a CUDA device, and torch .* finds none"):
            describe_numerics("cuda")
