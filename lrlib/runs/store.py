"""The cache of trained epochs: one safetensors file per name, which is whole and checked, or counts as absent."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
import torch

from lrlib.errors import LrlibError

VERSION = 1  # of what is stored: files of another one count as damaged
SUFFIX, PART = ".safetensors", ".part"
_UNSEALED = "0" * 64
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)  # ESTALE: another machine replaced it on a network file system
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


class StoreError(LrlibError):
    """The store cannot be written or read, or lost a file that is needed."""


@dataclass(frozen=True)
class Artefact:
    """The content of a file: CPU tensors by name, and values that JSON can hold."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


def encode(name: str, artefact: Artefact) -> bytes:
    """Return an artefact as safetensors, sealed by a SHA-256 over the file and the name it is to have."""
    # Tied weights are one tensor under two names, which safetensors refuses.
    tensors = {key: tensor.detach().clone().contiguous() for key, tensor in artefact.tensors.items()}
    values = json.dumps(artefact.values, sort_keys=True)
    content = safetensors.torch.save(tensors, metadata={"sha256": _UNSEALED, "values": values})
    return content.replace(_UNSEALED.encode(), _digest(name, content).encode(), 1)


def decode(name: str, content: bytes) -> Artefact:
    """Return the artefact of a file's bytes. Raises ValueError unless they are what was saved under this name."""
    try:
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        seal = metadata["sha256"]
        if seal != _digest(name, content.replace(seal.encode(), _UNSEALED.encode(), 1)):
            raise ValueError("the checksum differs")
        return Artefact(safetensors.torch.load(content), json.loads(metadata["values"]))
    except Exception as err:  # a foreign file's JSON may be too deep, or of another shape than ours
        raise ValueError(f"not the file of {name} ({err})") from err


def _digest(name, content):
    return hashlib.sha256(f"{VERSION} {name}\n".encode() + content).hexdigest()


class Store:
    """Artefacts by name in a folder; several processes and users may use one store at once."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Return the file of a name."""
        return self.folder / f"{name}{SUFFIX}"

    def load(self, name: str) -> Artefact | None:
        """Return the artefact of a name, None if there is none; a damaged file is warned of and counts as none.

        Raises:
            StoreError: The file is there and may not be read.
        """
        path = self.path(name)
        try:
            return decode(name, path.read_bytes())
        except OSError as err:
            if err.errno in _GONE:
                return None
            if err.errno != errno.EIO:  # which is how a disk reports that it lost the content
                raise StoreError(f"{path} cannot be read ({err.strerror}); make it readable or delete it") from err
        except ValueError:
            pass
        warnings.warn(f"{path} is damaged and is computed again", stacklevel=2)
        return None

    def save(self, name: str, artefact: Artefact | bytes) -> None:
        """Keep an artefact, or the bytes of `encode`, under a name.

        Raises:
            StoreError: It cannot be written; no part of a file is left.
        """
        content = artefact if isinstance(artefact, bytes) else encode(name, artefact)
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path(name), content, mode=self._mode())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store's one lock, which training takes; waits, with a line on stderr, while another process has it.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock", mode=self._mode(), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                print(f"another process trains on {self.folder}; waiting until it is done", file=sys.stderr)
                lock.acquire(poll_interval=0.5)
            except (OSError, NotImplementedError) as err:
                if isinstance(err, OSError) and err.errno not in _NO_LOCKS:
                    raise
                # Without locks two processes may compute an epoch twice, to the same bits.
        try:
            yield
        finally:
            lock.release()

    def _mode(self):
        """The permissions of a new file: as the folder's, so that a store which a group may write is shared."""
        return self.folder.stat().st_mode & 0o666

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as err:
            raise StoreError(
                f"the store {self.folder} cannot be written ({err.strerror or err}); free space, get write permission "
                "from its owner, or set LRLIB_STORE to another folder"
            ) from err

    def list_files(self) -> dict[str, tuple[int, float]]:
        """Return name -> (bytes, time of writing in seconds since 1970) of all files."""
        found = _list_sizes(self.folder.glob(f"[!.]*{SUFFIX}"))
        return {path.name.removesuffix(SUFFIX): entry for path, entry in found.items()}

    def list_parts(self) -> dict[Path, tuple[int, float]]:
        """Return path -> (bytes, time of writing) of unfinished files: a writer was killed, or is at work."""
        return _list_sizes(self.folder.glob(f".*{PART}"))


def _list_sizes(paths):
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found[path] = (path.stat().st_size, path.stat().st_mtime)
    return found


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write bytes so that the path holds either its old content or all of the new.

    Args:
        path: The file.
        content: What it is to hold.
        mode: Its permissions, by default those of a new file.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
