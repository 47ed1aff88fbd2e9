"""Results whose every value is known."""

from collections import namedtuple

import numpy as np
import pandas as pd
import pytest

from lrlib.reproduction.design import SGD_SWEEP, Design

SEEDS = 8
NOISE = np.array([-1.0, 1.0, -0.5, 0.5] * 2)  # of the seeds, mean 0


def make_design(**settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrlib.reproduction.design.choose_dataset", lambda name: name)
        return Design(**{"seeds": SEEDS, "dataset": "mnist", **settings})


def curve(run, test_loss=0.03, test_accuracy=0.99, *, seeds=SEEDS, noise=0.0, epochs=30, train_loss=None):
    """A run's table; values are numbers or functions of the epoch, noise is relative and differs by seed."""
    epoch = np.arange(1, epochs + 1)
    of = lambda value: value(epoch) if callable(value) else np.full(epochs, value)  # noqa: E731
    columns = {"run": run, "epoch": epoch, "train_loss": of(test_loss if train_loss is None else train_loss)}
    frames = []
    for seed in range(seeds):
        losses, accuracies = of(test_loss) * (1 + noise * NOISE[seed]), of(test_accuracy) + noise / 100 * NOISE[seed]
        frames.append(pd.DataFrame(columns | {"seed": seed, "test_loss": losses, "test_accuracy": accuracies}))
    return pd.concat(frames)


def falling(epoch):
    return 1 / epoch


FakeResults = namedtuple("FakeResults", ["epochs", "steps"], defaults=[None, None])


def sweep(start=-3.0, lowest=-1.0, *, seeds=range(SEEDS), explodes=True, falls=True):
    """A range test: 2.3 up to about 10**start, 0.1 at 10**lowest, then up."""
    x = np.linspace(-6, 0.07, 1000)
    loss = np.full_like(x, 2.3)
    if falls:
        fall = np.clip((x - start) / (lowest - start), 0, 1)
        loss -= 2.2 * (3 * fall**2 - 2 * fall**3)
    if explodes:
        loss += 4 * np.clip(x - lowest, 0, None) ** 2
    frame = pd.DataFrame({"run": SGD_SWEEP, "step": np.arange(1000), "lr": 10**x, "loss": loss})
    return pd.concat(frame.assign(seed=seed) for seed in seeds)


def several(labels, losses, accuracies, settings):
    return pd.concat(curve(*row, **settings) for row in zip(labels, losses, accuracies, strict=True))


def constants(losses=(0.03, 0.03, 0.1), accuracies=(0.99, 0.99, 0.97), **settings):
    return several(("lr 0.1", "lr 0.01", "lr 0.001"), losses, accuracies, settings)


def drops(losses, **settings):
    return several(("MultiStep [5]", "MultiStep [15]", "MultiStep [25]"), losses, [0.99] * 3, settings)


def schedules(multistep=0.99, onecycle=0.99, losses=(0.03, 0.03), **settings):
    return several(("MultiStep [15, 25]", "OneCycle"), losses, (multistep, onecycle), settings)
