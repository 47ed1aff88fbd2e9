import pytest
import torch
from torch import nn
from trainings import blobs, build, cross_entropy, fingerprint, sweep


def test_step_fn_takes_dict_batches_from_any_iterable():
    model, optimizer, _ = build()
    inputs, targets = blobs()

    class Batches:
        def __iter__(self):
            for i in range(0, len(inputs), 64):
                yield {"features": inputs[i : i + 64], "label": targets[i : i + 64]}

    def step_fn(batch):
        logits = model(batch["features"])
        return cross_entropy(logits, batch["label"]) + 1e-3 * logits.square().mean()

    result = sweep(model, optimizer, Batches(), loss_fn=None, step_fn=step_fn, num_iter=30)
    assert len(result.sweeps[0].loss) == 30  # 8 batches: begun again three times


@pytest.mark.parametrize("spread", [lambda a, b: (a, b), lambda a, b: {"first": a, "second": b}], ids=["tuple", "dict"])
def test_several_inputs_are_spread_over_the_models_arguments(spread):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, first, second):
            return self.linear(torch.cat([first, second], dim=1))

    inputs, targets = blobs(64)
    model = Two()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    result = sweep(model, optimizer, [(spread(inputs[:, :2], inputs[:, 2:]), targets)], num_iter=10)
    assert len(result.sweeps[0].loss) == 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_go_to_the_models_device_and_the_device_state_comes_back():
    model, _, loader = build()
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    before = fingerprint(model, optimizer, loader), torch.cuda.get_rng_state().tolist()
    scaler = torch.amp.GradScaler("cuda")
    result = sweep(model, optimizer, loader, scaler=scaler, autocast_dtype=torch.float16, repeats=2)
    assert (fingerprint(model, optimizer, loader), torch.cuda.get_rng_state().tolist()) == before
    assert result.settings.device.startswith("cuda")
