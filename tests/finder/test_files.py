import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import build, sweep

from lrlib.finder.result import RangeTestResult, Settings, Sweep


@pytest.fixture(scope="module")
def result():
    model, optimizer, loader = build(momentum=0.9)
    return sweep(model, optimizer, loader, num_iter=150, start_lr=1e-5, repeats=3, val_loader=loader)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_saving_and_loading_gives_the_same_result(result, tmp_path, ending):
    path = tmp_path / f"sweep.{ending}"
    result.save(path)
    loaded = RangeTestResult.load(path)
    assert loaded == result and repr(loaded) == repr(result)
    assert loaded.suggest() == result.suggest()
    assert list(tmp_path.iterdir()) == [path]
    if ending == "json":
        json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are no JSON


number = st.floats(width=64)


@settings(max_examples=50, deadline=None)
@given(
    curves=st.lists(st.lists(st.tuples(number, st.none() | number), min_size=1, max_size=8), min_size=1, max_size=3),
    ending=st.sampled_from(["json", "csv"]),
    reason=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_losses_survive_a_round_trip_to_the_bit(tmp_path_factory, curves, ending, reason):
    made_with = Settings(
        1e-3, 1.0, 10, "exp", 0.05, 5.0, 1, 0.5, "loss", 1, None, "cpu", "SGD", (1.0, 0.1), False, False
    )
    sweeps = [
        Sweep(
            seed=i,
            lr=np.logspace(-3, 0, len(points)),
            loss=[loss for loss, _ in points],
            val_step=[step for step, (_, val) in enumerate(points) if val is not None],
            val=[val for _, val in points if val is not None],
            val_metric="loss",
            stop_reason=reason,
            seconds=0.1,
        )
        for i, points in enumerate(curves)
    ]
    made = RangeTestResult(tuple(sweeps), made_with, {"torch": "2"}, 0.1)
    path = tmp_path_factory.mktemp("round") / f"sweep.{ending}"
    made.save(path)
    loaded = RangeTestResult.load(path)
    assert loaded == made
    for one, other in zip(made.sweeps, loaded.sweeps, strict=True):
        for name in ("lr", "loss", "val", "val_step"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("loss", "val"))


def test_files_that_are_no_result_are_refused(result, tmp_path):
    with pytest.raises(ValueError, match="path must end in .json or .csv"):
        result.save(tmp_path / "sweep.txt")
    for name, text in (("a.json", "{}"), ("b.csv", "lr,loss\n1,2\n"), ("c.json", '{"format": 99, "sweeps": []}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="must be"):
            RangeTestResult.load(tmp_path / name)
