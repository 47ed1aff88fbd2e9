import inspect
import pydoc
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from trainings import blobs, build, cross_entropy, fingerprint, record_lrs, sweep

import lrlib


class Inherits(nn.Linear):
    """Whose forward has another class's name."""


def bad_inputs():
    """{what is wrong: (error, words of its message, what range_test is given)}, and what is right."""
    model, optimizer, loader = build()
    x, y = blobs(8)
    sgd = lambda module, lr=0.1: torch.optim.SGD(module.parameters(), lr=lr)  # noqa: E731
    swept = lambda module: {"model": module, "optimizer": sgd(module)}  # noqa: E731
    inherited = {**swept(Inherits(6, 3)), "loader": [((x, x), y)]}
    frozen, meta = nn.Linear(6, 3).requires_grad_(False), nn.Linear(6, 3, device="meta")
    half_meta = nn.Sequential(nn.Linear(6, 3), meta)
    accuracy = {"loss_fn": lambda out, y: out[0].mean(), "val_metric": "accuracy", "val_loader": loader}
    relative, wrapped = sgd(model), sgd(model)
    wrapped.scaler = "of a framework"
    relative.param_groups[0]["relative_step"] = True
    return {
        "swapped": (TypeError, "model comes before optimizer", {"model": optimizer, "optimizer": model}),
        "no module": (TypeError, "model must be a torch.nn.Module, got a function", {"model": lambda x: x}),
        "several optimizers": (TypeError, "must be a torch optimizer, got a list", {"optimizer": [optimizer]}),
        "closure": (TypeError, "without a closure, got LBFGS", {"optimizer": torch.optim.LBFGS(model.parameters())}),
        "model class": (TypeError, "must be a torch.nn.Module, got the class Linear", {"model": nn.Linear}),
        "foreign optimizer": (ValueError, "must hold parameters of the model", {"optimizer": sgd(nn.Linear(1, 1))}),
        "frozen": (ValueError, "got all frozen", swept(frozen)),
        "meta": (ValueError, "on the meta device", swept(meta)),
        "half meta": (ValueError, "on the meta device", {"model": half_meta, "optimizer": sgd(half_meta[0])}),
        "zero lr": (ValueError, r"one above 0, got \[0.0\]", {"optimizer": sgd(model, lr=0.0)}),
        "no lr": (TypeError, "got None in Optimizer", {"optimizer": torch.optim.Optimizer(model.parameters(), {})}),
        "relative step": (ValueError, "has no effect on SGD with relative_step", {"optimizer": relative}),
        "no loss": (ValueError, "pass exactly one of loss_fn and step_fn", {"loss_fn": None}),
        "two losses": (ValueError, "got both", {"loss_fn": cross_entropy, "step_fn": lambda b: b}),
        "loss class": (TypeError, r"pass CrossEntropyLoss\(\)", {"loss_fn": nn.CrossEntropyLoss}),
        "other order": (TypeError, r"range_test\(model, optimizer, loader=loader, step_fn", {"loss_fn": loader}),
        "no loader": (TypeError, "loader must be an iterable of batches, got None", {"loader": None}),
        "no iterable": (TypeError, "must be an iterable of batches, got a int", {"loader": 3}),
        "several loaders": (TypeError, "got a dict; pass one DataLoader", {"loader": {"train": loader}}),
        "dataset": (TypeError, "got a TensorDataset, which yields samples", {"loader": loader.dataset}),
        "sampler": (TypeError, "got a RandomSampler, which yields samples", {"loader": loader.sampler}),
        "samples": (ValueError, "got a single one", {"loader": [*loader.dataset]}),
        "empty loader": (ValueError, "loader must yield at least one batch", {"loader": []}),
        "one-shot loader": (TypeError, "re-iterable, got a list_iterator", {"loader": iter([1])}),
        "val dataset": (TypeError, "val_loader must yield batches", {"val_loader": loader.dataset}),
        "empty val": (ValueError, "val_loader must yield at least one batch", {"val_loader": []}),
        "start above end": (ValueError, "smaller than end_lr, got 1 and 0.1", {"start_lr": 1, "end_lr": 0.1}),
        "start zero": (ValueError, "start_lr must be above 0", {"start_lr": 0}),
        "start text": (TypeError, "start_lr must be a number, got '1e-5'", {"start_lr": "1e-5"}),
        "infinite end": (ValueError, "end_lr must be above 0 and finite, got inf", {"end_lr": float("inf")}),
        "few steps": (ValueError, "num_iter must be at least 10, got 9", {"num_iter": 9}),
        "half a step": (TypeError, "num_iter must be an int, got 100.5", {"num_iter": 100.5}),
        "repeats": (ValueError, "repeats must be at least 1, got 0", {"repeats": 0}),
        "float repeats": (TypeError, "repeats must be an int, got 2.0", {"repeats": 2.0}),
        "refine": (TypeError, "refine must be True or False, got 'no'", {"refine": "no"}),
        "steps of refine": (ValueError, "got 0; raise repeats", {"refine": True, "repeats": 1}),
        "diverge": (ValueError, "diverge_th must be above 1 and finite, got 1", {"diverge_th": 1}),
        "fraction": (ValueError, "above 1 and finite, got 0.5", {"diverge_th": Fraction(1, 2)}),
        "clip": (ValueError, "clip_norm must be above 0 and finite, got 0", {"clip_norm": 0}),
        "own scaler": (ValueError, "with its own scaler", {"clip_norm": 1, "optimizer": wrapped}),
        "seconds": (ValueError, "max_seconds must be above 0", {"max_seconds": -1}),
        "scaler": (TypeError, "scaler must be a torch.amp.GradScaler", {"scaler": 1}),
        "scaler class": (TypeError, "scaler must be a torch.amp.GradScaler", {"scaler": torch.amp.GradScaler}),
        "extra": (TypeError, r"got extra_state\[0\], a int", {"extra_state": [1]}),
        "extra alone": (TypeError, "extra_state must be a list, got a Linear", {"extra_state": nn.Linear(1, 1)}),
        "metric": (ValueError, "val_metric must be", {"val_metric": "f1"}),
        "metric class": (ValueError, "val_metric must be", {"val_metric": nn.MSELoss, "val_loader": loader}),
        "array as metric": (ValueError, "val_metric must be", {"val_metric": np.ones(2), "val_loader": loader}),
        "metric alone": (ValueError, "val_metric requires val_loader", {"val_metric": "accuracy"}),
        "accuracy of a step": (ValueError, "requires loss_fn", {**accuracy, "loss_fn": None, "step_fn": len}),
        "accuracy of one column": (ValueError, r"got \(32, 1\) and \(32,\)", {**accuracy, **swept(nn.Linear(6, 1))}),
        "accuracy of a tuple": (ValueError, "got a tuple and", {**accuracy, **swept(nn.LSTM(6, 3))}),
        "accuracy of floats": (ValueError, "integer", {**accuracy, "val_loader": [(torch.ones(4, 6), torch.ones(4))]}),
        "vector loss": (TypeError, r"one number, got shape \(32, 3\)", {"loss_fn": lambda out, _: out}),
        "float loss": (TypeError, "must be a tensor of one number, got a float", {"loss_fn": lambda *_: 1.0}),
        "detached loss": (ValueError, "must require grad", {"loss_fn": lambda out, y: cross_entropy(out, y).detach()}),
        "two inputs": (TypeError, r"model's arguments, got: .* 3 were given; pass step_fn", {"loader": [((x, x), y)]}),
        "inherited forward": (TypeError, "model's arguments, got: .* 3 were", inherited),
        "named input": (TypeError, "unexpected keyword argument 'ids'; pass step_fn", {"loader": [({"ids": x}, y)]}),
        "dict batch": (TypeError, "must be a pair .* got a dict; pass step_fn", {"loader": [{"a": 1}]}),
        "triple": (TypeError, "must be a pair .* got a list of 3; pass step_fn", {"loader": [[1, 2, 3]]}),
    }, (model, optimizer, loader)  # fmt: skip


@pytest.mark.parametrize("case", bad_inputs()[0])
def test_bad_input_is_refused_in_one_sentence_and_everything_is_as_before(case):
    cases, (model, optimizer, loader) = bad_inputs()
    error, message, changes = cases[case]
    given = {"model": model, "optimizer": optimizer, "loader": loader, **changes}
    before = fingerprint(model, optimizer, loader)
    with pytest.raises(error, match=message) as caught:
        sweep(given.pop("model"), given.pop("optimizer"), given.pop("loader"), **given)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)
    assert fingerprint(model, optimizer, loader) == before


def test_settings_are_checked_before_the_first_batch_and_numbers_of_numpy_are_numbers():
    class Untouchable:
        def __iter__(self):
            raise AssertionError("a batch was asked for")

    model, optimizer, loader = build()
    with pytest.raises(ValueError, match="num_iter"):
        sweep(model, optimizer, Untouchable(), num_iter=1)
    optimizer.param_groups[0]["lr"] = np.float32(0.1)
    result = sweep(model, optimizer, loader, num_iter=np.int64(10), end_lr=np.float32(0.5), diverge_th=np.inf)
    assert result.settings.num_iter == 10 and result.settings.diverge_th is None
    assert type(optimizer.param_groups[0]["lr"]) is np.float32


def test_the_signature_has_at_most_twenty_parameters_and_its_help_fits_three_screens():
    assert len(inspect.signature(lrlib.range_test).parameters) <= 20
    assert len(pydoc.render_doc(lrlib.range_test).splitlines()) <= 120


# Parameter groups


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize(
    ("rates", "scales", "ratios"),
    [
        ((1e-5, 1e-4), "a warm-up from zero", (1, 10)),
        ((0.0, 1e-3), None, (0, 1)),  # a group that is frozen
        ((0.1, 0.1), (0.25, 1.0), (0.25, 1)),  # timm's lr_scale
        ((0.1 * 0.25, 0.1 * 0.5), (0.25, 0.5), (0.25, 0.5)),  # and where it has been applied
    ],
)
def test_groups_are_swept_in_their_ratios(rates, scales, ratios, tensors):
    model, _, loader = build()
    given = map(torch.tensor, rates) if tensors else rates
    groups = [{"params": model[i].parameters(), "lr": rate} for i, rate in zip((0, 4), given, strict=True)]
    optimizer = torch.optim.AdamW(groups)
    if scales == "a warm-up from zero":
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0, 0]
    elif scales:
        optimizer.param_groups[0]["lr_scale"], optimizer.param_groups[1]["lr_scale"] = scales
    seen, before = record_lrs(optimizer), fingerprint(model, optimizer, loader)
    result = sweep(model, optimizer, loader, num_iter=10, end_lr=1e-2)
    assert fingerprint(model, optimizer, loader) == before
    assert result.settings.group_ratios == pytest.approx(ratios) and result.sweeps[0].lr[0] == 1e-4
    assert np.allclose(seen[:10], np.outer(result.sweeps[0].lr, ratios), atol=0)
    with pytest.warns(UserWarning, match="not reliable"):  # ten steps are too few
        peaks = result.one_cycle(total_steps=100)["max_lr"]
    assert np.divide(peaks, peaks[1]) == pytest.approx(np.divide(ratios, ratios[1]))
