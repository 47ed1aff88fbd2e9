"""`python -m lrlib verify`: train a sample of the published epochs again, and compare."""

import argparse
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
from lrlib.runs.engine import compute_epochs, numerics_of, record_of
from lrlib.runs.plan import plan_epochs
from lrlib.runs.published import Published, PublishedError, digest_weights
from lrlib.runs.store import Store
from lrlib.runs.trainer import open_workers

# Where something else computes, rounding differs, and training multiplies the difference.
LOSS_TOLERANCE = 1e-3  # of a step's loss, absolute
ACCURACY_TOLERANCE = 0.003  # of the test accuracy, absolute


def verify(found: Published, *, chains: int, epochs: int, seed: int | None) -> Iterator[tuple[str, bool]]:
    """Train the first epochs of some published runs in a temporary store, and compare each with what was published.

    Args:
        found: The published results.
        chains: How many runs, drawn at random.
        epochs: How many epochs of each at most.
        seed: Of the draw; None for another one each time.

    Yields:
        A line on each epoch, and whether it is as published: bit for bit where the numerics are equal, otherwise within
        LOSS_TOLERANCE and ACCURACY_TOLERANCE.
    """
    runs = random.Random(seed).sample(found.runs, min(chains, len(found.runs)))
    wanted = {run: plan_epochs(run)[:epochs] for run in runs}
    expected = {run: found.find(chain) for run, chain in wanted.items()}
    missing = {e.name: e for run, chain in wanted.items() if expected[run] for e in chain[: len(expected[run])]}
    with tempfile.TemporaryDirectory() as folder:
        store, computed = Store(folder), {}
        if missing:
            with open_workers(list(missing.values()), Store(store_folder())) as workers:
                for epoch, artefact in compute_epochs(list(missing.values()), store=store, workers=workers):
                    computed[epoch.name] = artefact
    for run, chain in wanted.items():
        label = f"{run.label}, seed {run.seed}"
        if not expected[run]:
            yield f"{label}: not among the published epochs", False
            continue
        for epoch, record in zip(chain, expected[run], strict=False):
            ours = record_of(computed[epoch.name])
            same = record["numerics"] == numerics_of(epoch, load_data(run.problem))
            difference = np.nanmax(np.abs(ours["losses"] - record["losses"]), initial=0.0)
            if same:
                figures = ("test_loss", "test_accuracy", "diverged")
                right = np.array_equal(ours["losses"], record["losses"], equal_nan=True)
                right &= digest_weights(computed[epoch.name]) == record["weights"]
                right &= all(ours[name] == record[name] or ours[name] != ours[name] for name in figures)
            else:
                near = difference <= LOSS_TOLERANCE
                near &= abs(ours["test_accuracy"] - record["test_accuracy"]) <= ACCURACY_TOLERANCE
                right = ours["diverged"] == record["diverged"] and (ours["diverged"] or near)
            how = "bit for bit" if same else "other numerics, within tolerance"
            yield f"{label}, epoch {epoch.number}: largest difference of a loss {difference:.1e} ({how})", bool(right)


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit status: 1 if an epoch is off or the file cannot be read."""
    parser = argparse.ArgumentParser("lrlib verify", description=__doc__.partition(": ")[2])
    parser.add_argument("file", nargs="?", type=Path, help="published results; default: the report's")
    parser.add_argument("--chains", type=int, default=3, help="runs to train (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the draw of runs; default: another one each time")
    options = parser.parse_args(arguments)
    try:
        found = published.read(options.file or published.default_path())
        print(
            f"Comparing {found.describe()} with {options.chains} runs of at most {options.epochs} epochs trained here."
        )
        lines = list(verify(found, chains=options.chains, epochs=options.epochs, seed=options.seed))
        if not lines:
            raise PublishedError(f"{found.path} holds no runs")
    except LrlibError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return err.status
    for line, right in lines:
        print(f"{'as published' if right else 'OFF':<14}{line}")
    n_off = sum(not right for _, right in lines)
    print(f"{n_off} of {len(lines)} epochs are off." if n_off else f"All {len(lines)} epochs are as published.")
    return 1 if n_off else 0
