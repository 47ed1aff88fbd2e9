"""Published results: the figures and step losses of trained runs in one small file, used instead of training.

The file is NumPy's .npz, read without pickle. It holds no weights. An epoch is found by its backend and its history
(`lrlib.runs.plan.Epoch`), whatever computed it; `numerics` says what did.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrlib import schedules
from lrlib.errors import LrlibError
from lrlib.problems.registry import load_data
from lrlib.project import project_folder
from lrlib.runs.engine import record_of, state_of
from lrlib.runs.plan import Epoch, Run, plan_epochs
from lrlib.runs.store import Artefact, Store, write_whole
from lrlib.training.backends import compiled
from lrlib.training.registry import name_numerics

VARIABLE = "LRLIB_RESULTS"
FORMAT = 1
FIGURES = {"test_loss": "<f8", "test_accuracy": "<f8", "n_test": "<u4", "seconds": "<f4", "diverged": "?"}
# Arrays of one value an epoch. "key" is `_find_key`, "weights" is `digest_weights`.
COLUMNS = {"key": "V16", "weights": "V8", "numerics": "u1", "n_steps": "<u4", **FIGURES}


class PublishedError(LrlibError):
    """The file of published results is missing, damaged or of another version."""


@dataclass(frozen=True, eq=False)
class Published:
    """Published results.

    Attributes:
        path: Their file.
        checksum: SHA-256 of the file.
        commit: The commit that they were made from.
        runs: The runs.
        rows: Key -> what `find` returns of an epoch, but for `train_loss`.
    """

    path: Path
    checksum: str
    commit: str
    runs: list[Run]
    rows: Mapping[bytes, Mapping[str, Any]]

    def find(self, chain: Sequence[Epoch]) -> list[dict[str, Any]] | None:
        """Return the records of a run's epochs, up to one that diverged; None unless all are here.

        Where the compiled kernels cannot run, theirs stand for those of plain layers.

        A record is as of `lrlib.runs.engine.record_of`, with `weights` and `numerics` (as
        `lrlib.training.registry.name_numerics` returns it) besides.
        """
        records = []
        for epoch in chain:
            row = self.rows.get(_find_key(epoch, epoch.run.backend))
            if row is None and epoch.run.backend == "torch" and not compiled.is_available():
                row = self.rows.get(_find_key(epoch, "compiled"))
            if row is None:
                return None
            losses = row["losses"].astype(np.float64)
            records.append({**row, "losses": losses, "train_loss": losses.mean()})
            if row["diverged"]:
                break
        return records

    def describe(self) -> str:
        """Return where the results are from, as part of a sentence."""
        return f"published results of commit {self.commit[:12]} ({self.path.name}, sha256 {self.checksum[:16]}…)"


def asked_for() -> Published | None:
    """Return the published results that $LRLIB_RESULTS asks for, "published" or a path; None if it is unset.

    Raises:
        PublishedError: They cannot be read.
    """
    value = os.environ.get(VARIABLE)
    return read(default_path() if value == "published" else Path(value)) if value else None


def default_path() -> Path:
    """Return the file of the published report's results."""
    return project_folder() / "report" / "results.npz"


def write(path: Path, runs: Iterable[Run], *, commit: str, store: Store) -> str:
    """Write the results of runs that are all in a store, and return the file's SHA-256.

    Args:
        path: The file, .npz; it is replaced at once.
        runs: The runs.
        commit: The commit that they were made from.
        store: Where their epochs are.

    Raises:
        PublishedError: An epoch is not in the store.
        OSError: The file cannot be written.
    """
    runs, numerics = list(dict.fromkeys(runs)), []
    rows: dict[bytes, dict[str, Any]] = {}
    for run in runs:
        for epoch in plan_epochs(run):
            key = _find_key(epoch, run.backend)
            if key not in rows:
                if (artefact := store.load(epoch.name)) is None:
                    raise PublishedError(f"{run.label} (seed {run.seed}) is not in {store.folder}; train it first")
                record, computed = record_of(artefact), name_numerics(run, load_data(run.problem))
                numerics += [] if computed in numerics else [computed]
                about = {"weights": digest_weights(artefact), "numerics": numerics.index(computed)}
                rows[key] = record | about | {"key": key, "n_steps": len(record["losses"])}
            if rows[key]["diverged"]:
                break
    arrays = {name: np.array([row[name] for row in rows.values()], kind) for name, kind in COLUMNS.items()}
    # Bytes of equal weight stand together; the lowest are zero, by `round_losses`.
    losses = np.concatenate([row["losses"] for row in rows.values()]).astype("<f4")
    arrays["losses"] = np.ascontiguousarray(losses.view(np.uint8).reshape(-1, 4)[:, 1:].T)
    about = {"format": FORMAT, "commit": commit, "numerics": numerics, "runs": [_describe_run(run) for run in runs]}
    about["sha256"] = _digest(about, arrays)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:  # of a fixed time: the same bytes
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_whole(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read(path: Path) -> Published:
    """Read published results, and check them.

    Raises:
        PublishedError: The file is missing, damaged, foreign or of a newer lrlib.
    """
    try:
        return _read(path, path.stat().st_mtime_ns, path.stat().st_size)
    except OSError as err:
        raise PublishedError(f"the published results {path} cannot be read ({err.strerror or err})") from err


@lru_cache(maxsize=2)
def _read(path, *_):
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] > FORMAT:
            raise PublishedError(f"{path} was written by a newer lrlib; update lrlib")
        if about.pop("sha256") != _digest(about, arrays):
            raise ValueError("its content does not match its checksum")
    except PublishedError:
        raise
    except Exception as err:  # zipfile, zlib, lzma, NumPy and JSON raise many kinds
        raise PublishedError(f"{path} is not a file of published results, or is damaged ({err}); restore it") from err
    planes = np.pad(arrays["losses"], ((1, 0), (0, 0)))
    columns = {name: arrays[name].tolist() for name in COLUMNS}
    columns["numerics"] = [about["numerics"][place] for place in columns["numerics"]]
    columns["losses"] = np.split(planes.T.reshape(-1).view("<f4"), np.cumsum(columns["n_steps"])[:-1])
    return Published(
        path=path,
        checksum=hashlib.sha256(content).hexdigest(),
        commit=about["commit"],
        runs=[_make_run(values) for values in about["runs"]],
        rows={row[0]: dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)},
    )


def digest_weights(artefact: Artefact) -> bytes:
    """Return 8 bytes of a SHA-256 over an epoch's state: equal where weights and optimizer are bit-identical."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_of(artefact).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()[:8]


def _find_key(epoch, backend):
    return hashlib.sha256(f"{epoch.history} {backend} {epoch.run.processes}".encode()).digest()[:16]


def _digest(about, arrays):
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _describe_run(run):
    return vars(run) | {"schedule": {"kind": type(run.schedule).__name__, **vars(run.schedule)}}


def _make_run(values):
    schedule = dict(values["schedule"])
    return Run(**values | {"schedule": getattr(schedules, schedule.pop("kind"))(**schedule)})
