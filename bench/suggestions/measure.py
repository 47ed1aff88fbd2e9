"""Measure cells: train each for a grid of learning rates, and run range tests on it.

`python -m bench.suggestions.measure trainings --half held-out --seeds 5` appends what is missing to
results/trainings.csv. `... longer` adds the default learning rate for the steps of three sweeps more. `... sweeps`
appends to sweeps.csv and suggestions.csv, `... tuning-free` to tuning_free.csv.
One core; a command that was stopped resumes with the next cell.
"""

import argparse
import csv
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

import lrlib
from bench.suggestions.cells import CONSTANT, FIXED_LR, ONE_CYCLE, Batch, Cell, list_cells
from bench.suggestions.competitors import list_tools
from bench.suggestions.judge import COLUMNS, DEFAULTS, HALVES, OURS, PURPOSES, REFINED, RESULTS
from lrlib.finder.settings import Settings
from lrlib.schedules import OneCycle, lr_per_step

# Steps after which the losses are written down: those of successive halving, and the budgets.
CHECKPOINTS = (25, 50, 100, 200, 300, 400, 800, 1300, 1600)
CYCLE_STEPS = 400
FIRST_SWEEP_SEED = 100  # range tests and the trainings that judge them have seeds apart
SWEEP_STEPS = 300
Floats = npt.NDArray[np.float64]


def draw_batches(cell: Cell, seed: int) -> Iterator[Batch]:
    """The training batches of a seed, without end."""
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1))
    while True:
        yield cell.draw(generator)


def train_many(
    cell: Cell, lrs: Sequence[float], seeds: Sequence[int], steps: int, schedule: str = CONSTANT
) -> dict[int, tuple[Floats, Floats]]:
    """Train a cell with every learning rate and seed at once.

    Args:
        cell: What is trained.
        lrs: Learning rates, or peaks of one cycle.
        seeds: Of the start and the batches; all learning rates of a seed share both.
        steps: Updates.
        schedule: "constant", or "one cycle": PyTorch's OneCycleLR, which also cycles momentum unless it is 0.

    Returns:
        steps -> (train loss, test loss), each (n_lrs, n_seeds), after 0 steps and at each checkpoint. The train loss is
        the mean over the last ten updates. A training that diverged has NaN.
    """
    models = [cell.start(seed) for seed in seeds]
    rates = torch.tensor(lrs, dtype=torch.float32).repeat_interleave(len(seeds))
    model = models[0]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = {
        name: torch.stack([dict(m.named_parameters())[name].detach() for m in models]).repeat(len(lrs), *[1] * p.dim())
        for name, p in trained.items()
    }
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}

    def loss_of(of_one: dict[str, Tensor], *batch: Tensor) -> Tensor:
        return cell.loss(lambda *inputs: functional_call(model, {**of_one, **fixed}, inputs), batch)

    losses_of = vmap(loss_of)
    test = cell.test()
    test_of = vmap(loss_of, in_dims=(0, *[None] * len(test)), chunk_size=16)
    optimizer = Optimizer(cell, rates)
    shape, momenta = _plan(cell, steps, schedule)
    streams = [draw_batches(cell, seed) for seed in seeds]
    found: dict[int, tuple[Floats, Floats]] = {}
    recent: list[Floats] = []

    def write(step: int) -> None:
        with torch.no_grad():
            tested = test_of(parameters, *test).double().numpy().reshape(len(lrs), len(seeds))
        trained_loss = np.mean(recent[-10:], axis=0) if recent else np.full_like(tested, np.nan)
        found[step] = (trained_loss, np.where(np.isfinite(tested), tested, np.nan))

    write(0)
    for step in range(1, steps + 1):
        batch = [
            torch.stack(part).repeat(len(lrs), *[1] * part[0].dim()) for part in zip(*map(next, streams), strict=True)
        ]
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        losses = losses_of(parameters, *batch)
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        parameters = {name: p.detach() for name, p in parameters.items()}
        recent.append(losses.detach().double().numpy().reshape(len(lrs), len(seeds)))
        optimizer.step(parameters, dict(zip(parameters, gradients, strict=True)), shape[step - 1], momenta[step - 1])
        if step in CHECKPOINTS or step == steps:
            write(step)
    return found


def _plan(cell: Cell, steps: int, schedule: str) -> tuple[Floats, Floats]:
    """The learning rate over the peak, and the momentum or first beta, of each step."""
    momentum = cell.settings.get("momentum", 0.0) if cell.optimizer == "sgd" else cell.settings.get("betas", (0.9,))[0]
    if schedule == CONSTANT:
        return np.ones(steps), np.full(steps, momentum)
    cycle = OneCycle(1.0, cycle_momentum=momentum > 0)  # as RangeTestResult.one_cycle has it
    return lr_per_step(cycle, epochs=1, steps_per_epoch=steps, momentum=momentum)


class Optimizer:
    """torch's SGD, Adam and AdamW for stacked parameters (N, ...), each of N with its own learning rate."""

    def __init__(self, cell: Cell, rates: Tensor) -> None:
        self.cell, self.rates, self.n = cell, rates, 0
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self.decay = cell.settings.get("weight_decay", 0.01 if cell.optimizer == "adamw" else 0.0)

    def step(self, parameters: dict[str, Tensor], gradients: dict[str, Any], shape: float, momentum: float) -> None:
        """Update parameters in place. shape: what the learning rates are multiplied by."""
        self.n += 1
        for name, p in parameters.items():
            g = gradients[name]
            lr = self.rates * shape * self.cell.factor(name)
            if self.cell.fixed and name.startswith(self.cell.fixed):
                lr = torch.full_like(self.rates, FIXED_LR[self.cell.optimizer])
            lr = lr.view(-1, *[1] * (p.dim() - 1))
            if self.cell.optimizer == "sgd":
                self._sgd(name, p, g, lr, momentum)
            else:
                self._adam(name, p, g, lr, momentum)

    def _sgd(self, name: str, p: Tensor, g: Tensor, lr: Tensor, momentum: float) -> None:
        if self.decay:
            g = g + self.decay * p
        if momentum:
            self.first[name] = g = self.first[name].mul_(momentum).add_(g) if name in self.first else g.clone()
        p.sub_(lr * g)

    def _adam(self, name: str, p: Tensor, g: Tensor, lr: Tensor, beta1: float) -> None:
        beta2 = self.cell.settings.get("betas", (0.9, 0.999))[1]
        if self.cell.optimizer == "adamw":
            p.mul_(1 - lr * self.decay)
        elif self.decay:
            g = g + self.decay * p
        if name not in self.first:
            self.first[name], self.second[name] = torch.zeros_like(p), torch.zeros_like(p)
        m = self.first[name].lerp_(g, 1 - beta1)
        v = self.second[name].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        size = (v.sqrt() / (1 - beta2**self.n) ** 0.5).add_(1e-8)
        p.sub_(lr / (1 - beta1**self.n) * (m / size))


def sweep(cell: Cell, seed: int, **settings: Any) -> lrlib.RangeTestResult:
    """Run `lrlib.range_test` on a cell, from the start of a seed."""
    model = cell.start(seed)
    optimizer, second = cell.make_optimizer(model, 1e-3), cell.make_second_optimizer(model)

    def step_fn(batch: Batch) -> Tensor:
        if second is not None:
            second.zero_grad()
        return cell.loss(model, batch)

    if second is not None:
        optimizer.register_step_post_hook(lambda *_: second.step())
    batches = cell.batches(settings.get("num_iter", SWEEP_STEPS))
    return lrlib.range_test(
        model, optimizer, None, batches, step_fn=step_fn, seed=1000 * seed, progress=False, **settings
    )


def train_plainly(
    cell: Cell, lr: float, seed: int, checkpoints: Sequence[int], make_optimizer: Any = None
) -> tuple[list[float], dict[int, float]]:
    """Train a cell with torch's own optimizer, or another one: the reference of `train_many`.

    Args:
        cell, lr, seed: What is trained, its learning rate, and the seed of its start and batches.
        checkpoints: Steps after which it is tested; the last one ends the training.
        make_optimizer: A function of the model that returns an optimizer, in place of the cell's own.

    Returns:
        The losses of all steps, and steps -> test loss.
    """
    model, losses, tested = cell.start(seed), [], {}
    optimizer = make_optimizer(model) if make_optimizer else cell.make_optimizer(model, lr)
    second = cell.make_second_optimizer(model)
    for step, batch in zip(range(1, checkpoints[-1] + 1), draw_batches(cell, seed), strict=False):
        _switch(optimizer, "train")
        optimizer.zero_grad()
        if second is not None:
            second.zero_grad()
        loss = cell.loss(model, batch)
        loss.backward()
        optimizer.step()
        if second is not None:
            second.step()
        losses.append(loss.item())
        if step in checkpoints:
            _switch(optimizer, "eval")
            with torch.no_grad():
                tested[step] = cell.loss(model, cell.test()).item()
    return losses, tested


def _switch(optimizer: Any, mode: str) -> None:
    """Call train() or eval() of a schedule-free optimizer."""
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


def measure_trainings(cells: Sequence[Cell], n_seeds: int, steps: int, path: Path) -> None:
    """Append to a CSV file what it lacks of the trainings of these cells, a row per training and checkpoint."""
    have = {(row["cell"], row["schedule"], int(row["seed"]), int(row["steps"])) for row in _read(path)}
    for cell, schedule in ((cell, schedule) for cell in cells for schedule in (CONSTANT, ONE_CYCLE)):
        length = steps if schedule == CONSTANT else CYCLE_STEPS
        seeds = [seed for seed in range(n_seeds) if (cell.name, schedule, seed, length) not in have]
        if not seeds:
            continue
        began, lrs = time.process_time(), cell.grid(schedule)
        found = train_many(cell, lrs, seeds, length, schedule)
        rows = [
            (cell.name, schedule, f"{lr:.6g}", seed, step, *(f"{loss[i, j]:.6g}" for loss in losses))
            for step, losses in found.items()
            for i, lr in enumerate(lrs)
            for j, seed in enumerate(seeds)
            if (schedule == CONSTANT or step in (0, length)) and (cell.name, schedule, seed, step) not in have
        ]
        _append(path, COLUMNS["trainings"], rows)
        print(f"{cell.name}, {schedule}: {time.process_time() - began:.0f} s", flush=True)


def measure_longer(cells: Sequence[Cell], n_seeds: int, path: Path) -> None:
    """Append to a CSV file what it lacks of the default learning rates, trained for the steps of three sweeps more."""
    steps = 400 + 3 * SWEEP_STEPS
    have = {(row["cell"], int(row["seed"])) for row in _read(path) if int(row["steps"]) == steps}
    for cell in cells:
        seeds = [seed for seed in range(n_seeds) if (cell.name, seed) not in have]
        if not seeds:
            continue
        losses = train_many(cell, [DEFAULTS[cell.family]], seeds, steps)[steps]
        rows = [
            (
                cell.name,
                CONSTANT,
                f"{DEFAULTS[cell.family]:.6g}",
                seed,
                steps,
                *(f"{loss[0, j]:.6g}" for loss in losses),
            )
            for j, seed in enumerate(seeds)
        ]
        _append(path, COLUMNS["trainings"], rows)
        print(f"{cell.name}, {steps} steps", flush=True)


def measure_sweeps(cells: Sequence[Cell], n_seeds: int, folder: Path) -> None:
    """Add to a folder's sweeps.csv and suggestions.csv what they lack: three sweeps, and one refined, a cell and seed.

    A row of sweeps.csv has the losses of one sweep. A row of suggestions.csv has what one rule suggests for one
    purpose or, where schedule is empty, for all; other tools read the first sweep alone, as their users do.
    """
    have = {(row["cell"], int(row["seed"])) for row in _read(folder / "suggestions.csv")}
    for cell, seed in ((cell, seed) for cell in cells for seed in range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + n_seeds)):
        if (cell.name, seed) in have:
            continue
        began, result = time.process_time(), sweep(cell, seed)
        losses = [[f"{loss:.6g}" for loss in made.loss] for made in result.sweeps]
        lrs = [f"{lr:.6g}" for lr in np.geomspace(Settings.start_lr, Settings.end_lr, SWEEP_STEPS)]
        padded = [row + [""] * (SWEEP_STEPS - len(row)) for row in losses]
        _append(
            folder / "sweeps.csv",
            ("cell", "seed", "sweep", *lrs),
            [(cell.name, seed, i, *row) for i, row in enumerate(padded)],
        )
        rows = [(cell.name, seed, *row) for row in read_rules(result) + advise(OURS, result)]
        rows += [(cell.name, seed, *row) for row in advise(REFINED, sweep(cell, seed, refine=True))]
        _append(folder / "suggestions.csv", COLUMNS["suggestions"], rows)
        print(f"{cell.name}, seed {seed}: {time.process_time() - began:.0f} s", flush=True)


def advise(rule: str, result: lrlib.RangeTestResult) -> list[tuple[Any, ...]]:
    """What lrlib suggests for each purpose: the learning rate, or the peak of the cycle."""
    rows = []
    for schedule, steps in PURPOSES.values():
        found = result.suggest(total_steps=steps)
        lr = found.lr if schedule == CONSTANT else found.upper
        steps_spent = sum(len(made.loss) for made in (*result.sweeps, *result.holds))
        rows.append((rule, schedule, steps, f"{lr:.6g}", steps_spent, found.confidence, found.spread_decades))
    return rows


def read_rules(result: lrlib.RangeTestResult) -> list[tuple[Any, ...]]:
    """What lrlib's other rules read off three sweeps, and other tools off the first."""
    first = result.sweeps[0]
    rows: list[tuple[Any, ...]] = []
    for rule in ("valley", "steepest", "minimum_over_ten", "smith_bounds"):
        found = result.suggest(rule)
        rows.append((rule, "", "", f"{found.lr:.6g}", 3 * SWEEP_STEPS, found.confidence, found.spread_decades))
    for tool, read in list_tools().items():
        lr = read(first.lr, first.loss)
        rows.append((tool, "", "", "" if lr is None else f"{lr:.6g}", SWEEP_STEPS, "", ""))
    return rows


def measure_tuning_free(cells: Sequence[Cell], n_seeds: int, path: Path) -> None:
    """Append to a CSV file what it lacks of trainings with optimizers that need no schedule or no learning rate.

    They train for as long as the shortest purpose, and for the steps of three sweeps more.
    """
    have = {(row["cell"], int(row["seed"])) for row in _read(path)}
    for cell, seed in ((cell, seed) for cell in cells for seed in range(n_seeds)):
        if (cell.name, seed) in have:
            continue
        rows = []
        for rule, make in TUNING_FREE.items():
            _, tested = train_plainly(cell, math.nan, seed, (400, 400 + 3 * SWEEP_STEPS), make)
            rows += [(cell.name, seed, rule, steps, f"{loss:.6g}") for steps, loss in tested.items()]
        _append(path, COLUMNS["tuning_free"], rows)
        print(f"{cell.name}, seed {seed}: {', '.join(TUNING_FREE)}", flush=True)


def _schedule_free(model: nn.Module) -> torch.optim.Optimizer:
    from schedulefree import AdamWScheduleFree

    return AdamWScheduleFree([p for p in model.parameters() if p.requires_grad])


def _prodigy(model: nn.Module) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    return Prodigy([p for p in model.parameters() if p.requires_grad])


TUNING_FREE = {"schedule-free AdamW": _schedule_free, "Prodigy": _prodigy}


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows] if is_new else rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("trainings", "longer", "sweeps", "tuning-free"))
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--cells", help="a regular expression that their names contain")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400, help="of the constant learning rates: 400 or 1600")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cells = [cell for cell in list_cells(given.half) if re.search(given.cells or "", cell.name)]
    if given.what == "trainings":
        measure_trainings(cells, given.seeds, given.steps, RESULTS / "trainings.csv")
    elif given.what == "longer":
        measure_longer(cells, given.seeds, RESULTS / "trainings.csv")
    elif given.what == "sweeps":
        measure_sweeps(cells, given.seeds, RESULTS)
    else:
        measure_tuning_free(cells, given.seeds, RESULTS / "tuning_free.csv")


if __name__ == "__main__":
    main()
