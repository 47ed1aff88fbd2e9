"""The learning rates and losses of a table: a CSV file as loggers export it, a DataFrame or a mapping."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrlib.smoothing import Floats

# lr and loss, float64, shape (n,), NaN for a loss that is missing, and the names of their columns.
Columns = tuple[Floats, Floats, tuple[str, str]]
SCALAR = {"Step", "Value"}  # columns of TensorBoard's files
MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}
LR = r"(?<![a-z])(lr|learning[ _]?rate)(?![a-z])"
LOSS = r"(?<![a-z])loss(?![a-z])"
NOT_TRAINING = r"(?<![a-z])(val|valid|validation|eval|evaluation|test|dev)(?![a-z])|__(min|max)$"


def read_csv(path: Path, columns: Sequence[str] | None = None) -> Columns:
    """Return the history of a CSV file; columns: the names of (lr, loss), found by name if not given."""
    names, rows, is_comma_decimal = _parse(path)
    if columns is None and set(names) >= SCALAR:
        raise ValueError(f"{path} holds one scalar of TensorBoard; pass the exported files of both lr and loss")

    def numbers(name: str) -> Floats:
        place, found = names.index(name), []
        for n, row in enumerate(rows, 1):
            cell = row[place].strip() if place < len(row) else ""
            try:
                found.append(_number(cell, is_comma_decimal))
            except ValueError:
                raise ValueError(f"{path} must hold numbers, got {cell!r} in row {n} of column {name}") from None
        return np.array(found)

    return _history(path, names, numbers, columns)


def read_tensorboard(paths: Sequence[Path]) -> Columns:
    """Return the history of two scalars that TensorBoard exported, of which one is the learning rate."""
    histories = [read_csv(path, ("Step", "Value"))[:2] for path in paths]
    rising = [i for i, (_, values) in enumerate(histories) if rises(values)]
    if len(rising) != 1:
        raise ValueError(f"one of {paths[0]} and {paths[1]} must hold rising learning rates, got {len(rising)}")
    order = (rising[0], 1 - rising[0])
    rates, losses = (dict(zip(*(column.tolist() for column in histories[i]), strict=True)) for i in order)
    shared = [step for step in losses if step in rates]
    lr, loss = (np.array([scalar[step] for step in shared]) for scalar in (rates, losses))
    return lr, loss, (paths[order[0]].name, paths[order[1]].name)


def is_tensorboard(path: Path) -> bool:
    """Whether a file is a scalar that TensorBoard exported: Wall time, Step, Value."""
    return set(_parse(path)[0]) >= SCALAR


def read_table(table: Any, columns: Sequence[str] | None = None) -> Columns:
    """Return the history of a DataFrame or a mapping from column names to numbers."""
    names = [str(name) for name in (table if isinstance(table, Mapping) else table.columns)]
    return _history("the table", names, lambda name: np.array(table[name], dtype=np.float64), columns)


def _history(
    where: object, names: Sequence[str], numbers: Callable[[str], Floats], columns: Sequence[str] | None
) -> Columns:
    if columns is None:
        columns = _choose(where, names, "learning rate", _lr_rank), _choose(where, names, "loss", _loss_rank)
    for name in columns:
        if names.count(name) != 1:
            raise ValueError(f"{where} must have one column {name!r}, got {', '.join(names) or 'none'}")
    lr, loss = (numbers(name) for name in columns)
    if not (~np.isnan(lr) & ~np.isnan(loss)).any():  # lr and loss were logged in rows of their own
        step = [name for name in names if name.strip(" _").lower() in ("step", "global_step", "trainer/global_step")]
        lr = _lr_of_losses(lr, loss, numbers(step[0]) if step else None)
    row_has_both = ~np.isnan(lr) & ~np.isnan(loss)
    # NaN at the end is a loss that diverged, unless losses are missing in between as well.
    of_losses = np.flatnonzero(~np.isnan(loss))
    is_whole = len(of_losses) > 0 and row_has_both[of_losses[0] : of_losses[-1] + 1].all()
    kept = ~np.isnan(lr) if is_whole else row_has_both
    return lr[kept], loss[kept], (columns[0], columns[1])


def _lr_of_losses(lr: Floats, loss: Floats, step: Floats | None) -> Floats:
    """The learning rate of each row with a loss: that of the same step, or else the last one above it; else NaN."""
    has_lr = ~np.isnan(lr)
    if step is not None:
        rates = dict(zip(step[has_lr].tolist(), lr[has_lr].tolist(), strict=True))
        found = np.array([rates.get(at, np.nan) for at in step.tolist()])
        if (~np.isnan(found) & ~np.isnan(loss)).any():
            return np.where(np.isnan(loss), np.nan, found)
    above = np.maximum.accumulate(np.where(has_lr, np.arange(len(lr)), -1))
    return np.where((above >= 0) & ~np.isnan(loss), lr[above], np.nan)


def _choose(where: object, names: Sequence[str], what: str, rank: Callable[[str], int | None]) -> str:
    ranked = [(rank(name.rpartition(" - ")[2].strip().lower()), name) for name in names]
    least = min((place for place, _ in ranked if place is not None), default=None)
    best = [name for place, name in ranked if place is not None and place == least]
    if len(best) != 1:
        got = ", ".join(best or names) or "none"
        raise ValueError(f"{where} must have one column with the {what}, got columns {got}; pass the names as columns")
    return best[0]


def _lr_rank(name: str) -> int | None:
    if re.search(LR, name) is None or re.search(NOT_TRAINING + "|momentum|weight_decay", name):
        return None
    return 0 if re.fullmatch(LR, name) else 2 if re.search(r"/pg(?!1$)", name) else 1


def _loss_rank(name: str) -> int | None:
    """Losses of a step come before those of an epoch, losses of training before those of nothing named."""
    if re.search(LOSS, name) is None or re.search(NOT_TRAINING, name):
        return None
    if name == "loss":
        return 0
    is_part = re.search(r"loss([ _/.]?(step|batch|epoch))?$", name) is None  # such as train/loss_ctc
    is_step = "step" in name or "batch" in name
    return 8 * is_part + 4 * ("epoch" in name) + 2 * (not is_step) + ("train" not in name)


def rises(values: Floats) -> bool:
    """Whether values are a range test's learning rates: positive, finite and increasing, some of them repeated."""
    in_order = len(values) > 1 and np.isfinite(values).all() and (np.diff(values) >= 0).all()
    return bool(in_order and 0 < values[0] < values[-1])


def _parse(path: Path) -> tuple[list[str], list[list[str]], bool]:
    """(names, rows, whether a comma is the decimal sign)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be text in UTF-8, got another encoding; save it as CSV in UTF-8") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")] or [""]
    delimiter = max(",;\t", key=lines[0].count)
    names, *rows = csv.reader(lines, delimiter=delimiter)
    return [name.strip() for name in names], rows, delimiter != ","


def _number(cell: str, is_comma_decimal: bool) -> float:
    """A cell's number. With a comma and a point, the last of them is the decimal sign: 1,234.5 and 1.234,5."""
    if cell.lower() in MISSING:
        return np.nan
    is_grouped = not is_comma_decimal and re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+", cell)
    is_comma = cell.rfind(",") > cell.rfind(".") and not is_grouped
    thousands, decimal = (".", ",") if is_comma else (",", ".")
    return float(cell.replace(thousands, "").replace(decimal, "."))
