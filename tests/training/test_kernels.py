"""The compiled training step: its bits on every processor, its errors against float64, and its diverging runs."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_problems import make_images

from lrlib import Run
from lrlib.problems.data import load_dataset
from lrlib.runs.plan import plan_epochs
from lrlib.schedules import Constant
from lrlib.training.epoch import epoch_order, initial_state, load_model
from lrlib.training.kernels import FOLDER
from lrlib.training.registry import load_backend

numba = pytest.importorskip("numba")
compiled = load_backend("compiled")
if not compiled.is_available():
    pytest.skip("the processor has no fused multiply-add", allow_module_level=True)

BITS = "b6f8c2f76d87b9ce5e31b83e862d3a8582e2ee940c2a540789620bedd38f1bae"


def train(backend, data, n_steps, batch_size, *, lr=0.05, momentum=0.9, optimizer="sgd", weight_decay=5e-4):
    return load_backend(backend).train_epoch(
        initial_state(0), processes=1, lr=np.full(n_steps, lr), momentum=np.full(n_steps, momentum), inputs=data[0],
        targets=data[1], order=epoch_order(0, 1, len(data[0]))[: n_steps * batch_size], batch_size=batch_size,
        optimizer=optimizer, weight_decay=weight_decay, problem="lenet5_mnist",
    )  # fmt: skip


def digest_steps():
    """sha256 of three steps and an evaluation at several batch sizes."""
    digest, data = hashlib.sha256(), make_images(400)
    for batch_size in (1, 7, 96, 128):
        state, losses = train("compiled", data, 3, batch_size)
        measured = compiled.evaluate(state, inputs=data[0], targets=data[1], batch_size=batch_size)
        for value in (*(state[name].numpy() for name in sorted(state)), losses, np.array(measured)):
            digest.update(value.tobytes())
    return digest.hexdigest()


def test_bits_of_this_processor():
    assert digest_steps() == BITS


@pytest.mark.parametrize(
    "target",
    ["haswell", *(pytest.param(name, marks=pytest.mark.faults) for name in ("znver3", "skylake-avx512", "nehalem"))],
)
def test_bits_are_the_same_for_every_target(target, tmp_path):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        if target == "skylake-avx512" and "avx512f" not in file.read():
            pytest.skip("this processor has no AVX-512")
    environment = {name: value for name, value in os.environ.items() if name != FOLDER}
    environment |= {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, __file__, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [BITS]
    assert done.stderr.count("compiling") == 1
    assert any((tmp_path / "kernels").rglob("*.nbc"))


def test_without_numba_plain_layers_train_under_a_name_of_their_own(monkeypatch):
    def name_epoch(backend):
        return plan_epochs(Run(Constant(0.05), epochs=1, problem="lenet5_sample", backend=backend))[0].name

    assert name_epoch("auto") == name_epoch("compiled") != name_epoch("torch")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert name_epoch("auto") == name_epoch("torch")


def test_initialisation_and_order_are_those_of_torch_s_generator_on_every_machine():
    state, order = initial_state(0), epoch_order(0, 1, 60_000)
    found = hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state)))
    assert found.hexdigest()[:16] == "8d7b69fbcd43cefb"
    assert hashlib.sha256(order.numpy().tobytes()).hexdigest()[:16] == "a8f3982bb5cf3e7a"


NEAR, WIDE = np.geomspace(1e-30, 20, 2**16), np.linspace(-20, 0, 2**16)
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("name", "x", "bound", "special"),
    [
        ("tanh", [*NEAR, *-NEAR, *WIDE], 2.5e-7, {0: 0, INF: 1, -INF: -1, NAN: NAN, 1e30: 1, -1e30: -1}),  # relative
        ("exp", WIDE, 7e-8, {NAN: NAN}),
        ("log", np.linspace(1, 10, 2**16), 1.7e-7, {1: 0}),
    ],
)
def test_functions_are_near_those_of_float64(name, x, bound, special):
    from lrlib.training.kernels import lanes

    function = getattr(lanes, name)

    @numba.njit
    def apply(x, y):
        for i in range(0, len(x), lanes.L):
            lanes.store(y, i, function(lanes.load(x, i)))

    x = np.array([*x, *special, *[1.0] * (-len(special) % lanes.L)], np.float32)
    y = np.empty_like(x)
    apply(x, y)
    y, found = y[: -lanes.L], y[-lanes.L :][: len(special)]
    exact = getattr(np, name)(x[: -lanes.L].astype(np.float64))
    assert (np.abs(y - exact) <= bound * (np.abs(exact) if name == "tanh" else 1)).all()
    np.testing.assert_array_equal(found, list(special.values()))


def measure_gradients(model, data, dtype):
    model = model.to(dtype)
    loss = F.cross_entropy(model(data[0].to(dtype) / 255), data[1])
    return loss.item(), dict(
        zip(dict(model.named_parameters()), torch.autograd.grad(loss, model.parameters()), strict=True)
    )


@pytest.mark.parametrize("n", [1, 7, 96, 128])
def test_gradients_are_as_near_to_float64_as_those_of_plain_layers(n):
    state, data = initial_state(1), make_images(n)
    work = compiled.Workspace(state, *data)
    losses, _ = work.run(torch.arange(n), n, True)
    gradients = dict(zip(compiled.NAMES, work.read("gradients"), strict=True))
    exact_loss, exact = measure_gradients(load_model(state), data, torch.float64)
    _, plain = measure_gradients(load_model(state), data, torch.float32)
    assert losses[0] == pytest.approx(exact_loss, abs=3e-7)
    errors = {name: (gradients[name] - exact[name]).norm() / exact[name].norm() for name in exact}
    of_plain = {name: (plain[name] - exact[name]).norm() / exact[name].norm() for name in exact}
    assert max(errors.values()) < 1.5 * max(of_plain.values()) + 3e-7


@pytest.mark.parametrize(("optimizer", "weight_decay"), [("sgd", 5e-4), ("sgd", 0.0), ("adam", 0.0)])
def test_an_epoch_is_that_of_plain_layers(optimizer, weight_decay):
    sample = load_dataset("sample")
    data, settings = sample.train, {"optimizer": optimizer, "weight_decay": weight_decay}
    settings["lr"] = np.linspace(0.2, 1, 31) * (0.001 if optimizer == "adam" else 0.05)
    settings["momentum"] = np.linspace(0.95, 0.85, 31)
    state, losses = train("compiled", data, 31, 128, **settings)
    expected_state, expected = train("torch", data, 31, 128, **settings)
    assert np.abs(losses - expected).max() < 5e-7
    assert state.keys() == expected_state.keys()
    test = {"inputs": sample.test[0], "targets": sample.test[1], "batch_size": 128}
    loss, n_right = compiled.evaluate(state, **test)
    expected_loss, expected_right = load_backend("torch").evaluate(expected_state, **test)
    assert (loss, n_right) == (pytest.approx(expected_loss, abs=1e-6), expected_right)


@pytest.mark.parametrize(("name", "value"), [("fc2.bias", float("nan")), ("conv1.weight", float("inf"))])
def test_what_is_not_finite_shows_in_the_loss(name, value):
    state, data = initial_state(0), make_images(20)
    state[f"model.{name}"].view(-1)[0] = value
    assert not np.isfinite(compiled.evaluate(state, inputs=data[0], targets=data[1], batch_size=20)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.full((20,), 10)}, "targets must be one label below 10"),
        ({"inputs": torch.zeros(20, 1, 32, 32)}, "inputs must be uint8"),
    ],
)
def test_data_that_the_kernels_cannot_take_are_refused(change, message):
    data = dict(zip(("inputs", "targets"), make_images(20), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        compiled.evaluate(initial_state(0), batch_size=20, **data)


if __name__ == "__main__":
    compiled.prepare(sys.argv[1])
    print(digest_steps())
