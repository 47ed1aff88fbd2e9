"""What an epoch's name holds, and what it does not."""

from dataclasses import fields

import numpy as np
import pytest

from lrlib import Run
from lrlib.problems.data import Data
from lrlib.problems.registry import load_data
from lrlib.runs import plan
from lrlib.runs.plan import plan_epochs
from lrlib.schedules import Constant, MultiStep

SAMPLE = {"problem": "lenet5_sample", "epochs": 3}
BASE = Run(Constant(0.1), **SAMPLE)


def names(run):
    return [epoch.name for epoch in plan_epochs(run)]


def test_runs_share_the_epochs_before_they_part():
    a, b, constant = (names(Run(s, **SAMPLE)) for s in (MultiStep(0.1, [1]), MultiStep(0.1, [2]), Constant(0.1)))
    assert a[:1] == constant[:1]
    assert a[1] != constant[1]
    assert b[:2] == constant[:2]
    assert b[2] != constant[2]


CHANGES = {
    "problem": "small_problems:mlp", "seed": 1, "optimizer": "adam", "batch_size": 64, "weight_decay": 0.0,
    "momentum": 0.8, "schedule": Constant(0.1 * (1 + 2**-52)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_result_changes_the_name(name):
    others = {"schedule": BASE.schedule, **SAMPLE} | {name: CHANGES[name]}
    assert not {e.history for e in plan_epochs(BASE)} & {e.history for e in plan_epochs(Run(**others))}


def test_histories_are_those_by_which_published_results_are_found():
    assert plan_epochs(BASE)[2].history[:32] == "3b920fd606ba8bdec508f8641375f975"


def test_every_setting_is_in_the_name_or_the_numerics():
    assert {field.name for field in fields(Run)} == CHANGES.keys() | {"epochs", "label", "backend", "processes"}


def test_a_longer_run_a_label_and_another_type_of_the_same_number_change_no_name():
    long = Run(Constant(0.1), problem="lenet5_sample", epochs=np.int64(5), label="x", weight_decay=np.float64(5e-4))
    assert names(long)[:3] == names(BASE)
    without = [names(Run(Constant(1), weight_decay=value, **SAMPLE)) for value in (0, 0.0, -0.0, np.float32(0))]
    assert without.count(without[0]) == 4


def test_the_name_holds_the_data_and_the_numerics_and_the_history_only_the_data(monkeypatch):
    before = plan_epochs(BASE)
    monkeypatch.setattr(plan, "name_numerics", lambda *_: {"torch": "1.0"})
    elsewhere = plan_epochs(BASE)
    assert [e.history for e in elsewhere] == [e.history for e in before]
    assert not {e.name for e in elsewhere} & {e.name for e in before}
    assert [e.parent for e in elsewhere] == [None, *(e.name for e in elsewhere[:-1])]
    data = load_data("lenet5_sample")
    upside_down = Data((data.train[0].flip(2), data.train[1]), data.test)
    monkeypatch.setattr(plan, "load_data", lambda name: upside_down)
    assert not {e.history for e in plan_epochs(BASE)} & {e.history for e in before}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.0}, "epochs must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": True}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"optimizer": "sdg"}, "optimizer must be one of sgd, .*, got 'sdg'"),
        ({"problem": "lenet5_mnits"}, "problem must be one of lenet5_mnist, .*, got 'lenet5_mnits'"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0, got nan"),
        ({"backend": "tensorflow"}, "backend must be one of .*, got 'tensorflow'"),
        ({"processes": 2, "backend": "torch"}, "processes must be 1"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        Run(Constant(0.1), **given)
