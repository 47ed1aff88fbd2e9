import numpy as np
import pytest
import torch
from torch import nn
from trainings import build, cross_entropy, fingerprint, record_lrs, sweep


def grown(model):
    """A training step that widens the model's last layer at its third call."""
    calls = []

    def step_fn(batch):
        calls.append(1)
        if len(calls) == 3:
            model[4].weight.data = torch.zeros(5, 16)
            model[4].bias.data = torch.zeros(5)
        return cross_entropy(model(batch[0]), batch[1])

    return step_fn


class NoLr(torch.optim.Optimizer):
    def step(self, closure=None):
        raise AssertionError


class Output:
    def __init__(self, out):
        self.loss, self.logits = out.mean(), out


def bad_inputs():
    model, optimizer, loader = build()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    without_lr, own_lr = NoLr(model.parameters(), {"momentum": 0.9}), NoLr(model.parameters(), {"lr": None})
    lists, dicts = (
        [([torch.zeros(6)] * 4, torch.zeros(4).long())],
        [({"features": torch.zeros(4, 6)}, torch.zeros(4).long())],
    )
    lbfgs = torch.optim.LBFGS(model.parameters())
    return {
        "empty loader": (ValueError, "train_loader must give at least one batch, got none", {"loader": []}),
        "one-shot loader": (TypeError, "iterable that can begin again, got a list_iterator", {"loader": iter([1])}),
        "empty val": (ValueError, "val_loader must give at least one batch", {"val_loader": []}),
        "vector loss": (ValueError, r"must be a scalar, got shape \(32, 3\)", {"loss_fn": lambda out, _: out}),
        "float loss": (TypeError, "must be a tensor, got a float", {"loss_fn": lambda *_: 1.0}),
        "detached loss": (ValueError, "must require grad", {"loss_fn": lambda out, _: out.detach().mean()}),
        "foreign optimizer": (ValueError, "optimizer must hold parameters of the model", {"optimizer": other}),
        "start above end": (ValueError, "below end_lr, got 1 and 0.1", {"start_lr": 1, "end_lr": 0.1}),
        "start zero": (ValueError, "start_lr must be above 0", {"start_lr": 0}),
        "own lr above end": (ValueError, "below end_lr, got 0.1 and 0.01", {"start_lr": None, "end_lr": 0.01}),
        "infinite end": (ValueError, "end_lr must be finite", {"end_lr": float("inf")}),
        "few steps": (ValueError, "num_iter must be at least 10, got 9", {"num_iter": 9}),
        "step mode": (ValueError, '"exp", "linear" or "staircase", got \'log\'', {"step_mode": "log"}),
        "few rates": (ValueError, "num_rates must be at least 10, got 9", {"num_rates": 9}),
        "short stairs": (
            ValueError,
            "num_iter must be at least twice num_rates in a staircase, got 39 and 20",
            {"step_mode": "staircase", "num_iter": 39},
        ),
        "stairs validated": (
            ValueError,
            "val_every must not be given in a staircase, got 5",
            {"step_mode": "staircase", "val_every": 5, "val_loader": loader},
        ),
        "start below zero, end not given": (
            ValueError,
            "start_lr must be above 0 and below end_lr, got -1 and None",
            {"start_lr": -1, "end_lr": None},
        ),
        "smooth": (ValueError, r"smooth_f must be in \[0, 1\), got 1", {"smooth_f": 1}),
        "diverge": (ValueError, "diverge_th must be above 1, got 1", {"diverge_th": 1}),
        "repeats": (ValueError, "repeats must be at least 1, got 0", {"repeats": 0}),
        "no step": (ValueError, "loss_fn must be given unless step_fn is", {"loss_fn": None}),
        "metric": (ValueError, "val_metric must be", {"val_metric": "f1"}),
        "accuracy": (
            ValueError,
            "must be a function with step_fn alone",
            {"loss_fn": None, "step_fn": lambda b: b, "val_loader": loader, "val_metric": "accuracy"},
        ),
        "closure": (TypeError, "must step without a closure, got LBFGS", {"optimizer": lbfgs}),
        "zero lr": (ValueError, "lr must be 0 or more and one above 0, got .0.0.;", {"optimizer": frozen}),
        "no lr": (TypeError, "must have an lr to test, got NoLr with lr missing beside", {"optimizer": without_lr}),
        "own lr": (TypeError, "must have an lr to test, got NoLr with lr None", {"optimizer": own_lr}),
        "dict as loss": (TypeError, r'got a dict; return its "loss" from step_fn', {"loss_fn": lambda *_: {"loss": 1}}),
        "dict of losses": (TypeError, r"return one of \['a'\] from step_fn", {"loss_fn": lambda *_: {"a": 1}}),
        "output": (TypeError, "got a Output; return its .loss from step_fn", {"loss_fn": lambda out, _: Output(out)}),
        "tuple as loss": (TypeError, r"got a tuple; return the one", {"loss_fn": lambda *_: (1, 2)}),
        "no loss": (TypeError, "got a NoneType; return it from step_fn", {"loss_fn": lambda *_: None}),
        "list of images": (
            TypeError,
            "got a list of 4 that Sequential does not take so .*; give step_fn",
            {"loader": lists},
        ),
        "one dict": (TypeError, "got a dict of 1 that Sequential does not take so .*; give step_fn", {"loader": dicts}),
        "dict batch": (TypeError, "must be a pair .* got a dict; give step_fn", {"loader": [{"a": 1}]}),
        "triple": (TypeError, "must be a pair .* got a list of 3; give step_fn", {"loader": [[1, 2, 3]]}),
        "new shape": (ValueError, r"4\.weight of \(3, 16\) turned into \(5, 16\)", {"step_fn": grown(model)}),
        "offload": (ValueError, "offload must be None", {"offload": "tape"}),
    }, (model, optimizer, loader)


@pytest.mark.parametrize("case", bad_inputs()[0])
def test_bad_input_is_refused_in_one_sentence_and_everything_is_as_before(case):
    cases, (model, optimizer, loader) = bad_inputs()
    error, message, changes = cases[case]
    used = {
        "optimizer": optimizer,
        "loader": loader,
        **{k: v for k, v in changes.items() if k in ("optimizer", "loader")},
    }
    before = fingerprint(model, used["optimizer"], loader)
    options = {k: v for k, v in changes.items() if k not in used}
    with pytest.raises(error, match=message) as caught:
        sweep(model, used["optimizer"], used["loader"], **options)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)
    assert fingerprint(model, used["optimizer"], loader) == before


def test_settings_are_checked_before_the_first_batch():
    class Untouchable:
        def __iter__(self):
            raise AssertionError("a batch was asked for")

    model, optimizer, _ = build()
    with pytest.raises(ValueError, match="num_iter"):
        sweep(model, optimizer, Untouchable(), num_iter=1)


def test_an_error_inside_a_model_that_inputs_were_spread_over_hints_at_step_fn():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, images, targets=None):
            return self.layer(images) if targets is None else images[targets.long().tolist()[0], 99]

    model = Detector()
    batches = [([torch.zeros(6), torch.zeros(6)], torch.zeros(2))]
    with pytest.raises(Exception) as caught:  # noqa: B017
        sweep(model, torch.optim.SGD(model.parameters(), lr=0.1), batches)
    assert "if it is one input, give step_fn, for example" in caught.value.__notes__[0]


# Rates of zero


def warmed(model, rates, **options):
    groups = [{"params": model[0].parameters(), "lr": rates[0]}, {"params": model[4].parameters(), "lr": rates[1]}]
    return torch.optim.AdamW(groups, **options)


@pytest.mark.parametrize("start_lr", [1e-6, None])
@pytest.mark.parametrize("tensors", [False, True])
def test_a_warm_up_scheduler_that_begins_at_zero_is_swept_from_its_initial_rates(start_lr, tensors):
    model, _, loader = build()
    rates = (1e-5, 1e-4)
    optimizer = warmed(model, [torch.tensor(rate) for rate in rates] if tensors else rates)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0, 0]
    before, seen = fingerprint(model, optimizer, loader), record_lrs(optimizer)
    result = sweep(model, optimizer, loader, num_iter=10, start_lr=start_lr, end_lr=1e-2)
    assert fingerprint(model, optimizer, loader) == before
    assert result.settings.group_ratios == pytest.approx((1, 10))
    assert seen[0] == pytest.approx([start_lr or 1e-5, 10 * (start_lr or 1e-5)])


def test_a_frozen_first_group_stays_frozen():
    model, _, loader = build()
    optimizer = warmed(model, (0.0, 1e-3))
    seen, weight = record_lrs(optimizer), model[0].weight.detach().clone()
    moved = []
    optimizer.register_step_post_hook(lambda *_: moved.append(not torch.equal(model[0].weight, weight)))
    result = sweep(model, optimizer, loader, num_iter=10, start_lr=None, end_lr=1e-2)
    assert result.settings.group_ratios == (0, 1) and not any(moved)
    assert np.allclose([rates[1] for rates in seen], result.sweeps[0].lr) and seen[0] == [0, pytest.approx(1e-3)]
