"""lrlib.peers.torch_lr_finder beside the real one: the same history to the bit, and what is better."""

import copy
import gc
import importlib.machinery
import importlib.util
import inspect
import random
import sys
import types

import matplotlib
import numpy as np
import pytest
import torch
from peer_problems import RecordedLoss, assert_equal, blobs, build, loader_of, weights_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrlib
from lrlib import suggest
from lrlib.peers import torch_lr_finder as ours

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore")
needs_theirs = pytest.mark.skipif(
    not importlib.util.find_spec("torch_lr_finder"),
    reason="torch-lr-finder is not installed (make peers)",
)


def sweep(tool, *, seed=0, groups=False, dropout=False, criterion=None, val=False, **settings):
    model, optimizer, loader = build(seed, groups=groups)
    if dropout:
        model.insert(2, nn.Dropout(0.3))
    finder = tool.LRFinder(model, optimizer, criterion or nn.CrossEntropyLoss(), device="cpu")
    if val:
        settings["val_loader"] = DataLoader(TensorDataset(*(part[:200] for part in blobs())), batch_size=64)
    finder.range_test(loader, **{"start_lr": 1e-4, "num_iter": 60, **settings})
    return finder


@needs_theirs
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"step_mode": "Linear", "end_lr": 1},
        {"smooth_f": 0},
        {"smooth_f": 0.5, "diverge_th": 2},
        {"num_iter": 5},
        {"num_iter": 2},
        {"accumulation_steps": 3},
        {"val": True, "num_iter": 20},
        {"groups": True, "start_lr": None},
        {"groups": True},
        {"groups": True, "start_lr": [1e-4, 1e-2]},
        {"dropout": True},
        {"end_lr": 1e4, "num_iter": 300},
        {"start_lr": 0},
    ],
    ids=str,
)
def test_the_history_is_theirs_to_the_bit(settings):
    import torch_lr_finder as theirs

    expected, found = sweep(theirs, **settings), sweep(ours, **settings)
    assert found.history == expected.history
    assert found.best_loss == expected.best_loss
    assert isinstance(found.history["lr"], list) and type(found.history["loss"][0]) is float


@needs_theirs
def test_the_surface_is_theirs():
    import torch_lr_finder.lr_finder as theirs

    for name in ("LRFinder", "DataLoaderIter", "TrainDataLoaderIter", "ValDataLoaderIter", "LinearLR", "ExponentialLR"):
        for method, function in vars(getattr(theirs, name)).items():
            if inspect.isfunction(function):
                expected = {n: p.default for n, p in inspect.signature(function).parameters.items()}
                mine = inspect.signature(getattr(getattr(ours, name), method)).parameters
                assert {n: p.default for n, p in mine.items()} == expected, (name, method)
    finder, their_finder = sweep(ours, num_iter=5), sweep(theirs, num_iter=5)
    assert set(vars(their_finder)) <= set(vars(finder))


def test_it_can_be_imported_from_their_module_of_classes():
    from lrlib.peers.torch_lr_finder.lr_finder import LRFinder, StateCacher

    assert LRFinder is ours.LRFinder and StateCacher is ours.StateCacher


@needs_theirs
def test_iterators_of_theirs_are_taken_too():
    import torch_lr_finder as theirs

    class Swapped(theirs.TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch):
            return batch["x"], batch["y"]

    inputs, targets = blobs()
    loader = DataLoader([{"x": x, "y": y} for x, y in zip(inputs, targets, strict=True)], batch_size=64)
    model, optimizer, _ = build()
    finder = ours.LRFinder(model, optimizer, nn.CrossEntropyLoss())
    finder.range_test(Swapped(loader), num_iter=20)
    assert len(finder.history["lr"]) == 20


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.layer(inputs[0]) + inputs[1] * 0


@pytest.mark.parametrize("kind", ["three", "a list of inputs", "a tuple of inputs", "a dict of inputs"])
def test_batches_of_other_kinds_go_through_as_theirs_do(kind):
    inputs, targets = blobs()
    zeros = torch.zeros(64, 1)
    batch = {
        "three": [inputs[:64], targets[:64], zeros],
        "a list of inputs": ([inputs[:64], zeros], targets[:64]),
        "a tuple of inputs": ((inputs[:64], zeros), targets[:64]),
        "a dict of inputs": ({0: inputs[:64], 1: zeros}, targets[:64]),
    }[kind]
    model = nn.Linear(6, 3) if kind == "three" else TwoInputs()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    finder = ours.LRFinder(model, optimizer, nn.CrossEntropyLoss())
    finder.range_test(DataLoader([batch] * 3, batch_size=None), num_iter=12, end_lr=0.1)
    assert len(finder.history["loss"]) == 12 and finder.history["loss"][-1] < finder.history["loss"][0]


def test_the_result_is_the_sweep_with_raw_losses():
    criterion = RecordedLoss()
    finder = sweep(ours, criterion=criterion, num_iter=100, end_lr=1e4)
    [found] = finder.result.sweeps
    assert found.loss.tolist() == criterion.losses and found.lr.tolist() == finder.history["lr"]
    assert finder.result.suggest() == suggest.suggest_lr(found.lr, criterion.losses)
    assert "diverged" in found.stop_reason
    assert finder.result.settings.optimizer == "SGD" and finder.result.settings.end_lr == 1e4
    assert lrlib.read(finder) is finder.result


def test_a_validated_sweeps_result_is_read_from_the_validation(tmp_path):
    finder = sweep(ours, val=True, smooth_f=0, num_iter=30)
    assert finder.result.sweeps[0].curve()[1].tolist() == finder.history["loss"]
    assert finder.result.objective == "validation loss"
    finder.result.save(tmp_path / "a.json")
    assert lrlib.read(tmp_path / "a.json") == finder.result


def state_of(model, optimizer):
    return weights_of(model) + [value for state in optimizer.state.values() for value in state.values()]


@pytest.mark.parametrize("memory_cache", [True, False])
@pytest.mark.parametrize("failing", [None, 25])
def test_all_is_as_before_afterwards_also_after_an_exception(tmp_path, memory_cache, failing):
    model, optimizer, loader = build(groups=True)
    for inputs, targets in loader:  # momentum that has to come back
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model[1].eval()
    calls = []

    def criterion(outputs, targets):
        calls.append(1)
        if len(calls) == failing:
            raise FloatingPointError("stop here")
        return nn.functional.cross_entropy(outputs, targets)

    finder = ours.LRFinder(model, optimizer, criterion, memory_cache=memory_cache, cache_dir=str(tmp_path))
    before = [value.clone() for value in state_of(model, optimizer)]
    groups = copy.deepcopy([{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups])
    randomness = (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state(),
        loader.generator.get_state(),
    )
    if failing:
        with pytest.raises(FloatingPointError, match="stop here"):
            finder.range_test(loader, start_lr=1e-3, num_iter=40)
        assert finder.result is None
    else:
        finder.range_test(loader, start_lr=1e-3, num_iter=40)
    assert_equal(state_of(model, optimizer), before)
    assert [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups] == groups
    assert [module.training for module in model] == [True, False, True]
    assert random.getstate() == randomness[0] and np.random.get_state()[1].tolist() == randomness[1]
    assert torch.equal(torch.get_rng_state(), randomness[2]) and torch.equal(
        loader.generator.get_state(), randomness[3]
    )
    finder.range_test(loader, num_iter=12)  # a second time, without reset()
    assert len(finder.history["lr"]) == 12


@pytest.mark.parametrize("memory_cache", [True, False])
def test_reset_goes_back_to_the_state_at_construction_as_often_as_asked(tmp_path, memory_cache):
    model, optimizer, loader = build()
    first = weights_of(model)
    finder = ours.LRFinder(model, optimizer, nn.CrossEntropyLoss(), memory_cache=memory_cache, cache_dir=str(tmp_path))
    for _ in range(2):
        for inputs, targets in loader:
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        assert not torch.equal(weights_of(model)[0], first[0])
        finder.reset()
        assert_equal(weights_of(model), first)
        assert not optimizer.state
    assert len(list(tmp_path.iterdir())) == (0 if memory_cache else 2)
    if not memory_cache:
        next(tmp_path.iterdir()).unlink()
        with pytest.raises(RuntimeError, match="is gone"):
            finder.reset()
    del finder
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_nan_ends_the_sweep():
    calls = []

    def criterion(outputs, targets):
        calls.append(1)
        return nn.functional.cross_entropy(outputs, targets) * (float("nan") if len(calls) == 15 else 1)

    assert len(sweep(ours, criterion=criterion).history["loss"]) == 15


def test_losses_below_zero_do_not_end_the_sweep_until_they_go_up_again():
    finder = sweep(
        ours, criterion=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets) - 3, end_lr=1e4
    )
    found = finder.history["loss"]
    assert len(found) > 30 and "diverged" in finder.result.sweeps[0].stop_reason
    assert found[-1] > min(found) + 4 * abs(min(found))


def test_plot_returns_lrlibs_suggestion_and_marks_it(capsys):
    finder = sweep(ours, num_iter=100)
    capsys.readouterr()
    ax, lr = finder.plot(show_lr=0.1)
    assert lr == finder.result.suggest().lr
    assert f"Suggested LR: {lr:.2E}" in capsys.readouterr().out
    assert ax.collections[0].get_offsets()[0][0] == pytest.approx(lr)
    assert ax.lines[0].get_xdata().tolist() == finder.history["lr"][10:-5]
    assert len(ax.lines) == 2 and ax.get_xscale() == "log"
    given = matplotlib.figure.Figure().add_subplot()
    assert finder.plot(ax=given, suggest_lr=False, log_lr=False) is given and given.get_xscale() == "linear"


def test_plot_of_a_history_put_there_by_hand_marks_its_steepest_update():
    finder = sweep(ours, num_iter=20)
    finder.history["loss"] = [10.0, 8, 4, 1, 4, 16]
    finder.history["lr"] = range(6)
    assert finder.plot(skip_start=0, skip_end=0)[1] == 2


@pytest.mark.parametrize(
    ("error", "sentence", "arguments"),
    [
        (ValueError, "skip_start must be at least 0, got -1", {"skip_start": -1}),
        (ValueError, "skip_end must be at least 0, got -1", {"skip_end": -1}),
        (ValueError, "show_lr must be a float, got 1", {"show_lr": 1}),
        (RuntimeError, "Need at least 27 updates to suggest a rate, got 20", {"skip_start": 20}),
    ],
)
def test_plot_refuses_as_theirs_does(error, sentence, arguments):
    finder = sweep(ours, num_iter=20, end_lr=0.1)
    with pytest.raises(error, match=sentence):
        finder.plot(**arguments)


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("num_iter must be above 1, got 1", {"num_iter": 1}),
        ('step_mode must be "exp" or "linear", got \'cos\'', {"step_mode": "cos"}),
        (r"smooth_f must be in \[0, 1\), got 1", {"smooth_f": 1}),
        ("start_lr must have one rate for each parameter group, got 3 for 1", {"start_lr": [1, 2, 3]}),
        ("`train_loader` has unsupported type list", {"train_loader": [1]}),
        ("`val_loader` has unsupported type list", {"val_loader": [1]}),
    ],
)
def test_range_test_refuses_as_theirs_does_and_changes_nothing(sentence, arguments):
    model, optimizer, loader = build()
    finder = ours.LRFinder(model, optimizer, nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=sentence):
        finder.range_test(**{"train_loader": loader, "start_lr": 0.5, **arguments})
    assert optimizer.param_groups[0]["lr"] == 1e-4 and "initial_lr" not in optimizer.param_groups[0]


def test_an_attached_scheduler_is_refused_at_construction_and_at_the_sweep():
    model, optimizer, loader = build()
    finder = ours.LRFinder(model, optimizer, nn.CrossEntropyLoss())
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(RuntimeError, match="scheduler is attached"):
        finder.range_test(loader)
    with pytest.raises(RuntimeError, match="scheduler is attached"):
        ours.LRFinder(model, optimizer, nn.CrossEntropyLoss())


def test_construction_refuses_as_theirs_does(tmp_path):
    model, optimizer, _ = build()
    with pytest.raises(ValueError, match="amp_backend must be None or one of torch, got 'amp'"):
        ours.LRFinder(model, optimizer, None, amp_backend="amp")
    with pytest.raises(ValueError, match='grad_scaler must be given with amp_backend "torch"'):
        ours.LRFinder(model, optimizer, None, amp_backend="torch")
    with pytest.raises(ValueError, match="cache_dir must be a folder"):
        ours.LRFinder(model, optimizer, None, memory_cache=False, cache_dir=str(tmp_path / "none"))
    with pytest.raises(KeyError, match="store it first"):
        ours.StateCacher(True).retrieve("model")


def test_mixed_precision_goes_through_the_scaler_which_is_put_back():
    model, optimizer, loader = build()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    config = {"device_type": "cpu", "dtype": torch.bfloat16}
    finder = ours.LRFinder(
        model, optimizer, nn.CrossEntropyLoss(), amp_backend="torch", amp_config=config, grad_scaler=scaler
    )
    dtypes = []
    model[2].register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    finder.range_test(loader, num_iter=20, accumulation_steps=2, end_lr=0.1)
    assert set(dtypes) == {torch.bfloat16} and len(dtypes) == 40
    assert scaler.get_scale() == 8.0


def test_apex_scales_the_loss_where_it_is_there(monkeypatch):
    scaled = []

    class Scaling:
        def __init__(self, loss, optimizer):
            self.loss = loss

        def __enter__(self):
            scaled.append(1)
            return self.loss

        def __exit__(self, *_):
            return None

    apex, amp = types.ModuleType("apex"), types.ModuleType("apex.amp")
    apex.__spec__, amp.scale_loss = importlib.machinery.ModuleSpec("apex", None), Scaling
    monkeypatch.setitem(sys.modules, "apex", apex)
    monkeypatch.setitem(sys.modules, "apex.amp", amp)
    model, optimizer, loader = build()
    optimizer._amp_stash = object()
    ours.LRFinder(model, optimizer, nn.CrossEntropyLoss(), amp_backend="apex").range_test(
        loader, num_iter=5, end_lr=1e-3
    )
    assert len(scaled) == 5


def test_iterators_begin_again_as_theirs_do():
    loader = loader_of()
    training = ours.TrainDataLoaderIter(loader)
    assert len([next(training) for _ in range(2 * len(loader) + 1)]) == 17
    once = ours.TrainDataLoaderIter(loader, auto_reset=False)
    assert len(list(once)) == 8 and once.dataset is loader.dataset
    validation = ours.ValDataLoaderIter(loader)
    assert [len(list(validation)), len(list(validation))] == [8, 8]
    with pytest.raises(StopIteration):
        next(validation)
    with pytest.raises(ValueError, match="override inputs_labels_from_batch"):
        validation.inputs_labels_from_batch({"x": 1})


def test_subclasses_may_override_a_step():
    class Doubled(ours.LRFinder):
        def _train_batch(self, train_iter, accumulation_steps, non_blocking_transfer=True):
            return 2 * super()._train_batch(train_iter, accumulation_steps, non_blocking_transfer)

    plain, doubled = sweep(ours, smooth_f=0), sweep(types.SimpleNamespace(LRFinder=Doubled), smooth_f=0)
    assert doubled.history["loss"] == [2 * loss for loss in plain.history["loss"]]
