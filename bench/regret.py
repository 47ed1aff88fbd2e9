"""How good a range test's suggestion is: its regret against an exhaustive grid, on LeNet-5 and MNIST.

    python bench/regret.py [--epochs 3] [--optimizer sgd]

Written down before it is run: the grid has four learning rates a decade from 1e-4 to 1 and three seeds (0 to 2), each
trained at a constant learning rate; the budgets are 1 and `--epochs` epochs (the one is the other's beginning). Range
tests have seeds of their own (100 to 102), one epoch (469 steps) from 1e-6 to 10. Each rule of `lrlib.suggest`
gets the median over the sweeps, is trained at that very rate with the grid's seeds, and its regret is the
difference of its mean log10 test loss from that of the grid's best rate: 0.1 is a loss 26 % higher. Below zero the
suggestion beat the grid. torch's default rate of the optimizer stands beside them. Runs are kept in the store.

Prints a Markdown table and writes bench/build/regret-OPTIMIZER.json.
"""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import lrlib
from lrlib import suggest
from lrlib.schedules import Constant, Exponential

GRID = [float(lr) for lr in np.logspace(-4, 0, 17)]
SEEDS, SWEEP_SEEDS = range(3), range(100, 103)
RULES = (suggest.suggest_lr, suggest.valley, suggest.steepest, suggest.minimum_over_ten, suggest.smith_bounds)
TORCH = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def suggest_rates(optimizer):
    """Rule -> Suggestion, the medians over the range tests."""
    sweeps = [
        lrlib.Run(Exponential(1e-6, 10.0), epochs=1, seed=seed, optimizer=optimizer, label="sweep") for seed in SWEEP_SEEDS
    ]
    steps = lrlib.train(sweeps).steps
    histories = [(sweep["lr"].to_numpy(), sweep["loss"].to_numpy()) for _, sweep in steps.groupby("seed")]
    return {
        rule.__name__: suggest.combine([rule(*history) for history in histories], max_spread_decades=0.5) for rule in RULES
    }


def measure_losses(lrs, *, optimizer, epochs):
    """Mean log10 test loss over the seeds: a row per lr, a column per epoch; a run that diverged counts as infinite."""
    runs = [
        lrlib.Run(Constant(lr), epochs=epochs, seed=seed, optimizer=optimizer, label=repr(lr))
        for lr in dict.fromkeys(lrs)
        for seed in SEEDS
    ]
    table = lrlib.train(runs).epochs
    table["log_loss"] = np.log10(table["test_loss"].fillna(np.inf))
    return table.pivot_table(index="run", columns="epoch", values="log_loss", dropna=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--optimizer", choices=sorted(TORCH), default="sgd")
    options = parser.parse_args()
    suggestions = suggest_rates(options.optimizer)
    rates = {name: suggestion.lr for name, suggestion in suggestions.items()}
    rates["torch's default"] = inspect.signature(TORCH[options.optimizer]).parameters["lr"].default
    losses = measure_losses([*GRID, *rates.values()], optimizer=options.optimizer, epochs=options.epochs)
    grid = losses.loc[[repr(lr) for lr in GRID]]
    rows = []
    for name, lr in rates.items():
        row = {"rule": name, "lr": lr, "spread_decades": getattr(suggestions.get(name), "spread_decades", None)}
        for epoch in sorted({1, options.epochs}):
            row[f"regret after {epoch}"] = losses.loc[repr(lr), epoch] - grid[epoch].min()
        rows.append(row)
    table = pd.DataFrame(rows)
    columns = [column for column in table if column.startswith("regret")]
    print("| rule | lr | spread, decades | " + " | ".join(columns) + " |\n|---|--:|--:|" + "--:|" * len(columns))
    for row in table.to_dict("records"):
        spread = "" if pd.isna(row["spread_decades"]) else f"{row['spread_decades']:.2f}"
        print(f"| {row['rule']} | {row['lr']:.3g} | {spread} | " + " | ".join(f"{row[c]:+.3f}" for c in columns) + " |")
    for epoch in sorted({1, options.epochs}):
        best = grid[epoch].idxmin()
        print(f"grid's best after {epoch}: lr {float(best):.3g}, test loss {10 ** grid[epoch].min():.4f}")
    build = Path(__file__).parent / "build"
    build.mkdir(exist_ok=True)
    out = build / f"regret-{options.optimizer}.json"
    out.write_text(json.dumps({"settings": vars(options), "rows": rows, "grid": grid.to_dict()}, indent=1))


if __name__ == "__main__":
    main()
