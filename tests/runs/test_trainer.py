import shutil

import numpy as np
import pytest
import torch

from bench.suggestions.problems import locate
from lrlib import Run, train
from lrlib.problems.registry import load_problem
from lrlib.runs import cluster, engine
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store
from lrlib.runs.trainer import find_results
from lrlib.schedules import Constant, MultiStep, OneCycle
from lrlib.reproduction.readings import select_run
from lrlib.training import numerics
from lrlib.training.registry import describe_numerics

TABULAR, QUADRATIC = locate("tabular"), locate("quadratic_deep")

SAMPLE = {"problem": "lenet5_sample", "epochs": 3}


def names(run):
    return [epoch.name for epoch in plan_epochs(run)]


def parameters(results, run):
    return {name: value.detach() for name, value in results.model(run).named_parameters()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_runs_share_the_epochs_before_they_part():
    a, b, constant = (names(Run(s, **SAMPLE)) for s in (MultiStep(0.1, [1]), MultiStep(0.1, [2]), Constant(0.1)))
    assert a[:1] == constant[:1]
    assert a[1] != constant[1]
    assert b[:2] == constant[:2]
    assert b[2] != constant[2]


def test_the_report_s_250_epochs_become_180():
    runs = [Run(s, problem="lenet5_sample") for s in (
        *map(Constant, (0.1, 0.01, 0.001)), *(MultiStep(0.1, [m]) for m in (5, 15, 25)), MultiStep(0.1, [15, 25]),
        OneCycle(0.1, final_div_factor=4),
    )]  # fmt: skip
    assert sum(run.epochs for run in runs) == 240  # and 10 of the range test
    assert len({name for run in runs for name in names(run)}) == 170


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"batch_size": 64}, {"optimizer": "adam"}, {"weight_decay": 0.0}, {"momentum": 0.8}],
)
def test_whatever_changes_the_result_changes_the_name(change):
    assert not set(names(Run(Constant(0.1), **SAMPLE))) & set(names(Run(Constant(0.1), **SAMPLE, **change)))


def test_a_longer_run_and_a_label_change_no_name():
    short = names(Run(Constant(0.1), **SAMPLE))
    assert names(Run(Constant(0.1), problem="lenet5_sample", epochs=5, label="x"))[:3] == short


def test_a_second_training_computes_nothing_and_gives_the_same(store, client):
    run = Run(Constant(0.1), **SAMPLE)
    first = train([run, run], store=store, client=client, progress=False)
    second = train([run], store=store, client=None, progress=False)
    assert (first.n_computed, second.n_computed) == (3, 0)
    assert first.epochs.equals(second.epochs)
    assert first.steps.equals(second.steps)


def test_tables_are_tidy_and_agree(store, client):
    run = Run(OneCycle(0.1), problem="lenet5_sample", epochs=2)
    results = train([run], store=store, client=client, progress=False)
    assert list(results.epochs.columns) == [
        "run", "problem", "seed", "epoch", "lr", "momentum", "train_loss", "test_loss", "test_accuracy", "n_test", "seconds",
        "diverged",
    ]  # fmt: skip
    assert list(results.steps.columns) == ["run", "problem", "seed", "step", "lr", "momentum", "loss"]
    assert len(results.steps) == 2 * 32  # 32 = ceil(4000 / 128)
    assert results.epochs["train_loss"][1] == pytest.approx(results.steps["loss"][32:].mean())
    assert results.epochs["lr"][1] == results.steps["lr"].iloc[-1]
    model = results.model(run)
    assert not model.training


def test_a_resumed_run_ends_in_the_same_bits_as_an_uninterrupted_one(tmp_path, client):
    run = Run(OneCycle(0.1, final_div_factor=4), **SAMPLE)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    expected = train([run], store=whole, client=client, progress=False)
    first, *later = plan_epochs(run)
    broken.save(first.name, whole.load(first.name))
    resumed = train([run], store=broken, client=client, progress=False)
    assert resumed.n_computed == 2
    a, b = parameters(expected, run), parameters(resumed, run)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_beside_others_has_the_same_bits_as_alone(tmp_path, client):
    run = Run(MultiStep(0.1, [2]), **SAMPLE)
    others = [Run(Constant(0.1), **SAMPLE), Run(MultiStep(0.1, [1]), **SAMPLE), Run(Constant(0.01), **SAMPLE)]
    alone = train([run], store=Store(tmp_path / "alone"), client=client, progress=False)
    beside = train([*others, run], store=Store(tmp_path / "beside"), client=client, progress=False)
    assert beside.n_computed == 9  # of 12: three epochs are shared
    a, b = parameters(alone, run), parameters(beside, run)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_damaged_epoch_is_trained_again_to_the_same_bits(store, client):
    run = Run(Constant(0.1), **SAMPLE)
    before = train([run], store=store, client=client, progress=False)
    kept = parameters(before, run)
    path = store.path(plan_epochs(run)[1].name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged"):
        after = train([run], store=store, client=client, progress=False)
    assert after.n_computed == 1
    assert np.array_equal(after.epochs.drop(columns="seconds"), before.epochs.drop(columns="seconds"))
    assert all(torch.equal(kept[name], value) for name, value in parameters(after, run).items())


def test_a_run_that_diverges_is_recorded_at_its_step_and_stops_nobody(store, client):
    wild, tame = Run(Constant(1e30), **SAMPLE, label="wild"), Run(Constant(0.1), **SAMPLE, label="tame")
    results = train([wild, tame], store=store, client=client, progress=False)
    assert results.diverged["run"].tolist() == ["wild"]
    step = results.diverged["step"][0]
    losses = results.steps.query("run == 'wild'")["loss"].to_numpy()
    assert np.isfinite(losses[:step]).all()
    assert not np.isfinite(losses[step:]).any()
    assert len(losses) == 3 * 32
    assert results.epochs.query("run == 'tame'")["test_accuracy"].iloc[-1] > 0.5
    with pytest.raises(ValueError, match="wild .* diverged"):
        results.model(wild)
    again = train([wild, tame], store=store, client=None, progress=False)
    assert again.n_computed == 0
    assert again.diverged.equals(results.diverged)


def test_a_worker_that_computes_otherwise_is_refused(store, client, monkeypatch):
    monkeypatch.setattr(engine, "describe_numerics", lambda *_: {"torch": "0.0"})
    with pytest.raises(cluster.EngineError, match="computes otherwise than the caller: torch .* instead of '0.0'"):
        train([Run(Constant(0.1), **SAMPLE)], store=store, client=client, progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        (
            {"optimizer": "sdg"},
            "optimizer must be one of sgd, momentum, adam, adamw, muon, prodigy, dadapt_adam, dadapt_sgd, got 'sdg'",
        ),
        ({"problem": "char_gtp"}, "problem must be one of lenet5_mnist, .*, got 'char_gtp'; the nearest is 'lenet5_"),
        ({"problem": "bench.nothing:x"}, "problem 'bench.nothing:x': there is no module 'bench.nothing'"),
        ({"problem": "lrlib.suggest:valley"}, "problem 'lrlib.suggest:valley' must be a Problem, got function"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        Run(Constant(0.1), **settings)


def test_results_are_found_only_where_every_epoch_is_stored(store):
    short, long = (Run(Constant(0.1), problem="lenet5_sample", epochs=epochs) for epochs in (1, 2))
    trained = train([short], store=store, progress=False)
    assert find_results([long], store=store) is None
    found = find_results([short], store=store)
    assert found.epochs.equals(trained.epochs)
    assert found.n_computed == 0


def test_results_of_a_run_that_diverged_are_found(store):
    run = Run(Constant(1e30), problem="lenet5_sample", epochs=2)
    train([run], store=store, progress=False)
    assert find_results([run], store=store).diverged["step"].notna().all()


@pytest.mark.parametrize("problem", [TABULAR, QUADRATIC, locate("char_rnn")])
def test_every_problem_trains_on_workers_and_goes_on_from_the_store_to_the_same_bits(tmp_path, client, problem):
    run = Run(OneCycle(0.01), problem=problem, epochs=2)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    expected = train([run], store=whole, client=client, progress=False)
    first = plan_epochs(run)[0]
    broken.save(first.name, whole.load(first.name))
    resumed = train([run], store=broken, client=client, progress=False)
    assert resumed.n_computed == 1
    last = plan_epochs(run)[-1].name
    assert all(torch.equal(broken.load(last).tensors[key], value) for key, value in whole.load(last).tensors.items())
    epochs = expected.epochs
    assert set(epochs["problem"]) == {problem}
    assert epochs["test_loss"].iloc[-1] < np.inf
    assert epochs["test_accuracy"].isna().all() == (problem == QUADRATIC)
    assert type(expected.model(run)) is type(load_problem(problem).build_model())


def test_equal_labels_on_two_problems_stay_apart_in_the_tables(store, client):
    runs = [Run(Constant(1e-3), problem=problem, epochs=1, label="same") for problem in (TABULAR, QUADRATIC)]
    runs.append(Run(Constant(1e30), problem=TABULAR, epochs=1, label="wild"))
    results = train(runs, store=store, client=client, progress=False)
    assert results.epochs[["run", "problem"]].values.tolist() == [
        ["same", TABULAR], ["same", QUADRATIC], ["wild", TABULAR],
    ]  # fmt: skip
    assert results.steps.groupby(["run", "problem"]).size().to_dict() == {
        ("same", QUADRATIC): 7, ("same", TABULAR): 14, ("wild", TABULAR): 14,
    }  # fmt: skip
    assert results.diverged[["run", "problem"]].values.tolist() == [["wild", TABULAR]]
    with pytest.raises(
        ValueError, match=f"run 'same' is of 2 problems in these results, {TABULAR} and {QUADRATIC}; take"
    ):
        select_run(results.epochs, "same")
    one = results.epochs[results.epochs["problem"] == TABULAR]
    assert len(select_run(one, "same")) == 1


def test_a_change_in_one_problem_s_code_renames_its_epochs_alone(tmp_path, monkeypatch):
    runs = {name: Run(Constant(0.1), problem=name, epochs=1) for name in (TABULAR, QUADRATIC)}
    before = {name: plan_epochs(run)[0].name for name, run in runs.items()}
    shutil.copytree(numerics.PACKAGE, tmp_path / "lrlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(numerics.PACKAGE.parent / "bench" / "suggestions", tmp_path / "bench" / "suggestions")
    file = tmp_path / "bench" / "suggestions" / "problems" / "tabular.py"
    monkeypatch.setattr(numerics, "PACKAGE", tmp_path / "lrlib")
    describe_numerics.cache_clear()
    assert {name: plan_epochs(run)[0].name for name, run in runs.items()} == before
    file.write_text(file.read_text().replace("WIDTH = 64", "WIDTH = 65"))
    describe_numerics.cache_clear()
    after = {name: plan_epochs(run)[0].name for name, run in runs.items()}
    monkeypatch.undo()
    describe_numerics.cache_clear()
    assert after[QUADRATIC] == before[QUADRATIC]
    assert after[TABULAR] != before[TABULAR]
