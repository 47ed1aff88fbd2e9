"""Each claim against made-up curves whose verdict is known."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lrlib.study import claims
from lrlib.study.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from lrlib.study.experiments import SGD_SWEEP, Design

SEEDS = 4
NOISE = np.array([-1.0, 1.0, -0.5, 0.5])  # of the seeds, mean 0


@pytest.fixture
def design():
    return make_design()


def make_design(**settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrlib.study.experiments.choose_dataset", lambda name: name)
        return Design(**{"seeds": SEEDS, "dataset": "mnist", **settings})


def curve(run, test_loss=0.03, test_accuracy=0.99, *, seeds=SEEDS, noise=0.0, epochs=30, **columns):
    """A run's table; values are numbers or functions of the epoch, noise is relative and differs by seed."""
    epoch = np.arange(1, epochs + 1)
    of = lambda value: value(epoch) if callable(value) else np.full(epochs, value)  # noqa: E731
    return pd.concat(
        pd.DataFrame(
            {
                "run": run,
                "seed": seed,
                "epoch": epoch,
                "train_loss": of(columns.get("train_loss", test_loss)),
                "test_loss": of(test_loss) * (1 + noise * NOISE[seed]),
                "test_accuracy": of(test_accuracy) + noise / 100 * NOISE[seed],
                "n_test": 10_000,
            }
        )
        for seed in range(seeds)
    )


def falling(epoch):
    return 1 / epoch


class FakeResults:
    def __init__(self, epochs=None, steps=None):
        self.epochs, self.steps = epochs, steps


def sweep(start=-3.0, lowest=-1.0, *, seeds=SEEDS, explodes=True, falls=True):
    """A range test: 2.3 up to about 10**start, 0.1 at 10**lowest, then up."""
    x = np.linspace(-6, 0.07, 1000)
    loss = np.full_like(x, 2.3)
    if falls:
        fall = np.clip((x - start) / (lowest - start), 0, 1)
        loss -= 2.2 * (3 * fall**2 - 2 * fall**3)
    if explodes:
        loss += 4 * np.clip(x - lowest, 0, None) ** 2
    frames = [
        pd.DataFrame({"run": SGD_SWEEP, "seed": seed, "step": np.arange(1000), "lr": 10**x, "loss": loss})
        for seed in range(seeds)
    ]
    return pd.concat(frames)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (sweep(start=-3.3, lowest=-1.0), [REPRODUCED, REPRODUCED, REPRODUCED]),
        (sweep(start=-4.8, lowest=-2.5), [REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED]),
        (sweep(start=-3.3, lowest=-1.0, explodes=False), [NOT_REPRODUCED, None, REPRODUCED]),
        (sweep(falls=False), [NOT_REPRODUCED, None, None]),
    ],
)
def test_range_test_claims(design, steps, expected):
    verdicts = claims.check_range_test(FakeResults(steps=steps), design)
    for verdict, word in zip(verdicts, expected, strict=True):
        assert word in (None, verdict.verdict), verdict


def test_range_test_claims_are_inconclusive_where_seeds_disagree(design):
    steps = pd.concat([sweep(lowest=-1.0).query("seed < 2"), sweep(lowest=-2.5, start=-4).query("seed >= 2")])
    assert claims.check_range_test(FakeResults(steps=steps), design)[1].verdict == INCONCLUSIVE


def constants(losses, accuracies=(0.99, 0.99, 0.97), **settings):
    lrs = (0.1, 0.01, 0.001)
    return pd.concat(curve(f"lr {lr:g}", loss, acc, **settings) for lr, loss, acc in zip(lrs, losses, accuracies))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((falling, falling, falling), REPRODUCED),
        ((2.3, 2.3, 2.3), NOT_REPRODUCED),
        ((falling, falling, 2.3), NOT_REPRODUCED),
    ],
)
def test_c4_all_learning_rates_make_the_loss_fall(design, losses, expected):
    assert claims.check_c4(constants(losses), design).verdict == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.1, 0.2, 0.4), REPRODUCED),
        ((0.4, 0.2, 0.1), NOT_REPRODUCED),
        ((0.1, 0.4, 0.2), NOT_REPRODUCED),
        ((0.1, 0.101, 0.102), NOT_REPRODUCED),
    ],
)
def test_c5_larger_learning_rates_are_faster(design, losses, expected):
    assert claims.check_c5(constants(losses), design).verdict == expected


@pytest.mark.parametrize(
    ("accuracies", "seeds", "expected"),
    [
        ((0.990, 0.9905, 0.97), SEEDS, REPRODUCED),
        ((0.990, 0.980, 0.97), SEEDS, NOT_REPRODUCED),
        ((0.990, 0.9905, 0.97), 1, INCONCLUSIVE),
        ((0.990, 0.980, 0.97), 1, NOT_REPRODUCED),
    ],
)
def test_c6_similar_accuracy(accuracies, seeds, expected):
    epochs = constants((0.03, 0.03, 0.1), accuracies, seeds=seeds)
    assert claims.check_c6(epochs, make_design(seeds=seeds)).verdict == expected


def drops(losses, **settings):
    return pd.concat(curve(f"MultiStep [{m}]", loss, **settings) for m, loss in zip((5, 15, 25), losses))


@pytest.mark.parametrize(
    ("losses", "seeds", "expected"),
    [
        ((0.030, 0.029, 0.031), SEEDS, REPRODUCED),
        ((0.029, 0.0295, 0.031), SEEDS, REPRODUCED),
        ((0.020, 0.029, 0.031), SEEDS, NOT_REPRODUCED),
        ((0.030, 0.029, 0.031), 1, INCONCLUSIVE),
        ((0.020, 0.029, 0.031), 1, NOT_REPRODUCED),
    ],
)
def test_c7_middle_turning_point_is_almost_lowest(losses, seeds, expected):
    assert claims.check_c7(drops(losses, seeds=seeds), make_design(seeds=seeds)).verdict == expected


@pytest.mark.parametrize(("rise", "expected"), [(0.001, REPRODUCED), (0.05, NOT_REPRODUCED)])
def test_c8_rise_after_the_drop(design, rise, expected):
    epochs = drops((0.03, lambda epoch: 0.03 + rise * np.clip(epoch - 16, 0, None) / 14, 0.03))
    assert claims.check_c8(epochs, design).verdict == expected


def test_c8_is_inconclusive_where_no_epoch_follows_the_drop():
    design = make_design(turning_points=(5, 15, 25), epochs=15)
    assert claims.check_c8(drops((0.03, 0.03, 0.03), epochs=15), design).verdict == INCONCLUSIVE


@pytest.mark.parametrize(("with_it", "expected"), [(0.0301, REPRODUCED), (0.02, NOT_REPRODUCED)])
def test_c9_second_drop(design, with_it, expected):
    epochs = pd.concat([drops((0.03, 0.03, 0.03)), curve("MultiStep [15, 25]", with_it)])
    assert claims.check_c9(epochs, design).verdict == expected


@pytest.mark.parametrize(("least", "expected"), [(1e-3, NOT_REPRODUCED), (1.1e-3, REPRODUCED), (9e-4, NOT_REPRODUCED)])
def test_c10_minimum_of_the_cycle_is_above(design, least, expected):
    steps = pd.DataFrame({"run": "OneCycle", "seed": 0, "lr": [0.004, 0.1, least]})
    assert claims.check_c10(steps, design).verdict == expected


def zigzag(height):
    return lambda epoch: 1 / epoch + 0.5 + height * (epoch % 2)


@pytest.mark.parametrize(
    ("heights", "seeds", "expected"),
    [
        ((0.05, 0.4), SEEDS, REPRODUCED),
        ((0.4, 0.05), SEEDS, NOT_REPRODUCED),
        ((0.30, 0.36), 1, INCONCLUSIVE),
        ((0.05, 0.4), 1, REPRODUCED),
    ],
)
def test_c11_smoother_curve(heights, seeds, expected):
    runs = zip(("OneCycle", "MultiStep [15, 25]"), heights)
    epochs = pd.concat(curve(run, zigzag(height), seeds=seeds, noise=0.01) for run, height in runs)
    assert claims.check_c11(epochs, make_design(seeds=seeds)).verdict == expected


def schedules(multistep, onecycle, **settings):
    return pd.concat(
        [curve("MultiStep [15, 25]", 0.03, multistep, **settings), curve("OneCycle", 0.03, onecycle, **settings)]
    )


@pytest.mark.parametrize(
    ("best", "schedule", "expected"),
    [(0.1, 0.992, REPRODUCED), (0.1, 0.980, NOT_REPRODUCED), (0.001, 0.992, NOT_REPRODUCED)],
)
def test_c12_the_range_test_finds_the_scale(design, best, schedule, expected):
    accuracies = [0.991 if lr == best else 0.98 for lr in (0.1, 0.01, 0.001)]
    epochs = pd.concat([constants((0.03, 0.03, 0.03), accuracies), schedules(schedule, schedule)])
    results = FakeResults(epochs, sweep(start=-2.3, lowest=-1))
    assert claims.check_conclusion(results, design)[0].verdict == expected


@pytest.mark.parametrize(
    ("accuracies", "seeds", "expected"),
    [
        ((0.9925, 0.9920), SEEDS, REPRODUCED),
        ((0.9850, 0.9920), SEEDS, NOT_REPRODUCED),
        ((0.9925, 0.9920), 1, INCONCLUSIVE),
        ((0.90, 0.9920), 1, NOT_REPRODUCED),
    ],
)
def test_c13_similar_final_accuracies(accuracies, seeds, expected):
    verdict = claims.check_c13(schedules(*accuracies, seeds=seeds, noise=0.01), make_design(seeds=seeds))
    assert verdict.verdict == expected


def test_the_sample_tests_no_claim_about_accuracy():
    design = make_design(dataset="sample")
    verdict = claims.check_c13(schedules(0.9925, 0.9920), design)
    assert verdict.verdict == INCONCLUSIVE
    assert "not tested by the sample" in verdict.evidence


def test_every_claim_has_its_rule_in_words_whatever_python_leaves_out():
    code = "from lrlib.study.claims import UNSETTLED, _verdict; "
    code += "print(*[_verdict(f'C{i}', '', '', UNSETTLED, '').rule for i in range(1, 14)], sep='\\n')"
    plain, stripped = (
        subprocess.run([sys.executable, *switches, "-c", code], capture_output=True, text=True, check=True).stdout
        for switches in ([], ["-OO"])
    )
    assert len(plain.splitlines()) == 13 and all(len(rule) > 60 for rule in plain.splitlines())
    assert stripped == plain


def test_a_run_that_was_not_trained_is_named(design):
    with pytest.raises(ValueError, match=r"the results hold no run 'MultiStep \[5\]'; train it"):
        claims.check_c7(curve("OneCycle"), design)
