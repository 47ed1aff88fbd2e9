"""What training costs besides the training: time an epoch, and the memory of the caller, over large sweeps.

    python bench/scheduling.py

Epochs of one step on a dataset of a few made-up images, so that next to nothing is left but planning, scheduling,
sending, hashing and storing. One worker, so that the wall time less the epochs' own is what the rest took.
Memory is the caller's resident set, which holds Dask's scheduler too, after the first tenth of a sweep and at its end.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from unittest import mock

import numpy as np
import psutil
import torch

from lrlib import Run
from lrlib.problems.data import DatasetInfo
from lrlib.problems.problem import Data
from lrlib.problems.registry import load_problem
from lrlib.runs import cluster, engine, plan, trainer
from lrlib.runs.store import Store
from lrlib.schedules import Constant

N_IMAGES = 8


def make_problem():
    """LeNet-5 on N_IMAGES made-up images in each split."""
    images = torch.arange(N_IMAGES * 32 * 32).reshape(N_IMAGES, 1, 32, 32).to(torch.uint8)
    labels = torch.arange(N_IMAGES) % 10
    info = DatasetInfo("sample", "made up", N_IMAGES, N_IMAGES, "bench")
    data = Data((images, labels), (images, labels))
    return replace(load_problem("lenet5_sample"), find_data=lambda: info, load_data=lambda: data)


def measure(n_runs, n_epochs, client):
    """A row: train n_runs of n_epochs each into an empty store, and take them from it again."""
    settings = {"epochs": n_epochs, "batch_size": N_IMAGES, "problem": "lenet5_sample"}
    sweep = [Run(Constant(lr), **settings) for lr in np.linspace(1e-3, 1e-2, n_runs).tolist()]
    memory, process = [], psutil.Process()
    original = trainer.record_of

    def record(artefact):
        memory.append(process.memory_info().rss / 1e6)
        return original(artefact)

    n = n_runs * n_epochs
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(trainer, "record_of", record):
        store = Store(folder)
        cpu, start = time.process_time(), time.perf_counter()
        results = trainer.train(sweep, store=store, client=client, progress=False)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        again = trainer.train(sweep, store=store, progress=False)
        reading = time.perf_counter() - start
        size = sum(size for size, _ in store.list_files().values())
    assert (results.n_computed, again.n_computed) == (n, 0)
    return {
        "sweep": f"{n_runs} x {n_epochs}",
        "overhead ms/epoch": 1e3 * (wall - results.computed_seconds) / n,
        "caller's CPU ms/epoch": 1e3 * cpu / n,
        "from the store ms/epoch": 1e3 * reading / n,
        "memory MB at 10 %": memory[n // 10],
        "memory MB at the end": memory[n - 1],
        "store MB/epoch": size / n / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1 for a thousand runs of one epoch, less for a look")
    scale = parser.parse_args().scale
    problem = make_problem()
    with (
        mock.patch.object(plan, "load_problem", lambda name: problem),
        mock.patch.object(engine, "load_problem", lambda name: problem),
        cluster.open_client(1) as client,
    ):
        measure(2, 2, client)  # what is done once
        rows = [measure(max(10, round(a * scale)), b, client) for a, b in ((1000, 1), (10, max(1, round(100 * scale))))]
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" + "|--:" * (len(rows[0]) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(v if isinstance(v, str) else f"{v:.2f}" for v in row.values()) + " |")


if __name__ == "__main__":
    main()
