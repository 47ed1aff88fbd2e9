"""Seeds by need: what is asked for, when it stops, and what it says meanwhile; claims and training are made up."""

import math
import re
from types import SimpleNamespace

import pytest
from conftest import copy_project, run_lrlib

from lrlib.report import need
from lrlib.report.need import add_seeds, describe_look, read_limit
from lrlib.report.parameters import ParameterError
from lrlib.report.provenance import describe_seeds
from lrlib.report.store_command import plan_published_runs
from lrlib.study.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Verdict
from lrlib.study.experiments import Design


def verdict(id, word, needed=None):
    return Verdict(id, "1", "", "", word, "", needed)


def made_up(monkeypatch, settled_at):
    """A train that hears of which seeds the runs are, and verdicts of which one is open until so many seeds."""
    asked = []

    def train(runs):
        asked.append(len({run.seed for run in runs}))
        return SimpleNamespace(n_computed=asked[-1])

    def check_all(results, design):
        opened = design.seeds < settled_at
        return [verdict("C1", INCONCLUSIVE, 40.0) if opened else verdict("C1", REPRODUCED), verdict("C6", INCONCLUSIVE)]

    monkeypatch.setattr(need, "check_all", check_all)
    return asked, train


@pytest.mark.parametrize(
    ("settled_at", "limit", "looks"),
    [(5, 30, [5]), (6, 30, [5, 10]), (1000, 30, [5, 10, 15, 20, 25, 30]), (1000, 12, [5, 10, 12]), (1000, 5, [5])],
)
def test_seeds_are_added_until_nothing_is_open_that_they_settle(monkeypatch, settled_at, limit, looks):
    asked, train = made_up(monkeypatch, settled_at)
    lines = []
    design = Design(seeds=5, max_seeds=limit, dataset="sample")
    seeds, looked = add_seeds(design, limit, train=train, say=lines.append)
    assert asked == looks and seeds == looks[-1] and len(looked) == len(lines) == len(looks)


def test_where_runs_are_not_to_be_had_it_ends_with_their_number(monkeypatch):
    _, train = made_up(monkeypatch, settled_at=1000)
    found = lambda runs: None if any(run.seed == 14 for run in runs) else train(runs)  # noqa: E731
    design = Design(seeds=5, max_seeds=30, dataset="sample")
    assert add_seeds(design, 30, train=found, say=lambda line: None)[0] == 15


def test_after_each_look_a_line_says_what_is_settled_and_what_is_open():
    verdicts = [verdict("C1", REPRODUCED), verdict("C2", NOT_REPRODUCED), verdict("C6", INCONCLUSIVE)]
    opened = [
        verdict("C7", INCONCLUSIVE, 14.0),
        verdict("C9", INCONCLUSIVE, 543.0),
        verdict("C11", INCONCLUSIVE, math.inf),
    ]
    assert describe_look(verdicts, 5, 30) == "5 seeds: C1 and C2 settled, C6 not to be settled by seeds"
    assert describe_look(verdicts + opened, 10, 12) == (
        "10 seeds: C1 and C2 settled, C7 (about 14 seeds), C9 (about 540 seeds) and C11 (more than 10,000 seeds) open, "
        "C6 not to be settled by seeds; adding 2"
    )
    assert describe_look(opened[:1], 30, 30) == "30 seeds: C7 (about 14 seeds) open; 30 are the limit"


def test_values_without_auto_are_left_alone_and_auto_begins_with_five():
    assert read_limit({"seeds": "3", "lr": "0.1"}) == ({"seeds": "3", "lr": "0.1"}, None)
    assert read_limit({"seeds": "auto"}) == ({"seeds": "5", "max_seeds": "30"}, 30)
    assert read_limit({"seeds": "auto", "max_seeds": "12"}) == ({"seeds": "5", "max_seeds": "12"}, 12)


@pytest.mark.parametrize("text", ["4", "101", "-5", "many", "7.5", "", "1" * 20])
def test_a_limit_out_of_range_is_refused(text):
    with pytest.raises(
        ParameterError, match=r"max_seeds must be a whole number from 5 to 100, got .+; by default it is 30"
    ):
        read_limit({"seeds": "auto", "max_seeds": text})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["report", "--max-seeds", "30"],
            "max_seeds is up to how many .* got 30 with no seeds; add SEEDS=auto or leave",
        ),
        (["report", "--seeds", "5", "--max-seeds", "30"], "max_seeds is up to how many .* got 30 with seeds=5; add"),
        (["report", "--seeds", "auto", "--max-seeds", "4"], "max_seeds must be a whole number from 5 to 100, got 4; "),
        (["report", "--seeds", "car"], "seeds must be a whole number, got car"),
        (
            ["section", "2-2", "--seeds", "auto"],
            r"section 2-2: seeds are added by need to the whole report, .*SEEDS=10",
        ),
        (
            ["section", "2-2", "--max-seeds", "30"],
            "section 2-2: seeds must be one of 5, 10, 15, 20, 25, 30 where .* got 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(project, arguments, message):
    status, out, err = run_lrlib(project, *arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1 and err.startswith("lrlib: ")
    assert re.search(message, err), err


def test_the_store_keeps_what_a_report_with_seeds_by_need_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("LRLIB_STORE", str(tmp_path / "empty"))
    runs = plan_published_runs("make publish SEEDS=auto MAX_SEEDS=10 EPOCHS=3 DATASET=sample")
    assert {run.seed for run in runs} == set(range(5))  # none is stored: those of the first look are next


def test_provenance_says_how_the_number_of_seeds_came_about():
    fixed, by_need = Design(seeds=5, dataset="sample"), Design(seeds=5, max_seeds=30, dataset="sample")
    assert describe_seeds(fixed) == "their number was fixed in advance"
    assert describe_seeds(by_need) == "added in steps of 5 until the claims were settled, at most 30"


def test_a_report_whose_seeds_are_added_says_so(project):
    few = "range_epochs=1 turning_points=[1] milestones=[2] learning_rates=[0.1,0.01]"
    arguments = ["--quick", "--seeds", "auto", "--max-seeds", "10", "--epochs", "2", "--params", few]
    status, _, err = run_lrlib(project, "report", *arguments)
    assert status == 0, err
    looks = [line.split()[0] for line in err.splitlines() if " seeds: " in line and " settled" in line]
    assert looks in (["5"], ["5", "10"])
    page = (project / "report" / "build" / "report.html").read_text(encoding="utf-8")
    text = " ".join(page.replace("\xa0", " ").split())
    assert "make report SEEDS=auto MAX_SEEDS=10" in text
    assert f"experiments were run with {looks[-1]} seeds: they were added in steps of five until the" in text
    assert "until the claims were settled or there were 10" in text
    assert "added in steps of 5 until the claims were settled, at most 10" in text
    assert "repeated confidence intervals" in text and "Group Sequential Methods" in text
