"""Range tests that another tool has run, or that lie in a file, as results of lrlib."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrlib.finder.result import RangeTestResult, Settings, Sweep
from lrlib.peers.undoing import undo_corrected_mean, undo_running_mean

SMOOTH_F = 0.05  # of torch-lr-finder, MONAI and ignite, which do not keep the one that was given
BETA = 0.98  # of fastai, which keeps it, and Lightning, where it is fixed
READABLE = (
    "a finder of torch-lr-finder, Lightning, fastai, ignite or MONAI, arrays lr and loss, a table with the columns lr "
    "and loss, or a file with them"
)


@dataclass(frozen=True)
class _History:
    """What there is to read. mean: "running", "corrected" or None, the kind of mean that its losses are."""

    source: str
    lr: Any
    loss: Any
    mean: str | None = None
    weight: float = 0.0
    first_step: int = 1
    optimizer: Any = None
    versions: Mapping[str, str] | None = None
    from_a_tool: bool = True


def read(
    history: object,
    loss: ArrayLike | None = None,
    *,
    smooth_f: float | None = None,
    beta: float | None = None,
    first_step: int | None = None,
) -> RangeTestResult:
    """A range test that was run elsewhere, as a RangeTestResult of one sweep with raw losses.

    history: a finder after its sweep: torch-lr-finder's LRFinder, Lightning's (what Tuner.lr_find returns, or the
        callback LearningRateFinder), a fastai Learner or its Recorder after lr_find, ignite's FastaiLRFinder, MONAI's
        LearningRateFinder; or rates, with their losses in `loss` or as a pair (lr, loss); or a DataFrame or a mapping
        with lr and loss; or the path of a CSV file with columns lr and loss, or of a file that save() wrote.

    The finders keep running means of the losses; these are undone exactly (lrlib.peers.undoing has the recursions):
    smooth_f: the newest loss's weight, as it was given to torch-lr-finder, MONAI or ignite; else theirs, 0.05.
    beta: the older losses' weight in a mean that is corrected for its start: fastai's, which is kept, or Lightning's
        0.98, unless told. first_step: the exponent at its first loss: 1 for fastai, 2 for Lightning from the start of
        training; Lightning's, run at step g of training, has g + 2.
    Arrays, tables and files count as raw unless smooth_f or beta says that they are means.

    Returns one sweep, whose settings say what the history shows. Raises TypeError for what cannot be read, ValueError
    for a history that is empty, whose rates are not positive and increasing, or whose lr and loss differ in length.
    """
    if smooth_f is not None and (beta is not None or first_step is not None):
        raise ValueError(
            f"smooth_f and beta are of different means, got {smooth_f} and {beta} (first_step {first_step}); give "
            "smooth_f for torch-lr-finder, MONAI or ignite, beta and first_step for fastai or Lightning"
        )
    result = _result_of(history)
    if result is None:
        found = _find(history, loss)
        result = _to_result(_with_mean(found, smooth_f, beta, first_step))
    elif loss is not None or (smooth_f, beta, first_step) != (None, None, None):
        raise ValueError("a result of lrlib's own holds raw losses, got a mean to undo besides; give the result alone")
    return result


def together(results: Iterable[RangeTestResult]) -> RangeTestResult:
    """The sweeps of several results as one, with the settings of the first. Raises ValueError if there is none."""
    results = list(results)
    if not results:
        raise ValueError("there must be at least one range test, got none; name a file")
    sweeps = tuple(sweep for result in results for sweep in result.sweeps)
    longest = max((result.settings for result in results), key=lambda settings: settings.num_iter)
    return replace(results[0], sweeps=sweeps, settings=replace(results[0].settings, num_iter=longest.num_iter))


def _result_of(history: object) -> RangeTestResult | None:
    """lrlib's own result, where history is one, holds one, or is a file of one."""
    if isinstance(history, RangeTestResult):
        return history
    own = getattr(history, "result", None)
    if isinstance(own, RangeTestResult):  # history is a finder of lrlib.peers
        return own
    if isinstance(history, (str, PathLike)):
        path = Path(history)
        if _text_of(path).startswith("# {") or path.suffix.lower() == ".json":
            return RangeTestResult.load(path)
    return None


def _find(history: Any, loss: Any) -> _History:
    if loss is not None:
        return _History("two arrays", history, loss, from_a_tool=False)
    if isinstance(history, (str, PathLike)):
        return _of_csv(Path(history))
    kinds = {(base.__module__.partition(".")[0], base.__name__) for base in type(history).__mro__}
    for kind, find in _TOOLS.items():
        if kind in kinds:
            return find(history)
    if hasattr(history, "columns") or isinstance(history, Mapping):
        names = list(history.columns if hasattr(history, "columns") else history)
        lr, loss = (history[_column(name, names, "the table")] for name in ("lr", "loss"))
        return _History("a table", lr, loss, from_a_tool=False)
    if isinstance(history, (tuple, list)) and len(history) == 2 and not isinstance(history[0], (str, PathLike)):
        lr, loss = history
        return _History("two arrays", lr, loss, from_a_tool=False)
    raise TypeError(f"the history must be {READABLE}, got a {type(history).__name__}; give the finder after its sweep")


def _of_torch_lr_finder(finder: Any) -> _History:
    return _running("torch-lr-finder", finder.history, finder.optimizer)


def _of_monai(finder: Any) -> _History:
    return _running("monai", finder.history, finder.optimizer)


def _of_ignite(finder: Any) -> _History:
    optimizer = getattr(getattr(finder, "_lr_schedule", None), "optimizer", None)
    if isinstance(optimizer, list):  # a schedule for each parameter group, of one optimizer
        optimizer = optimizer[0]
    return _running("pytorch-ignite", finder.get_results() or {"lr": [], "loss": []}, optimizer)


def _running(tool: str, kept: Mapping[str, Any], optimizer: Any) -> _History:
    return _History(
        f"{tool}'s history",
        kept["lr"],
        kept["loss"],
        "running",
        SMOOTH_F,
        optimizer=optimizer,
        versions=_version_of(tool),
    )


def _of_lightning(finder: Any) -> _History:
    finder = getattr(finder, "optimal_lr", finder)  # the callback keeps it there, None before the sweep
    kept = getattr(finder, "results", None) or {"lr": [], "loss": []}
    return _History(
        "Lightning's history",
        kept["lr"],
        kept["loss"],
        "corrected",
        BETA,
        first_step=2,
        versions=_version_of("lightning"),
    )


def _of_fastai(learner: Any) -> _History:
    recorder = getattr(learner, "recorder", learner)
    optimizer = getattr(getattr(learner, "opt", None), "param_lists", None) and learner.opt
    return _History(
        "fastai's history",
        getattr(recorder, "lrs", []),
        getattr(recorder, "losses", []),
        "corrected",
        recorder.smooth_loss.beta,
        optimizer=optimizer,
        versions=_version_of("fastai"),
    )


# By the package and the name of a class among the bases of what is given: nothing is imported to know it.
_TOOLS = {
    ("torch_lr_finder", "LRFinder"): _of_torch_lr_finder,
    ("monai", "LearningRateFinder"): _of_monai,
    ("ignite", "FastaiLRFinder"): _of_ignite,
    ("lightning", "_LRFinder"): _of_lightning,
    ("lightning", "LearningRateFinder"): _of_lightning,
    ("pytorch_lightning", "_LRFinder"): _of_lightning,
    ("pytorch_lightning", "LearningRateFinder"): _of_lightning,
    ("fastai", "Learner"): _of_fastai,
    ("fastai", "Recorder"): _of_fastai,
}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be text in UTF-8, got something else; save it as CSV in UTF-8") from None


def _of_csv(path: Path) -> _History:
    lines = [line for line in _text_of(path).splitlines() if line.strip() and not line.startswith("#")]
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=delimiter))
    names = rows[0] if rows else []
    lr, loss = (_numbers_of_column(name, names, rows[1:], path) for name in ("lr", "loss"))
    return _History(str(path), lr, loss, from_a_tool=False)


def _numbers_of_column(name: str, names: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> list[float]:
    place = names.index(_column(name, names, path))
    return [_number(row[place] if place < len(row) else "", name, n, path) for n, row in enumerate(rows, 1)]


def _column(name: str, names: Sequence[Any], where: object) -> Any:
    """The one of names that is this name, in whatever case and with whatever space around it."""
    found = [each for each in names if str(each).strip().lower() == name]
    if len(found) != 1:
        raise ValueError(
            f"{where} must have one column {name}, got {', '.join(map(str, names)) or 'none'}; name the rates lr and "
            "the losses loss"
        )
    return found[0]


def _number(cell: str, name: str, row: int, path: Path) -> float:
    """A cell's number; an empty cell of a loss is NaN, a loss that the step did not have."""
    try:
        return float(cell) if cell.strip() or name == "lr" else np.nan
    except ValueError:
        raise ValueError(
            f"{path} must hold numbers, got {cell!r} as the {name} of row {row}; write them with a point"
        ) from None


def _with_mean(found: _History, smooth_f: float | None, beta: float | None, first_step: int | None) -> _History:
    """The history with what its user says of its mean, if anything, in place of its tool's own."""
    corrected = beta is not None or first_step is not None
    if found.mean == "running" and corrected:
        raise ValueError(f"{found.source} is of a mean with smooth_f, got beta or first_step; give smooth_f")
    if found.mean == "corrected" and smooth_f is not None:
        raise ValueError(f"{found.source} is of a mean with beta, got smooth_f {smooth_f}; give beta or first_step")
    if smooth_f is not None:
        return replace(found, mean="running", weight=smooth_f)
    if corrected:
        own = found.weight if found.mean else BETA
        step = found.first_step if first_step is None else first_step
        return replace(found, mean="corrected", weight=own if beta is None else beta, first_step=step)
    return found


def _to_result(found: _History) -> RangeTestResult:
    rates, loss = _numbers(found.lr), _numbers(found.loss)
    lr, ratios = _first_group(rates)
    _check(found, lr, loss)
    if found.mean == "running":
        loss = undo_running_mean(loss, weight=found.weight)
        undone = f", its running mean (smooth_f = {found.weight:g}) undone"
    elif found.mean == "corrected":
        loss = undo_corrected_mean(loss, beta=found.weight, first_step=found.first_step)
        undone = f", its running mean (beta = {found.weight:g}) undone"
    else:
        undone = ""
    if found.from_a_tool and lr[-1] == lr[-2]:  # fastai takes one step more at its last rate
        lr, loss = lr[:-1], loss[:-1]
    if not (np.isfinite(lr).all() and (lr > 0).all() and (np.diff(lr) > 0).all()):
        raise ValueError(
            f"the rates of {found.source} must be positive and increasing, got a history that is not; give that of a "
            "range test, in its order"
        )
    # After a loss that is not finite nothing is known any more: one of them says so.
    finite = np.flatnonzero(np.isfinite(loss))
    n_steps = min(len(loss), finite[-1] + 2 if len(finite) else 1)
    lr, loss = lr[:n_steps], loss[:n_steps]
    return result_of_sweep(
        lr,
        loss,
        stop_reason=f"read from {found.source}{undone}",
        optimizer=found.optimizer,
        group_ratios=ratios if len(ratios) > 1 else None,
        versions=found.versions,
        step_mode=_step_mode(lr),
    )


def result_of_sweep(
    lr: ArrayLike,
    loss: ArrayLike,
    *,
    stop_reason: str,
    val: ArrayLike = (),
    optimizer: Any = None,
    group_ratios: Sequence[float] | None = None,
    seconds: float | None = None,
    seconds_state: float | None = None,
    versions: Mapping[str, str] | None = None,
    **settings: Any,
) -> RangeTestResult:
    """The result of one sweep that was not run by range_test.

    val: the validation loss after each step, if there was any. group_ratios: 1 for each group unless given.
    settings: those of Settings that are known; what is not given is read off the sweep, or is None.
    """
    lr, loss, val = (np.asarray(values, dtype=np.float64) for values in (lr, loss, val))
    groups = getattr(optimizer, "param_groups", ())
    known = {
        "start_lr": float(lr[0]),
        "end_lr": float(lr[-1]),
        "num_iter": len(lr),
        "smooth_f": None,
        "diverge_th": None,
        "accumulation_steps": 1,
        "max_spread_decades": 0.5,
        "val_metric": "loss" if len(val) else None,
        "val_every": 1,
        "autocast_dtype": None,
        "device": None,
        "optimizer": "an optimizer that is not named" if optimizer is None else type(optimizer).__name__,
        "group_ratios": tuple(group_ratios or [1.0] * max(1, len(groups))),
        "cycles_momentum": any(group.get("momentum") or group.get("betas") for group in groups),
        "fresh_weights": False,
    }
    described = Settings(**{**known, **settings})
    sweep = Sweep(
        seed=None,
        lr=lr,
        loss=loss,
        val_step=np.arange(len(val)),
        val=val,
        val_metric=described.val_metric,
        stop_reason=stop_reason,
        seconds=seconds,
    )
    return RangeTestResult((sweep,), described, dict(versions or {}), seconds_state)


def _numbers(values: Any) -> np.ndarray:
    """float64, also of tensors on any device, and of lists of them or of lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().tolist()
    elif isinstance(values, Iterable) and not hasattr(values, "__array__"):
        values = [_numbers(value) for value in values]
    return np.array(values, dtype=np.float64)


def _first_group(rates: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The rates of the first parameter group, and the groups' ratios to it: 1 where the sweep did not keep them."""
    if rates.ndim != 2 or rates.size == 0:
        return rates, [1.0]
    ratios = rates / rates[:, :1]
    kept = np.allclose(ratios, ratios[0])
    return rates[:, 0], ratios[0].tolist() if kept else [1.0] * rates.shape[1]


def _check(found: _History, lr: np.ndarray, loss: np.ndarray) -> None:
    if lr.ndim != 1 or lr.shape != loss.shape:
        raise ValueError(
            f"lr and loss must be two arrays of shape (n,), got {lr.shape} and {loss.shape} of {found.source}; give "
            "one loss for each lr"
        )
    if len(lr) < 2:
        raise ValueError(
            f"{found.source} must hold at least two steps, got {len(lr)}; run the finder first, or give it more steps"
        )


def _step_mode(lr: np.ndarray) -> str:
    """ "linear" where the steps are more alike on the rate than on its logarithm."""
    steps, ratios = np.diff(lr), np.diff(np.log(lr))
    return "linear" if len(lr) > 2 and np.ptp(steps) / steps.mean() < np.ptp(ratios) / ratios.mean() else "exp"


def _version_of(tool: str) -> dict[str, str]:
    try:
        return {tool: version(tool)}
    except PackageNotFoundError:
        return {}
