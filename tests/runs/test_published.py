"""Published results: to the bit what was trained, used instead of training, and checked."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from in_process import Evil, train_in_process

from lrlib import Run
from lrlib.__main__ import main
from lrlib.runs import engine, plan, published, trainer, verify
from lrlib.runs.engine import round_losses
from lrlib.runs.published import PublishedError, read, write
from lrlib.runs.store import Store
from lrlib.runs.trainer import find_results
from lrlib.schedules import Constant, Exponential, MultiStep, OneCycle
from lrlib.training.backends import BackendError

SAMPLE = {"problem": "lenet5_sample", "epochs": 2}
RUNS = [
    *(Run(OneCycle(0.1, final_div_factor=4), **SAMPLE, seed=seed) for seed in (0, 1)),
    Run(MultiStep(0.1, [1]), **SAMPLE, label="drop"),
    Run(Constant(0.1), **SAMPLE),
    Run(Exponential(1e-3, 1e30), **SAMPLE, label="wild"),
]
FIGURES = ["run", "seed", "epoch", "train_loss", "test_loss", "test_accuracy", "n_test", "diverged"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(store, file) of RUNS, trained and published."""
    folder = tmp_path_factory.mktemp("published")
    store = Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        train_in_process(patch)(RUNS, store=store, progress=False)
    write(folder / "results.npz", RUNS, commit="0123456789abcdef", store=store)
    return store, folder / "results.npz"


@pytest.fixture
def file(trained, tmp_path):
    """A copy of the file that may be changed."""
    return shutil.copy(trained[1], tmp_path / "results.npz")


@pytest.fixture
def use(monkeypatch):
    """use(file): what $LRLIB_RESULTS names is used, and nothing may be trained."""

    def use(file):
        monkeypatch.setenv(published.VARIABLE, str(file))
        monkeypatch.setattr(trainer, "open_workers", None)

    return use


@pytest.fixture
def elsewhere(monkeypatch):
    """Another machine: its numerics stand in the names of its epochs."""
    for module in (plan, engine):
        monkeypatch.setattr(module, "name_numerics", lambda *_: {"torch": "9.9"})


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_what_is_published_is_what_was_trained_and_nothing_is_trained(where, trained, use, tmp_path, request):
    store, file = trained
    expected = trainer.train(RUNS, store=store, progress=False)
    if where == "elsewhere":
        request.getfixturevalue("elsewhere")
    use(file)
    found = trainer.train(RUNS, store=Store(tmp_path / "empty"), progress=False)
    assert (found.n_computed, found.published, expected.published) == (0, RUNS, [])
    assert found.epochs[FIGURES].equals(expected.epochs[FIGURES])
    assert found.steps.equals(expected.steps) and found.diverged.equals(expected.diverged)
    assert (found.n_epochs, found.n_known) == (expected.n_epochs, expected.n_known)
    assert find_results(RUNS, store=Store(tmp_path / "empty")).epochs.equals(found.epochs)
    numerics = read(file).find(plan.plan_epochs(RUNS[0]))[0]["numerics"]
    assert (numerics["backend"], "code" in numerics) == (RUNS[0].backend, True)


def test_an_own_result_comes_before_a_published_one_and_a_run_is_never_made_of_both(
    trained, use, tmp_path, monkeypatch, elsewhere, capsys
):
    own, longer = Store(tmp_path / "own"), Run(Constant(0.1), problem="lenet5_sample", epochs=3)
    train = train_in_process(monkeypatch)
    train(RUNS[:1], store=own, progress=False)
    monkeypatch.setenv(published.VARIABLE, str(trained[1]))
    results = train([RUNS[0], RUNS[1], longer], store=own, progress=False)
    assert results.published == [RUNS[1]]
    assert results.n_computed == 3  # all of the longer run, whose first two epochs are published
    assert results.n_unpublished == 5
    assert capsys.readouterr().err == "not among the published results, trained now: 3 epochs\n"
    part = Store(tmp_path / "part")
    first = plan.plan_epochs(RUNS[1])[0].name
    train([RUNS[1]], store=part, progress=False, published=None)
    part.path(plan.plan_epochs(RUNS[1])[1].name).unlink()
    assert part.load(first) and train([RUNS[1]], store=part, progress=False).published == [RUNS[1]]


@pytest.mark.skipif(RUNS[0].backend != "compiled", reason="the kernels cannot run")
def test_what_kernels_trained_stands_for_plain_layers_only_where_kernels_cannot_run(trained, monkeypatch):
    plain = plan.plan_epochs(Run(OneCycle(0.1, final_div_factor=4), **SAMPLE, backend="torch"))
    assert read(trained[1]).find(plain) is None
    monkeypatch.setattr(published.compiled, "is_available", lambda: False)
    assert read(trained[1]).find(plain) is not None


def test_the_published_file_holds_forty_seeds_and_is_found_by_what_is_planned_today():
    found = read(published.default_path())
    assert {run.seed for run in found.runs} == set(range(40))
    assert all(found.find(plan.plan_epochs(run)) for run in found.runs if run.seed in (0, 39))


def test_a_missing_backend_is_needed_only_for_what_is_not_published(trained, use, tmp_path, monkeypatch):
    def refuse(*_):
        raise BackendError("not installed")

    monkeypatch.setattr(plan, "name_numerics", refuse)
    monkeypatch.setattr(trainer, "name_numerics", refuse)
    with pytest.raises(BackendError, match="not installed"):
        trainer.train(RUNS, store=Store(tmp_path / "empty"), progress=False)
    use(trained[1])
    assert find_results(RUNS, store=Store(tmp_path / "empty")).published == RUNS


def test_a_model_of_a_published_run_is_trained_and_that_is_said(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(published.VARIABLE, str(trained[1]))
    train, store = train_in_process(monkeypatch), Store(tmp_path / "empty")
    model = train(RUNS[:1], store=store, progress=False).model(RUNS[0])
    expected = train(RUNS[:1], store=trained[0], progress=False, published=None).model(RUNS[0])
    assert all((a == b).all() for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert "published results have no weights" in capsys.readouterr().err


def test_the_same_runs_give_the_same_file_and_runs_that_are_not_trained_none(trained, tmp_path):
    store, file = trained
    checksum = write(tmp_path / "again.npz", RUNS, commit="0123456789abcdef", store=store)
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()
    assert read(file).checksum == checksum and read(file).runs == RUNS
    with pytest.raises(PublishedError, match=r"constant lr 0.2 \(seed 0\) is not in .*; train it first"):
        write(tmp_path / "none.npz", [Run(Constant(0.2), **SAMPLE)], commit="", store=store)
    assert not (tmp_path / "none.npz").exists()


def test_losses_are_rounded_to_sixteen_bits_and_stay_what_they_are_when_not_finite():
    losses = np.random.default_rng(0).lognormal(-2, 2, 10_000).astype(np.float32)
    rounded = round_losses(losses)
    assert (np.abs(rounded - losses) <= losses * 2.0**-16).all()
    assert np.array_equal(round_losses(rounded.astype(np.float32)), rounded)
    assert not (rounded.astype(np.float32).view(np.uint32) & 0xFF).any()
    special = np.array([np.inf, -np.inf, np.nan, 0, 2.5], np.float32)
    assert np.array_equal(round_losses(special), special, equal_nan=True)


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change(name, edit):
    """spoil(file) that edits one of its arrays."""

    def spoil(file):
        with np.load(file) as archive:
            arrays = {name: archive[name].copy() for name in archive.files}
        edit(arrays[name])
        np.savez_compressed(file, **arrays)

    return spoil


def write_a_pickle(file):
    with zipfile.ZipFile(file, "w") as archive, archive.open("about.npy", "w") as member:
        np.lib.format.write_array(member, np.array([Evil(file.with_name("ran"))], object))


def write_a_newer_one(file):
    about = json.dumps({"format": published.FORMAT + 1}).encode()
    np.savez(file, about=np.frombuffer(about, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "damaged"),
        (flip_a_bit, "damaged"),
        (lambda file: file.write_text("seed,loss\n0,0.1\n"), "damaged"),
        (lambda file: np.savez(file, a=np.zeros(3)), "damaged"),
        (write_a_pickle, "damaged"),
        (change("losses", lambda losses: losses.__setitem__((1, 5), losses[1, 5] ^ 1)), "does not match its checksum"),
        (change("test_accuracy", lambda accuracy: accuracy.__setitem__(0, 0.99)), "does not match its checksum"),
        (write_a_newer_one, "newer lrlib; update lrlib"),
        (lambda file: file.unlink(), "cannot be read"),
    ],
)
def test_a_damaged_foreign_or_newer_file_is_one_sentence_and_nothing_is_read_of_it(
    file, use, spoil, message, tmp_path, capsys
):
    spoil(file)
    use(file)
    with pytest.raises(PublishedError, match=message):
        trainer.train(RUNS, store=Store(tmp_path / "empty"), progress=False)
    assert verify.main([str(file)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_verify_trains_a_sample_again_and_compares_bit_for_bit(file, monkeypatch, capsys):
    train_in_process(monkeypatch)
    monkeypatch.setattr("sys.argv", ["lrlib", "verify", str(file), "--chains", "2", "--epochs", "1", "--seed", "0"])
    assert main() == 0
    out = capsys.readouterr().out
    assert out.count("as published  ") == 2 and "bit for bit" in out


def with_another_loss(artefact):
    """The record of an epoch, with the last of a loss's sixteen bits changed."""
    record = engine.record_of(artefact)
    losses = record["losses"].astype(np.float32)
    losses.view(np.uint32)[3] ^= 0x100
    return record | {"losses": losses.astype(np.float64)}


@pytest.mark.parametrize(
    ("name", "other"), [("record_of", with_another_loss), ("digest_weights", lambda artefact: b"01234567")]
)
def test_verify_finds_what_was_changed_although_the_file_is_whole(trained, tmp_path, monkeypatch, capsys, name, other):
    monkeypatch.setattr(published, name, other)
    write(tmp_path / "changed.npz", RUNS[:1], commit="", store=trained[0])
    train_in_process(monkeypatch)
    assert verify.main([str(tmp_path / "changed.npz"), "--epochs", "1"]) == 1
    assert "OFF" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "status", "said"),
    [
        (
            {"backend": "torch"},
            0,
            "other numerics, within tolerance" if RUNS[0].backend == "compiled" else "bit for bit",
        ),
        ({"batch_size": 96}, 1, "not among the published epochs"),
    ],
)
def test_verify_says_what_something_else_computes_and_what_is_not_published(
    file, monkeypatch, capsys, other, status, said
):
    original = published._make_run
    monkeypatch.setattr(published, "_make_run", lambda values: original(values | other))
    if "backend" in other:  # where the kernels cannot run
        monkeypatch.setattr(published.compiled, "is_available", lambda: False)
    train_in_process(monkeypatch)
    assert verify.main([str(file), "--epochs", "1", "--seed", "1"]) == status
    assert said in capsys.readouterr().out
