"""Range tests that another tool ran, or that a file holds, as results of lrlib."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lrlib.finder.checks import group_momenta
from lrlib.finder.result import RangeTestResult, Sweep
from lrlib.finder.settings import Settings
from lrlib.peers import tables, undoing
from lrlib.smoothing import Floats

BETA = 0.98  # Lightning's; fastai keeps its own
MEANS = {"running": {"smooth_f"}, "corrected": {"beta", "first_step"}, "epoch": {"epoch_steps"}}  # and their settings


class _History(NamedTuple):
    """kind: "running" or "corrected", the mean that the tool keeps; None: not known."""

    source: str
    lr: Any
    loss: Any
    columns: tuple[str, str] | None = None
    kind: str | None = None
    beta: float = BETA
    first_step: int | None = None
    optimizer: Any = None


def read(
    history: object,
    loss: ArrayLike | None = None,
    *,
    smooth_f: float | None = None,
    beta: float | None = None,
    first_step: int | None = None,
    epoch_steps: int | None = None,
    columns: Sequence[str] | None = None,
) -> RangeTestResult:
    """Return a range test that was run elsewhere as a result of one sweep with raw losses.

    Running means are undone exactly. If a finder does not keep the mean's weight, it is recovered from the losses, or
    an error asks for it.

    Args:
        history: a finder of torch-lr-finder, MONAI, ignite or Lightning, or a fastai Learner, after its sweep; or
            learning rates; or a pair (lr, loss), a DataFrame or a mapping; or the path of a CSV file or of a file that
            save() wrote, or a pair of paths of TensorBoard's CSV files.
        loss: losses, shape (n,), if history holds learning rates.
        smooth_f: weight of the newest loss in torch-lr-finder, MONAI or ignite; 0 if no mean was taken.
        beta: weight of the previous mean in fastai or Lightning.
        first_step: step at which that mean's bias correction starts: 1 for fastai, 2 for Lightning, and g + 2 for
            Lightning's callback at step g of training.
        epoch_steps: steps per epoch, if the losses are Keras's logs["loss"], a mean that restarts every epoch.
        columns: names of the columns (lr, loss) of a table; found by name by default.

    Returns:
        A RangeTestResult whose sweep's stop_reason says what was read and undone. Repeated learning rates are averaged.

    Raises:
        TypeError: history cannot be read.
        ValueError: history is empty, its learning rates do not increase, or a mean is not known.

    Example:
        >>> lrlib.read(finder).suggest()
        >>> lrlib.read("metrics.csv", columns=("lr-Adam", "train/loss_step")).suggest()
    """
    means = {"smooth_f": smooth_f, "beta": beta, "first_step": first_step, "epoch_steps": epoch_steps}
    given = {name: value for name, value in means.items() if value is not None}
    if given and not any(set(given) <= names for names in MEANS.values()):
        raise ValueError(f"pass smooth_f, epoch_steps, or beta and first_step, got {' and '.join(given)}")
    result = getattr(history, "result", history)
    if isinstance(history, (str, PathLike)) and Path(history).suffix.lower() == ".json":
        result = RangeTestResult.load(history)
    if isinstance(result, RangeTestResult):
        if loss is not None or given:
            raise ValueError(f"{', '.join(given) or 'loss'} does not apply to a result of lrlib; pass the result alone")
        return result
    found = _find(history, loss, columns)
    rates, losses = _numbers(found.lr), _numbers(found.loss)
    lr, ratios = rates, np.ones(1)
    if rates.ndim == 2 and rates.size:  # of several parameter groups; ratios are 1 if the sweep changed them
        lr, all_ratios = rates[:, 0], rates / rates[:, :1]
        ratios = all_ratios[0] if np.allclose(all_ratios, all_ratios[0]) else np.ones(rates.shape[1])
    if lr.ndim != 1 or lr.shape != losses.shape:
        raise ValueError(f"{found.source} must have one loss per learning rate, got shapes {lr.shape}, {losses.shape}")
    if len(lr) < 2:
        raise ValueError(f"{found.source} must hold at least two steps, got {len(lr)}; run the finder first")
    losses, undone = _undo(found, losses, given)
    lr, losses, n_repeated = _one_loss_a_rate(found.source, lr, losses)
    notes = [f"read from {found.source}"]
    notes += [f"learning rates from {found.columns[0]}, losses from {found.columns[1]}"] if found.columns else []
    notes += [f"{n_repeated} repeated learning rates averaged"] if n_repeated else []
    notes += [undone] if undone else []
    kind, momentum = Settings.optimizer, (0.0,) * len(ratios)
    if found.optimizer is not None:
        kind, momentum = type(found.optimizer).__name__, group_momenta(found.optimizer)
    ratios = ratios if len(ratios) > 1 else np.ones(len(momentum))
    settings = Settings(float(lr[0]), float(lr[-1]), num_iter=len(lr), repeats=1, diverge_th=None)
    settings = replace(settings, optimizer=kind, group_ratios=tuple(ratios.tolist()), momentum=momentum)
    none: Any = np.empty(0)
    return RangeTestResult((Sweep(None, lr, losses, none, none, None, "; ".join(notes)),), settings, {})


def together(results: Sequence[RangeTestResult]) -> RangeTestResult:
    """Return the sweeps of several results as one result, with the settings of the first."""
    sweeps = tuple(sweep for result in results for sweep in result.sweeps)
    longest = max(result.settings.num_iter for result in results)
    return replace(results[0], sweeps=sweeps, settings=replace(results[0].settings, num_iter=longest))


def _find(history: Any, loss: Any, columns: Sequence[str] | None) -> _History:
    if loss is not None:
        return _History("two arrays", history, loss)
    for base in type(history).__mro__:  # no tool is imported
        find = _TOOLS.get(base.__module__.partition(".")[0])
        if find is not None and base.__name__ in FINDERS:
            return find(history)
    if isinstance(history, (str, PathLike)):
        return _History(str(history), *tables.read_csv(Path(history), columns))
    if hasattr(history, "columns") or isinstance(history, Mapping):
        return _History("a table", *tables.read_table(history, columns))
    if not isinstance(history, (tuple, list)) or len(history) != 2:
        raise TypeError(f"history must be a finder, two arrays, a table or a path, got {type(history).__name__}")
    if all(isinstance(part, (str, PathLike)) for part in history):
        return _History("TensorBoard", *tables.read_tensorboard([Path(part) for part in history]))
    return _History("two arrays", *history)


def _of_torch_lr_finder(finder: Any) -> _History:
    lr, loss = finder.history["lr"], finder.history["loss"]
    return _History(f"{type(finder).__name__}'s history", lr, loss, kind="running", optimizer=finder.optimizer)


def _of_ignite(finder: Any) -> _History:
    optimizer = getattr(getattr(finder, "_lr_schedule", None), "optimizer", None)
    if isinstance(optimizer, list):  # a schedule for each parameter group, of one optimizer
        optimizer = optimizer[0]
    kept = finder.get_results() or {"lr": [], "loss": []}
    return _History("ignite's history", kept["lr"], kept["loss"], kind="running", optimizer=optimizer)


def _of_lightning(finder: Any) -> _History:
    finder = getattr(finder, "optimal_lr", finder)  # the callback keeps it there, None before the sweep
    kept = getattr(finder, "results", None) or {"lr": [], "loss": []}
    # Lightning counts the batches of the training: more than the sweep's if it began later.
    from_the_start = getattr(finder, "_total_batch_idx", 0) < len(kept["lr"])
    first_step = undoing.find_first_step(_numbers(kept["loss"]), beta=BETA) or (2 if from_the_start else None)
    return _History("Lightning's history", kept["lr"], kept["loss"], kind="corrected", first_step=first_step)


def _of_fastai(learner: Any) -> _History:
    recorder = getattr(learner, "recorder", learner)
    lr, loss = list(getattr(recorder, "lrs", [])), list(getattr(recorder, "losses", []))
    if len(lr) > 1 and lr[-1] == lr[-2]:  # fastai takes one step more at its last learning rate
        lr, loss = lr[:-1], loss[:-1]
    mean: Any = {"kind": "corrected", "beta": recorder.smooth_loss.beta, "first_step": 1}
    return _History("fastai's history", lr, loss, optimizer=getattr(learner, "opt", None), **mean)


FINDERS = {"LRFinder", "LearningRateFinder", "FastaiLRFinder", "_LRFinder", "Learner", "Recorder"}
_TOOLS: dict[str, Callable[[Any], _History]] = {
    **dict.fromkeys(("torch_lr_finder", "monai"), _of_torch_lr_finder),
    **dict.fromkeys(("lightning", "pytorch_lightning"), _of_lightning),
    "ignite": _of_ignite,
    "fastai": _of_fastai,
}


def _undo(found: _History, loss: Floats, given: Mapping[str, Any]) -> tuple[Floats, str]:
    """The raw losses, and in words what was undone: as given, else as the tool keeps it or the losses show it."""
    kind = next((kind for kind, names in MEANS.items() if names & set(given)), found.kind)
    if found.kind not in (None, kind):
        raise ValueError(f"{found.source} is a mean of another kind; {', '.join(given)} does not apply to it")
    smooth_f, first_step = given.get("smooth_f"), given.get("first_step", found.first_step)
    beta, epoch_steps = given.get("beta", found.beta), given.get("epoch_steps")
    if kind in (None, "running") and smooth_f is None:
        smooth_f = undoing.find_smooth_f(loss)
    if kind is None and not smooth_f:
        first_step = undoing.find_first_step(loss, beta=BETA)
    if epoch_steps is not None:
        return undoing.undo_epoch_mean(loss, epoch_steps=epoch_steps), f"mean over epochs of {epoch_steps} steps undone"
    if kind == "running" or smooth_f:
        if smooth_f is None:
            raise ValueError(f"{found.source} does not show its smooth_f; pass smooth_f as the finder got it")
        return undoing.undo_running_mean(loss, smooth_f=smooth_f), f"running mean (smooth_f={smooth_f:g}) undone"
    if kind == "corrected" or first_step:
        if first_step is None:
            raise ValueError(f"{found.source} does not show where its mean starts; pass first_step (see lrlib.read)")
        losses = undoing.undo_corrected_mean(loss, beta=beta, first_step=first_step)
        return losses, f"running mean (beta={beta:g}, first_step={first_step}) undone"
    if found.columns and (steps := undoing.find_epoch_steps(loss)):
        looks = f'{found.source} looks like Keras\'s logs["loss"], a mean that restarts about every {steps} steps'
        raise ValueError(f"{looks}; pass epoch_steps, or log the loss of each batch")
    return loss, ""


def _one_loss_a_rate(source: str, lr: Floats, loss: Floats) -> tuple[Floats, Floats, int]:
    """lr and loss with one step for each learning rate, up to the first of the last losses that are not finite."""
    if not tables.rises(lr):
        raise ValueError(f"learning rates must be positive and increase, got others in {source}; pass a range test")
    rates, first, counts = np.unique(lr, return_index=True, return_counts=True)
    loss = np.add.reduceat(loss, first) / counts
    finite = np.flatnonzero(np.isfinite(loss))
    n_steps = min(len(loss), finite[-1] + 2 if len(finite) else 1)
    return rates[:n_steps], loss[:n_steps], len(lr) - len(rates)


def _numbers(values: Any) -> Floats:
    """float64, also of tensors on any device, and of iterables of them or of iterables."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    elif isinstance(values, Iterable):
        values = [_numbers(value) for value in values]
    return np.array(values, dtype=np.float64)
