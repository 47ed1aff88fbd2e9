from types import SimpleNamespace

import pytest
import torch
from torch import nn
from trainings import batches, build, sweep

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "fused Adam": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
}


def gradients_seen(name, *, scale=None, **options):
    """The gradients that the optimizer's hooks see at the first steps of a sweep, and the sweep's losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = OPTIMIZERS[name](model.parameters())
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(torch.cat([p.grad.flatten() for p in model.parameters()])))
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    loader = [(3 * inputs, targets) for inputs, targets in batches(256, 64)]
    result = sweep(model, optimizer, loader, num_iter=12, end_lr=1e-2, scaler=scaler, **options)
    return torch.stack(seen), result.sweeps[0].loss


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("clip", [{"clip_norm": 0.3}, {}], ids=["norm", "none"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_clipped_unscaled_with_every_optimizer_and_scaler(name, clip, steps):
    plain, losses = gradients_seen(name, accumulation_steps=steps, **clip)
    scaled, scaled_losses = gradients_seen(name, scale=2.0**12, accumulation_steps=steps, **clip)
    assert torch.allclose(scaled, plain, rtol=1e-4, atol=1e-7)
    assert torch.allclose(torch.tensor(scaled_losses), torch.tensor(losses), rtol=1e-5)
    if "clip_norm" in clip:
        assert plain.norm(dim=1).max() == pytest.approx(0.3, rel=1e-4)
    if not clip:
        assert plain.norm(dim=1).max() > 0.4  # the bound above binds


def test_the_backward_of_an_accelerator_takes_the_place_of_the_losss():
    curves = []
    for scaler in (None, SimpleNamespace(backward=lambda loss: (2 * loss / 2).backward())):
        model, optimizer, loader = build()
        options = {"accumulation_steps": 2, "num_iter": 10}
        curves.append(sweep(model, optimizer, loader, scaler=scaler, **options).sweeps[0].loss.tolist())
    assert curves[0] == curves[1]
    model, optimizer, loader = build()
    none = SimpleNamespace(backward=lambda loss: None)
    still = sweep(model, optimizer, loader, scaler=none, num_iter=10, start_lr=1, clip_norm=1)
    assert still.sweeps[0].loss[-1] != pytest.approx(curves[0][-1])  # nothing was learned
