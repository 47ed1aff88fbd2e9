"""`python -m lrlib verify`: train a sample of the published epochs again, and compare."""

import argparse
import contextlib
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrlib.errors import LrlibError
from lrlib.problems.registry import load_data
from lrlib.project import store_folder
from lrlib.runs import published
from lrlib.runs.engine import compute_epochs, record_of
from lrlib.runs.plan import plan_epochs
from lrlib.runs.published import FIGURES, Published, digest_weights
from lrlib.runs.store import Store
from lrlib.runs.trainer import open_workers
from lrlib.training.backends import BackendError
from lrlib.training.registry import name_numerics

# If something else computes, rounding differs: three epochs by plain layers differ from the compiled step's by 1e-6.
LOSS_TOLERANCE = 1e-3  # of a step's loss
ACCURACY_TOLERANCE = 3e-3  # of the test accuracy


def verify(found: Published, *, chains: int, epochs: int, seed: int | None) -> Iterator[tuple[str, bool]]:
    """Train the first epochs of some published runs in a temporary store, and compare each with what was published.

    Args:
        found: The published results.
        chains: How many runs, drawn at random.
        epochs: How many epochs of each at most.
        seed: Of the draw; None for another one each time.

    Yields:
        A line on each epoch, and whether it is as published: bit for bit, weights included, or, if the numerics differ,
        within LOSS_TOLERANCE and ACCURACY_TOLERANCE.
    """
    pairs: list = []  # of epochs and what was published of them
    runs = []
    for run in found.runs:
        with contextlib.suppress(BackendError):  # its backend is not installed
            name_numerics(run, load_data(run.problem))
            runs.append(run)
    for run in random.Random(seed).sample(runs, min(chains, len(runs))):
        chain = plan_epochs(run)[:epochs]
        records = found.find(chain)
        if records is None:
            yield f"{run.label}, seed {run.seed}: not among the published epochs", False
        pairs += zip(chain, records or [], strict=False)
    missing = list({epoch.name: epoch for epoch, _ in pairs}.values())
    with tempfile.TemporaryDirectory() as folder, open_workers(missing, Store(store_folder())) as workers:
        trained = compute_epochs(missing, store=Store(folder), workers=workers)
        computed = {epoch.name: artefact for epoch, artefact in trained if artefact}
    for epoch, theirs in pairs:
        ours, weights = record_of(computed[epoch.name]), digest_weights(computed[epoch.name])
        names = ("losses", *(name for name in FIGURES if name != "seconds"))
        how, right = "bit for bit", all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in names)
        right &= weights == theirs["weights"]
        difference = np.nanmax(np.abs(ours["losses"] - theirs["losses"]), initial=0.0)
        if not right and theirs["numerics"] != name_numerics(epoch.run, load_data(epoch.run.problem)):
            how, right = "other numerics, within tolerance", ours["diverged"] == theirs["diverged"]
            if not ours["diverged"]:
                right &= difference <= LOSS_TOLERANCE
                right &= abs(ours["test_accuracy"] - theirs["test_accuracy"]) <= ACCURACY_TOLERANCE
        about = f"{epoch.run.label}, seed {epoch.run.seed}, epoch {epoch.number}"
        yield f"{about}: largest difference of a loss {difference:.1e} ({how})", bool(right)


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit status: 1 if an epoch is off or the file cannot be read."""
    parser = argparse.ArgumentParser("lrlib verify", description="train a sample of the published epochs and compare")
    parser.add_argument("file", nargs="?", type=Path, help="published results; default: the report's")
    parser.add_argument("--chains", type=int, default=3, help="runs to train (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the draw of runs; default: another one each time")
    options = parser.parse_args(arguments)
    try:
        found = published.read(options.file or published.default_path())
        sample = f"{options.chains} runs of at most {options.epochs} epochs"
        print(f"Comparing {found.describe()} with {sample} trained here.")
        lines = list(verify(found, chains=options.chains, epochs=options.epochs, seed=options.seed))
    except LrlibError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return err.status
    for line, right in lines:
        print(f"{'as published' if right else 'OFF':<14}{line}")
    n_off = sum(not right for _, right in lines)
    print(f"{n_off} of {len(lines)} epochs are off." if n_off else f"All {len(lines)} epochs are as published.")
    return 1 if n_off or not lines else 0
