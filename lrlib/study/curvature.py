"""critical_lr of a problem's model as training starts, kept in the store, since it takes seconds and never changes."""

import hashlib
import json
import math
from functools import lru_cache

import torch

from lrlib.finder.critical import critical_lr
from lrlib.problems.problem import Data
from lrlib.problems.registry import load_problem
from lrlib.project import store_folder
from lrlib.runs.plan import Run
from lrlib.runs.store import Artefact, Store
from lrlib.training.epoch import epoch_order, initial_state, load_model
from lrlib.training.optimizers import build_optimizer
from lrlib.training.registry import describe_numerics

N_BATCHES = 2


def find_critical_lr(run: Run, *, store: Store | None = None) -> float:
    """The rate at which the first step of a run raises the loss on its first two batches; NaN where none can be found.

    Only the run's problem, optimizer, batch size, weight decay and seed are looked at.
    """
    store = store or Store(store_folder())
    problem = load_problem(run.problem)
    asked = [run.problem, problem.find_data().checksum, run.optimizer, run.batch_size, run.weight_decay, run.seed]
    described = json.dumps([*asked, N_BATCHES, describe_numerics(problem=run.problem)], sort_keys=True)
    name = hashlib.sha256(f"critical_lr {described}".encode()).hexdigest()
    artefact = store.load(name)
    if artefact is None:
        artefact = Artefact({}, {"critical_lr": _compute(run)})
        store.save(name, artefact)
    return float(artefact.values["critical_lr"])


def _compute(run: Run) -> float:
    assert run.optimizer and run.batch_size and run.momentum is not None and run.weight_decay is not None
    problem = load_problem(run.problem)
    data = _load_data(run.problem)
    inputs, targets = data.train
    model = load_model(initial_state(run.seed, run.problem, data), run.problem).train()
    order = epoch_order(run.seed, 1, len(inputs), N_BATCHES * run.batch_size)
    batches = [(inputs[part], targets[part]) for part in order.split(run.batch_size)]
    settings = {"lr": 1e-3, "momentum": run.momentum, "weight_decay": run.weight_decay}
    optimizer = build_optimizer(run.optimizer, list(model.parameters()), **settings)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            found = critical_lr(model, optimizer, lambda outputs, right: problem.losses(outputs, right).mean(), batches)
    except ValueError:  # the step goes uphill at every rate
        return math.nan
    return found


@lru_cache(maxsize=1)
def _load_data(problem: str) -> Data:
    """A problem's data, loaded once for all seeds: what a fine-tuned model was trained on before is kept with them."""
    return load_problem(problem).load_data()
