"""What Accelerate has prepared, swept in one process and in two."""

import json

import numpy as np
import pytest
from peer_problems import assert_equal, build, weights_of
from torch import nn

import lrlib

accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed (make peers)")
from lrlib.peers.accelerate import range_test  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"start_lr": 1e-4, "num_iter": 40, "repeats": 1, "progress": False}


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch):
    """Another test's Trainer leaves its settings behind, such as bf16, in Accelerate and in the environment."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def prepared():
    accelerator = accelerate.Accelerator(cpu=True)
    return accelerator, *accelerator.prepare(*build())


def test_the_sweep_is_that_of_what_was_prepared_and_all_is_put_back():
    accelerator, model, optimizer, loader = prepared()
    state, before = accelerator.gradient_state, weights_of(model)
    references = list(state.dataloader_references)
    result = range_test(accelerator, model, optimizer, nn.functional.cross_entropy, loader, **SETTINGS)
    plain = lrlib.range_test(*build()[:2], nn.functional.cross_entropy, build()[2], **SETTINGS)
    assert np.allclose(result.sweeps[0].loss, plain.sweeps[0].loss, rtol=1e-5)
    assert_equal(weights_of(model), before)
    assert not optimizer.state and optimizer.param_groups[0]["lr"] == 1e-4
    assert not state.in_dataloader and state.dataloader_references == references and state.sync_gradients


def test_in_the_middle_of_an_accumulation_the_sweep_steps_and_the_middle_is_put_back():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    model, optimizer, loader = accelerator.prepare(*build())
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
            assert not accelerator.sync_gradients
            result = range_test(accelerator, model, optimizer, nn.functional.cross_entropy, loader, **SETTINGS)
        assert not accelerator.sync_gradients and accelerator.gradient_state.in_dataloader
        break
    assert result.sweeps[0].loss.min() < 0.5 * result.sweeps[0].loss[0]


def sweep_in_a_process(folder):
    accelerator, model, optimizer, loader = prepared()
    assert accelerator.num_processes == 2 and type(model).__name__ == "DistributedDataParallel"
    before = weights_of(model)
    result = range_test(accelerator, model, optimizer, nn.functional.cross_entropy, loader, **SETTINGS)
    assert_equal(weights_of(model), before)
    found = [result.sweeps[0].loss.tolist(), result.suggest().lr]
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(found))


def test_two_processes_agree_and_average_their_losses(tmp_path):
    accelerate.debug_launcher(sweep_in_a_process, (tmp_path,))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and len(first[0]) > 20
