"""The store: one artefact per name, each file whole and checked or not there.

An artefact is a dict of tensors and a dict of plain values. It is written under a temporary name, flushed
to the disk and renamed, so a reader never sees half of one. A checksum inside is compared at each reading: a damaged
file counts as absent. Files are safetensors, so nothing is ever unpickled.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch


class StoreError(Exception):
    """A store that cannot be written."""


@dataclass(frozen=True)
class Artefact:
    """tensors: name -> CPU tensor; values: name -> what JSON can hold."""

    tensors: dict
    values: dict


class Store:
    """Artefacts by name in a folder; several processes may use one store at once."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def path(self, name):
        """The file of a name, two letters a folder so that no folder grows large."""
        return self.folder / name[:2] / f"{name}.safetensors"

    def load(self, name):
        """The Artefact of that name, or None where there is none; a damaged one is warned of and counts as none."""
        path = self.path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            artefact, expected = _decode(content)
        except (safetensors.SafetensorError, ValueError, KeyError):
            artefact = None
        if artefact is None or _digest(artefact) != expected:
            warnings.warn(f"{path} is damaged and is computed again", stacklevel=2)
            return None
        return artefact

    def save(self, name, artefact):
        """Keep an artefact under a name. Raises StoreError, leaving no part of a file, where it cannot be written."""
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _encode(artefact))
        except OSError as err:
            raise StoreError(_cannot_write(self.folder, err)) from err

    def check_writable(self):
        """Raise StoreError unless a file can be written here."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder) as file:
                file.write(b"x")
        except OSError as err:
            raise StoreError(_cannot_write(self.folder, err)) from err


def write_whole(path, content):
    """Write bytes so that the path holds either its old content or all of the new. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private to the user
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask():
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _cannot_write(folder, err):
    return f"the store {folder} cannot be written ({err.strerror}); free space or set LRLIB_STORE to another folder"


def _encode(artefact):
    values = json.dumps(artefact.values, sort_keys=True)
    return safetensors.torch.save(artefact.tensors, metadata={"values": values, "sha256": _digest(artefact)})


def _decode(content):
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header["__metadata__"]
    return Artefact(safetensors.torch.load(content), json.loads(metadata["values"])), metadata["sha256"]


def _digest(artefact):
    digest = hashlib.sha256(json.dumps(artefact.values, sort_keys=True).encode())
    for name, tensor in sorted(artefact.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
