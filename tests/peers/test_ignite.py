"""lrlib.peers.ignite with the real ignite."""

import matplotlib
import numpy as np
import pytest
import torch
from peer_problems import RecordedLoss, assert_equal, build, weights_of

import lrlib
from lrlib import suggest

engines = pytest.importorskip("ignite.engine", reason="ignite is not installed (make peers)")
from ignite.handlers import FastaiLRFinder as Theirs  # noqa: E402

from lrlib.peers.ignite import FastaiLRFinder  # noqa: E402

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore")


class Problem:
    def __init__(self, groups=False, lr=1e-4):
        self.model, self.optimizer, self.loader = build(groups=groups, lr=lr)
        self.criterion = RecordedLoss()
        self.trainer = engines.create_supervised_trainer(self.model, self.optimizer, self.criterion)
        self.to_save = {"model": self.model, "optimizer": self.optimizer}

    def sweep(self, finder, **settings):
        with finder.attach(self.trainer, self.to_save, **{"num_iter": 100, "end_lr": 1e3, **settings}) as trainer:
            trainer.run(self.loader)
        return finder


@pytest.mark.parametrize(
    "settings", [{}, {"smooth_f": 0.3}, {"start_lr": 1e-4, "diverge_th": 20.0}, {"step_mode": "linear"}]
)
def test_results_are_ignites_and_the_result_has_the_raw_losses(settings):
    expected, problem = Problem().sweep(Theirs(), **settings), Problem()
    finder = problem.sweep(FastaiLRFinder(), **settings)
    found, theirs = finder.get_results(), expected.get_results()
    n = min(len(found["lr"]), len(theirs["lr"]))
    assert n > 3 and np.allclose(found["lr"][:n], theirs["lr"][:n], rtol=1e-12)
    small = [lr < 1e-3 for lr in found["lr"][:n]]  # where it does not matter yet that theirs are a step late
    assert np.allclose(np.array(found["loss"][:n])[small], np.array(theirs["loss"][:n])[small], rtol=0.01)
    [sweep] = finder.result.sweeps
    assert np.allclose(sweep.loss, problem.criterion.losses, rtol=0, atol=1e-11)
    assert finder.lr_suggestion() == finder.result.suggest().lr
    assert finder.lr_suggestion() == pytest.approx(suggest.suggest_lr(sweep.lr, problem.criterion.losses).lr, rel=1e-8)
    assert lrlib.read(finder) is finder.result


def test_each_step_is_taken_at_the_rate_that_is_recorded_for_it():
    problem, rates = Problem(lr=0.5), []

    def criterion(logits, targets):
        rates.append(problem.optimizer.param_groups[0]["lr"])
        return torch.nn.functional.cross_entropy(logits, targets)

    problem.trainer = engines.create_supervised_trainer(problem.model, problem.optimizer, criterion)
    finder = problem.sweep(FastaiLRFinder(), start_lr=1e-4)
    assert rates == pytest.approx(finder.get_results()["lr"], rel=1e-12)


def kept_state(problem):
    return weights_of(problem.model) + [
        value for state in problem.optimizer.state.values() for value in state.values() if value is not None
    ]


@pytest.mark.parametrize("failure", [None, FloatingPointError, KeyboardInterrupt])
def test_all_is_as_before_afterwards_also_after_an_exception(failure):
    problem = Problem(groups=True)
    problem.trainer.run(problem.loader, max_epochs=1)
    before = [value.clone() for value in kept_state(problem)]
    groups = [{k: v for k, v in group.items() if k != "params"} for group in problem.optimizer.param_groups]
    handlers = {event: list(found) for event, found in problem.trainer._event_handlers.items() if found}
    progress, randomness = dict(problem.trainer.state_dict()), torch.get_rng_state()
    finder = FastaiLRFinder()
    if failure:
        with pytest.raises(failure), finder.attach(problem.trainer, problem.to_save, num_iter=40) as trainer:
            trainer.add_event_handler(engines.Events.ITERATION_COMPLETED(once=25), raise_it, failure)
            trainer.run(problem.loader)
        assert finder.result is None
        handlers.update({e: f for e, f in problem.trainer._event_handlers.items() if any(h[0] is raise_it for h in f)})
    else:
        problem.sweep(finder)
    assert_equal(kept_state(problem), before)
    assert [{k: v for k, v in group.items() if k != "params"} for group in problem.optimizer.param_groups] == groups
    assert torch.equal(torch.get_rng_state(), randomness) and dict(problem.trainer.state_dict()) == progress
    left = [
        h
        for found in problem.trainer._event_handlers.values()
        for h, *_ in found
        if getattr(h, "__self__", 0) is finder
    ]
    assert left == []


def raise_it(engine, failure):
    raise failure("stop here")


def test_it_sweeps_again_after_an_exception():
    problem, finder = Problem(), FastaiLRFinder()
    with pytest.raises(FloatingPointError), finder.attach(problem.trainer, problem.to_save, num_iter=40) as trainer:
        handle = trainer.add_event_handler(engines.Events.ITERATION_COMPLETED(once=25), raise_it, FloatingPointError)
        trainer.run(problem.loader)
    handle.remove()
    fresh = Problem()
    assert problem.sweep(finder).get_results() == fresh.sweep(FastaiLRFinder()).get_results()


def test_groups_have_the_rates_that_they_had_at_the_same_point():
    problem = Problem(groups=True)
    finder = problem.sweep(FastaiLRFinder(), end_lr=[1e3, 1e4])
    first, second = finder.lr_suggestion()
    assert first == pytest.approx(finder.result.suggest().lr) and second == pytest.approx(10 * first)
    finder.apply_suggested_lr(problem.optimizer)
    assert [group["lr"] for group in problem.optimizer.param_groups] == [first, second]


def test_plot_marks_the_suggestion():
    finder = Problem().sweep(FastaiLRFinder())
    ax = finder.plot(skip_end=0)
    assert ax.collections[0].get_offsets()[0][0] == pytest.approx(finder.lr_suggestion())
    assert len(ax.lines[0].get_xdata()) == len(finder.get_results()["lr"]) - 10


def test_what_ignite_refuses_is_refused_as_ignite_does():
    problem, finder = Problem(), FastaiLRFinder()
    for error, sentence, to_save, settings in [
        (TypeError, "to_save", [1], {}),
        (ValueError, "optimizer", {"model": problem.model}, {}),
        (ValueError, "smooth_f", problem.to_save, {"smooth_f": 1}),
        (ValueError, "start_lr", problem.to_save, {"start_lr": 20.0}),
    ]:
        with pytest.raises(error, match=sentence), finder.attach(problem.trainer, to_save, **settings):
            pass
    with pytest.raises(RuntimeError, match="run the trainer inside"):
        finder.lr_suggestion()
