"""The critical learning rate against closed forms, and that asking for it changes nothing."""

import math

import pytest
import torch
from torch import nn

import lrlib


class Bowl(nn.Module):
    """theta -> theta^T H theta / 2 for each input, whatever it is."""

    def __init__(self, curvatures, start):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start))
        self.register_buffer("curvatures", torch.tensor(curvatures))

    def forward(self, inputs):
        return (self.curvatures * self.theta**2).sum() / 2 + 0 * inputs.sum()


def take_output(outputs, targets):
    return outputs


BATCHES = [(torch.zeros(2), torch.zeros(2))]


@pytest.mark.parametrize("curvature", [1e-3, 0.5, 7.0, 4e4])
@pytest.mark.parametrize("lr", [1e-6, 0.1, 300.0])
def test_on_a_quadratic_it_is_two_over_the_curvature(curvature, lr):
    model = Bowl([curvature] * 3, [1.0, -2.0, 0.5])
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    assert lrlib.critical_lr(model, optimizer, take_output, BATCHES) == pytest.approx(2 / curvature, rel=1e-3)


def test_of_several_curvatures_it_is_that_along_the_gradient():
    curvatures, start = torch.tensor([0.3, 2.0, 11.0]), torch.tensor([1.0, -2.0, 0.5])
    gradient = curvatures * start
    expected = 2 * gradient.dot(gradient) / (curvatures * gradient).dot(gradient)
    model = Bowl(curvatures.tolist(), start.tolist())
    found = lrlib.critical_lr(model, torch.optim.SGD(model.parameters(), lr=0.01), take_output, BATCHES)
    assert found == pytest.approx(expected.item(), rel=1e-3)
    alone = Bowl(curvatures.tolist(), [0.0, 0.0, 1.0])
    found = lrlib.critical_lr(alone, torch.optim.SGD(alone.parameters(), lr=0.01), take_output, BATCHES)
    assert found == pytest.approx(2 / 11, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "direction"),
    [
        (lambda p: torch.optim.Adam(p, lr=1e-3, eps=0.0), torch.sign),
        (lambda p: torch.optim.AdamW(p, lr=1e-3, eps=0.0, weight_decay=0.0), torch.sign),
        (lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True), lambda g: 1.9 * g),
    ],
)
def test_the_direction_is_the_optimizer_s_own(make, direction):
    curvatures, start = torch.tensor([0.3, 2.0, 11.0]), torch.tensor([1.0, -2.0, 0.5])
    d = direction(curvatures * start)
    expected = 2 * (curvatures * start).dot(d) / (curvatures * d).dot(d)
    model = Bowl(curvatures.tolist(), start.tolist())
    found = lrlib.critical_lr(model, make(model.parameters()), take_output, BATCHES)
    assert found == pytest.approx(expected.item(), rel=1e-3)


def make_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    return model, [(torch.randn(20, 8), torch.randint(0, 3, (20,))) for _ in range(2)]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_at_the_rate_found_the_loss_of_a_network_stops_falling_in_about_ten_passes(name):
    model, batches = make_network()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-2)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(5)
    found = lrlib.critical_lr(model, optimizer, nn.functional.cross_entropy, batches)
    assert len(calls) <= 14 * len(batches)

    def look_around(lr):
        """The loss before a step at a rate, and after it, with the same dropout."""
        model, batches = make_network()
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=lr)
        losses = []
        for _ in range(2):
            torch.manual_seed(5)
            losses.append(sum(nn.functional.cross_entropy(model(x), y) for x, y in batches) / len(batches))
            if len(losses) == 1:
                losses[0].backward()
                optimizer.step()
        return losses

    before, after = look_around(found * 0.9)
    assert after < before
    before, after = look_around(found * 1.1)
    assert after > before


def test_everything_is_put_back_to_the_bit_also_after_an_exception():
    model, batches = make_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    nn.functional.cross_entropy(model(batches[0][0]), batches[0][1]).backward()
    optimizer.step()
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    moments = [value["exp_avg"].clone() for value in optimizer.state.values()]
    random_state = torch.get_rng_state()

    calls = []

    def fail(outputs, targets):
        calls.append(1)
        if len(calls) > 5:
            raise KeyError("mine")
        return nn.functional.cross_entropy(outputs, targets)

    assert lrlib.critical_lr(model, optimizer, nn.functional.cross_entropy, batches) > 0
    with pytest.raises(KeyError, match="mine"):
        lrlib.critical_lr(model, optimizer, fail, batches)
    assert all(torch.equal(model.state_dict()[key], kept[key]) for key in kept)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(v["exp_avg"], m) for v, m in zip(optimizer.state.values(), moments, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_groups_keep_their_ratio_and_the_first_is_named():
    model = Bowl([2.0, 2.0], [1.0, 1.0])
    other = nn.Parameter(torch.tensor(1.0))
    model.other = other
    forward = model.forward
    model.forward = lambda inputs: forward(inputs) + other**2
    groups = [{"params": [model.theta], "lr": 0.1}, {"params": [other], "lr": 0.05}]
    found = lrlib.critical_lr(model, torch.optim.SGD(groups), take_output, BATCHES)
    # Gradients (2, 2 | 2), steps in the ratio (1, 1 | 1/2), curvature 2: 2 g.d / d.H.d
    assert found == pytest.approx(2 * (4 + 4 + 2) / (2 * (4 + 4 + 1)), rel=1e-3)


def test_where_no_rate_raises_the_loss_it_is_infinite():
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.ones(1, 1), torch.zeros(1))]
    assert lrlib.critical_lr(model, optimizer, lambda y, _: y.mean(), batches) == math.inf


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batches": []}, "batches must hold at least one batch, got none"),
        ({"tolerance": 0}, "tolerance must be between 0 and 1, got 0"),
        ({"loss_fn": lambda y, _: y * math.nan}, "the loss must be finite before the step, got nan"),
        ({"loss_fn": lambda y, _: y * 0}, "the next step must lower the loss at some learning rate, got none around"),
    ],
)
def test_what_cannot_be_is_said(given, words):
    model = Bowl([1.0], [1.0])
    settings = {"loss_fn": take_output, "batches": BATCHES} | given
    with pytest.raises(ValueError, match=words):
        lrlib.critical_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def test_momentum_that_goes_uphill_is_said():
    model = Bowl([1.0], [1.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.state[model.theta]["momentum_buffer"] = torch.tensor([-10.0])
    with pytest.raises(ValueError, match="momentum goes uphill, so take one without state"):
        lrlib.critical_lr(model, optimizer, take_output, BATCHES)
