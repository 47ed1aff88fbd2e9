import pytest
import torch
from torch import nn
from trainings import build, cross_entropy, fingerprint, sweep


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


def bad_inputs():
    model, optimizer, loader = build()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
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
        "step mode": (ValueError, 'step_mode must be "exp" or "linear", got \'log\'', {"step_mode": "log"}),
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
        "zero lr": (ValueError, "first parameter group's lr must be above 0", {"optimizer": frozen}),
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
