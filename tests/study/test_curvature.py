import math

import pytest

from lrlib import Run
from lrlib.runs.store import Store
from lrlib.schedules import Constant
from lrlib.study import curvature


def make_run(**settings):
    return Run(Constant(1e-3), epochs=1, problem="quadratic_deep", **settings)


def test_it_is_that_of_the_first_gradient_step_and_computed_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    found = curvature.find_critical_lr(make_run(), store=store)
    # 2 g.g / g.H.g lies between two over the largest and two over the least eigenvalue, which are below 60 and above 0.
    assert 2 / 60 < found < 2
    monkeypatch.setattr(curvature, "_compute", lambda run: pytest.fail("computed again"))
    assert curvature.find_critical_lr(make_run(), store=store) == found


def test_another_seed_or_optimizer_is_another(tmp_path):
    store = Store(tmp_path)
    runs = [make_run(), make_run(seed=1), make_run(optimizer="adam")]
    assert len({curvature.find_critical_lr(run, store=store) for run in runs}) == 3


def test_where_no_rate_can_be_found_it_is_none(tmp_path, monkeypatch):
    def uphill(*_):
        raise ValueError("uphill")

    monkeypatch.setattr(curvature, "critical_lr", uphill)
    assert math.isnan(curvature.find_critical_lr(make_run(), store=Store(tmp_path)))
