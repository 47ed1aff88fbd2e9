"""Range tests as text, JSON or CSV, and files that are complete or not there."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT = 1
Columns = tuple[Sequence[float], Sequence[float], Sequence[int], Sequence[float]]  # lr, loss, val_step, val of a sweep


def ending_of(path: str | os.PathLike[str]) -> str:
    """ "json" or "csv". Raises ValueError for any other ending."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in ("json", "csv"):
        raise ValueError(f"path must end in .json or .csv, got {path}; the ending says which of the two to use")
    return ending


def to_text(ending: str, head: dict[str, Any], columns: Sequence[Columns]) -> str:
    """The text of a range test: head is all but the steps, with a dict in head["sweeps"] for each of the columns."""
    head = {"format": FORMAT, **head}
    return (_to_json if ending == "json" else _to_csv)(head, columns)


def from_text(ending: str, text: str) -> tuple[dict[str, Any], list[Columns]]:
    """The head and the columns that to_text was given: the same values, to the bit.

    Raises ValueError for another format; whatever else the text may be shows as KeyError, TypeError, IndexError or
    json.JSONDecodeError.
    """
    head, columns = (_from_json if ending == "json" else _from_csv)(text)
    if head["format"] != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {head['format']}; read it with the lrlib that wrote it")
    return head, columns


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write under another name and rename: the file is complete or not there."""
    path = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8", newline="") as file:
        try:
            file.write(text)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _to_json(head: dict[str, Any], columns: Sequence[Columns]) -> str:
    sweeps = [
        {**saved, "lr": _encode(lr), "loss": _encode(loss), "val_step": list(val_step), "val": _encode(val)}
        for saved, (lr, loss, val_step, val) in zip(head["sweeps"], columns, strict=True)
    ]
    return json.dumps({**head, "sweeps": sweeps}, allow_nan=False)


def _from_json(text: str) -> tuple[dict[str, Any], list[Columns]]:
    head = json.loads(text)
    columns: list[Columns] = [
        (_decode(saved["lr"]), _decode(saved["loss"]), saved["val_step"], _decode(saved["val"]))
        for saved in head["sweeps"]
    ]
    return head, columns


def _to_csv(head: dict[str, Any], columns: Sequence[Columns]) -> str:
    file = io.StringIO(newline="")
    file.write("# " + json.dumps(head, allow_nan=False) + "\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["sweep", "step", "lr", "loss", "val"])
    for number, (lrs, losses, val_steps, vals) in enumerate(columns):
        val = dict(zip(val_steps, vals, strict=True))
        for step, (lr, loss) in enumerate(zip(lrs, losses, strict=True)):
            writer.writerow([number, step, repr(lr), repr(loss), repr(val[step]) if step in val else ""])
    return file.getvalue()


def _from_csv(text: str) -> tuple[dict[str, Any], list[Columns]]:
    first, _, table = text.partition("\n")
    head = json.loads(first.removeprefix("# "))
    columns: list[tuple[list[float], list[float], list[int], list[float]]] = [([], [], [], []) for _ in head["sweeps"]]
    for row in csv.DictReader(io.StringIO(table)):
        lr, loss, val_step, val = columns[int(row["sweep"])]
        lr.append(float(row["lr"]))
        loss.append(float(row["loss"]))
        if row["val"]:
            val_step.append(int(row["step"]))
            val.append(float(row["val"]))
    return head, list(columns)


def _encode(values: Sequence[float]) -> list[float | str]:
    """Floats as JSON has them: it has no NaN and no infinity, so these are strings."""
    return [value if math.isfinite(value) else repr(value) for value in values]


def _decode(values: Sequence[float | str]) -> list[float]:
    return [float(value) for value in values]
