"""What ends a sweep: the loss, or an exception that comes of it; and which exceptions do not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trainings import batches, cross_entropy, fingerprint, net, sweep

from lrlib.finder.sweeps import Watch


class Strict(nn.Module):
    """A loss that raises on what is out of range, as torch.distributions and SciPy do."""

    def forward(self, out, targets):
        if not torch.isfinite(out).all():
            raise ValueError("invalid values in out\nand more of it")
        return (out.exp().sum(1) - out.gather(1, targets[:, None])[:, 0]).mean()


class Likelihood(nn.Module):
    def forward(self, out):
        return -torch.distributions.Normal(out[:, 0], (0.5 * out[:, 1]).exp()).log_prob(2 * out[:, 2]).mean()


@pytest.mark.parametrize("where", ["in the loss", "in the forward pass", "in one step"])
def test_where_the_explosion_raises_the_sweep_ends_and_suggests(where):
    model, optimizer = net()
    loss_fn, n_steps = Strict(), 100
    if where == "in the forward pass":
        model, loss_fn = nn.Sequential(model, Likelihood()), lambda out, _: out
    if where == "in one step":
        optimizer, n_steps = torch.optim.Adam(model.parameters(), lr=0.1), 40
    before = fingerprint(model, optimizer)
    options = {"num_iter": n_steps, "repeats": 2, "end_lr": 1e6, "diverge_th": 1e30}
    result = sweep(model, optimizer, batches(), loss_fn=loss_fn, **options)
    assert fingerprint(model, optimizer) == before
    for swept in result.sweeps:
        assert 10 < len(swept.loss) < n_steps
        assert np.isfinite(swept.loss[:-1]).all() and not np.isfinite(swept.loss[-1])
        assert swept.diverged and "Error was raised" in swept.stop_reason or "the loss was" in swept.stop_reason
        assert "\n" not in swept.stop_reason
    assert np.isfinite(result.suggest().lr) and "not turned up" not in result.suggest().reason


ERRORS = [RuntimeError, ValueError, KeyError, AssertionError, OSError, KeyboardInterrupt]
WHERE = ["loss", "loader", "optimizer", "validation"]


@settings(max_examples=25, deadline=None)
@given(step=st.integers(0, 29), error=st.sampled_from(ERRORS), where=st.sampled_from(WHERE))
def test_an_exception_that_the_explosion_did_not_bring_about_passes_through(step, error, where):
    model, optimizer = net()
    calls = []

    def fail_at_step(*_):
        calls.append(1)
        if len(calls) == step + 1:
            raise error("mine")
        return 1.0

    class Loader:
        def __iter__(self):
            for batch in batches():
                if where == "loader":
                    fail_at_step()
                yield batch

    if where == "optimizer":
        optimizer.register_step_pre_hook(lambda *_: fail_at_step() and None)
    validation = {"val_loader": batches(32), "val_metric": fail_at_step} if where == "validation" else {}
    before = fingerprint(model, optimizer)
    loss_fn = (lambda out, y: fail_at_step() * cross_entropy(out, y)) if where == "loss" else cross_entropy
    with pytest.raises(error, match="mine") as caught:
        sweep(model, optimizer, Loader(), loss_fn=loss_fn, num_iter=120, end_lr=0.1, **validation)
    if error is not KeyboardInterrupt:
        at = 4 * step + 3 if where == "validation" else step
        shapes = "[]" if where == "loader" and step == 0 else "[(32, 6), (32,)]"
        assert caught.value.__notes__[0].startswith(f"range_test: at step {at}, on tensors of shapes {shapes}")
    assert fingerprint(model, optimizer) == before


def test_where_no_sweep_gets_anywhere_the_exception_comes_out():
    inputs = batches()
    inputs[1] = (inputs[1][0] * 1e38, inputs[1][1])  # weights that are broken from the first step on
    with pytest.raises(ValueError, match="invalid values in out") as caught:
        sweep(*net(), inputs, loss_fn=Strict(), end_lr=1e6, repeats=2, diverge_th=None)
    assert "range_test" in caught.value.__notes__[0]


def test_an_exception_of_the_validation_after_the_explosion_ends_the_sweep_too():
    model, optimizer = net()

    def metric(batch):
        out = model(batch[0])
        if not torch.isfinite(out).all():
            raise ValueError("out of range")
        return cross_entropy(out, batch[1])

    options = {"val_loader": batches(), "val_metric": metric, "diverge_th": None}
    result = sweep(model, optimizer, batches(), num_iter=100, end_lr=1e30, **options)
    [swept] = result.sweeps
    assert "ValueError was raised" in swept.stop_reason and len(swept.loss) < 100
    assert np.isnan(swept.val[-1]) and np.isfinite(swept.val[:-1]).all()


def test_weights_that_are_no_longer_finite_show_the_explosion_before_the_loss_does():
    model, optimizer = net()
    calls = []

    def loss_fn(out, targets):
        calls.append(1)
        if len(calls) == 30:
            with torch.no_grad():
                model[0].weight[0, 0] = float("nan")
            raise ValueError("out of range")
        return cross_entropy(out, targets)

    [swept] = sweep(model, optimizer, batches(), loss_fn=loss_fn, end_lr=0.1).sweeps
    assert len(swept.loss) == 30 and "0.weight was not finite" in swept.stop_reason


@pytest.mark.parametrize("error", [TypeError, AttributeError, KeyError, IndexError, RuntimeError])
def test_a_bug_after_the_loss_has_risen_comes_out(error):
    model, optimizer = net()
    model.mask = nn.Parameter(torch.tensor(-float("inf")), requires_grad=False)  # is no evidence of a divergence
    calls = []

    def loss_fn(out, targets):
        calls.append(1)
        if len(calls) == 85:
            raise error("a bug")
        return cross_entropy(out, targets) + 1.2 ** len(calls)

    with pytest.raises(error, match="a bug"):
        sweep(model, optimizer, batches(), loss_fn=loss_fn, num_iter=100, end_lr=1e2, diverge_th=None)


def stopped_at(losses, diverge_th=5.0):
    """The number of losses that a watch has seen when it stops; None where it does not."""
    watch = Watch(diverge_th)
    return next((i + 1 for i, loss in enumerate(losses) if watch.stop_reason(loss, 0.1)), None)


def test_a_sweep_stops_where_the_running_mean_is_diverge_th_times_its_best():
    losses = [3.0] * 30 + [100.0] * 20
    means = [3 + 97 * (1 - 0.95**k) / (1 - 0.95 ** (30 + k)) for k in range(1, 21)]  # bias-corrected, weight 0.05
    for threshold in (3, 5, 20):
        assert stopped_at(losses, threshold) == 30 + next(k for k, mean in enumerate(means, 1) if mean > threshold * 3)
    assert stopped_at(losses, None) is None and stopped_at([*losses, float("nan")], None) == 51
    for last in (0.001, -0.5):  # to zero or below
        assert stopped_at([2.0] * 20 + [last, last + 0.3] * 40) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6), level=st.sampled_from([0.0, 0.05, -0.1]))
def test_noise_around_a_level_near_zero_is_no_divergence_and_leaving_it_is(seed, scale, level):
    losses = scale * (level + np.random.default_rng(seed).standard_normal(300))
    assert stopped_at(losses) is None
    assert stopped_at([*losses, *[300 * scale * k for k in range(20)]]) in range(301, 321)


def test_noise_as_large_as_the_level_ends_about_one_sweep_in_a_thousand():
    ended = [stopped_at(1 + np.random.default_rng(seed).standard_normal(300)) is not None for seed in range(300)]
    assert sum(ended) <= 1  # 2 of 1,500
