"""The store: one artefact per name, each file whole and checked or not there.

An artefact is a dict of tensors and a dict of plain values. It is written under a temporary name, flushed
to the disk and renamed, so a reader never sees half of one. A checksum inside is compared at each reading: a damaged
file counts as absent. Files are safetensors, so nothing is ever unpickled.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from lrlib.errors import LrlibError

try:
    import fcntl
except ImportError:  # Windows has no such locks; callers there may compute a name twice
    fcntl = None  # type: ignore[assignment]


SUFFIX = ".safetensors"
PART = ".part"
MAX_HEADER = 10**8  # bytes; safetensors' own limit


class StoreError(LrlibError):
    """A store that cannot be written or read, or that lost what it held a moment ago."""


@dataclass(frozen=True)
class Artefact:
    """tensors: name -> CPU tensor; values: name -> what JSON can hold."""

    tensors: dict
    values: dict


class Store:
    """Artefacts by name in a folder; several processes may use one store at once."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._warned_of = set()
        self._claims = None

    def path(self, name: str) -> Path:
        """The file of a name, two letters a folder so that no folder grows large."""
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def load(self, name: str) -> Artefact | None:
        """The Artefact of that name, or None where there is none; a damaged one is warned of, once, and counts as none.

        Raises StoreError for a file that is there and may not be read.
        """
        path = self.path(name)
        try:
            content = path.read_bytes()
            artefact = _decode(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            if err.errno != errno.EIO:  # which is how a disk says that it lost the content
                raise StoreError(f"{path} cannot be read ({err.strerror}); let it be read, or delete it") from err
            artefact = None
        except ValueError:
            artefact = None
        if artefact is None and name not in self._warned_of:
            self._warned_of.add(name)
            warnings.warn(f"{path} is damaged and is computed again", stacklevel=2)
        return artefact

    def save(self, name: str, artefact: Artefact) -> None:
        """Keep an artefact under a name. Raises StoreError, leaving no part of a file, where it cannot be written."""
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _encode(artefact))
        except OSError as err:
            raise StoreError(_cannot_write(self.folder, err)) from err
        self._warned_of.discard(name)

    def check_writable(self) -> None:
        """Raise StoreError unless a file can be written here."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f".check.{secrets.token_hex(8)}{PART}"
            write_whole(path, b"x")
            path.unlink()
        except OSError as err:
            raise StoreError(_cannot_write(self.folder, err)) from err

    def claim(self, name: str) -> bool:
        """Take the sole right among processes to compute a name, until `release` or the end of this process.

        name: hexadecimal. Returns whether it was had. Where the file system has no locks everyone has it: then work
        is done twice, and never wrongly.
        """
        if fcntl is None:
            return True
        try:
            if self._claims is None:
                self._claims = open(self.folder / ".claims", "ab")  # noqa: SIM115 (closing it would end all claims)
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _lock_offset(name))
        except OSError as err:
            return err.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def release(self, name: str) -> None:
        """Give a claim back; one that was not had is no error."""
        if self._claims is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _lock_offset(name))

    def list_files(self) -> dict[str, tuple[int, float]]:
        """name -> (bytes, time of writing in seconds since 1970) of all that is stored."""
        found = {}
        for path in self.folder.glob(f"??/[!.]*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found[path.name.removesuffix(SUFFIX)] = (path.stat().st_size, path.stat().st_mtime)
        return found

    def list_parts(self) -> dict[Path, tuple[int, float]]:
        """path -> (bytes, time of writing) of what writers that were killed left behind, or write just now."""
        found = {}
        for path in (*self.folder.glob(f".*{PART}"), *self.folder.glob(f"??/.*{PART}")):
            with contextlib.suppress(FileNotFoundError):
                found[path] = (path.stat().st_size, path.stat().st_mtime)
        return found

    def read_values(self, name: str) -> dict[str, Any]:
        """The values of a stored artefact, unchecked and without reading its tensors; {} where they cannot be read."""
        try:
            with open(self.path(name), "rb") as file:
                header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MAX_HEADER)))
            return json.loads(header["__metadata__"]["values"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes so that the path holds either its old content or all of the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _lock_offset(name):
    """A byte for each name: 60 of its bits, so that the locks of a sweep's names do not meet."""
    return int(name[:15], 16)


def _cannot_write(folder, err):
    return f"the store {folder} cannot be written ({err.strerror}); free space or set LRLIB_STORE to another folder"


def _encode(artefact):
    values = json.dumps(artefact.values, sort_keys=True)
    return safetensors.torch.save(artefact.tensors, metadata={"values": values, "sha256": _digest(artefact)})


def _decode(content):
    """The artefact of a file's bytes. Raises ValueError where they are not what was written."""
    try:
        tensors = safetensors.torch.load(content)  # which checks the header, so that it can be read plainly below
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        artefact = Artefact(tensors, json.loads(metadata["values"]))
        expected = metadata["sha256"]
    except (safetensors.SafetensorError, KeyError) as err:
        raise ValueError("not an artefact") from err
    if _digest(artefact) != expected:
        raise ValueError("the checksum differs")
    return artefact


def _digest(artefact):
    digest = hashlib.sha256(json.dumps(artefact.values, sort_keys=True).encode())
    for name, tensor in sorted(artefact.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
