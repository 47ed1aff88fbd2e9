import os
import time

import pytest
from conftest import RUNS, names_of

from lrlib import Run
from lrlib.report import store_command
from lrlib.report.parameters import ParameterError
from lrlib.report.store_command import list_store, plan_published_runs, prune_store, read_published_command
from lrlib.runs.store import Artefact, Store, StoreError
from lrlib.schedules import Constant


@pytest.fixture
def store(tmp_path, uninterrupted):
    """A store with both RUNS, an epoch that does not say what it is of, and what a killed writer left; all old."""
    store = Store(tmp_path / "store")
    for name in names_of(RUNS):
        store.save(name, uninterrupted.load(name))
    store.save("ab" * 32, Artefact(uninterrupted.load(names_of(RUNS)[0]).tensors, {"n_test": 1}))
    (store.folder / "ab" / ".abab.safetensors.00.part").write_bytes(b"x" * 1000)
    for path in store.folder.rglob("*"):
        os.utime(path, (0, time.time() - 2 * store_command.SPARED_SECONDS))
    return store


def test_a_store_is_listed_by_run_and_size(store):
    size = store.path(names_of(RUNS)[0]).stat().st_size
    lines = list_store(store, [*RUNS[:1], Run(Constant(0.5), problem="lenet5_sample", epochs=2)], title="the report")
    text = "\n".join(lines)
    assert lines[0].startswith(f"{store.folder}: 13 epochs, ")
    assert [line for line in lines if line and not line.startswith(" ")][1:] == ["the report", "other runs"]
    assert any("OneCycle" in line and "6 of 6" in line for line in lines)
    assert any("constant lr 0.5" in line and "0 of 2" in line and "0.0 MB" in line for line in lines)
    assert any(line.split()[:7] == ["lenet5_sample,", "sgd,", "batch", "128,", "seed", "1,", "lr"] for line in lines)
    assert any("did not write down" in line and f"{size / 1e6:,.1f} MB" in line for line in lines)
    assert "left by writers that were broken off" in text


def test_epochs_that_runs_share_are_counted_once(store):
    longer, shorter = RUNS[0], Run(Constant(0.1), problem="lenet5_sample", epochs=1)
    total = sum(size for size, _ in store.list_files().values())
    lines = list_store(store, [longer, longer, shorter, *RUNS], title="t")
    rows = [line for line in lines if line.startswith("  ") and "broken off" not in line]
    sizes = [float(row.split()[-2].replace(",", "")) for row in rows]
    assert sum(sizes) == pytest.approx(total / 1e6, abs=0.3)


def test_prune_removes_what_the_runs_do_not_need_and_what_killed_writers_left(store):
    tried = prune_store(store, RUNS[:1], dry_run=True)
    assert len(store.list_files()) == 13
    pruned = prune_store(store, RUNS[:1])
    assert pruned == tried
    assert pruned.n_removed == 8
    assert set(store.list_files()) == set(names_of(RUNS[:1]))
    assert not store.list_parts()


def test_prune_spares_what_a_training_may_write_just_now(store):
    young = store.path(names_of(RUNS[1:])[0])
    os.utime(young)
    assert prune_store(store, RUNS[:1]).n_spared == 1
    assert young.exists()


def test_prune_refuses_where_all_would_go(store):
    with pytest.raises(StoreError, match="has nothing of the published report .* delete the folder if that is meant"):
        prune_store(store, [Run(Constant(0.3), problem="lenet5_sample", epochs=1)])
    assert len(store.list_files()) == 13


def test_the_published_report_s_runs_are_those_of_its_command():
    command = "make publish SEEDS=2 EPOCHS=3 DATASET=sample PARAMS='turning_points=[1, 2] milestones=[1, 2]'"
    runs = plan_published_runs(command)
    assert {run.seed for run in runs} == {0, 1}
    assert {run.problem for run in runs} == {"lenet5_sample"}
    assert "MultiStep lr 0.1, milestones [1, 2], gamma 0.1" in {str(run.schedule) for run in runs}


def test_readme_says_how_the_published_report_was_made():
    assert read_published_command().startswith("make publish")


def test_a_readme_without_a_published_report_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(store_command, "project_folder", lambda: tmp_path)
    with pytest.raises(ParameterError, match="names no published report"):
        read_published_command()
