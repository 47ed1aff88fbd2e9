"""Folders in which a report is made: a build folder that can be written, and in it one of its own for each report."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lrlib.errors import LrlibError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

# Executed notebooks, page and paper together are about half of it.
NEEDED_BYTES = 8 * 2**20
# The path of a socket may have 103 characters where fewest are allowed; the kernel's name comes after the folder.
SOCKET_FOLDER_LENGTH = 70
_ALIVE = ".alive"


class BuildError(LrlibError):
    """A folder for the report that cannot be written; said with what to do."""


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """BuildError in place of an OSError in here: which folder cannot be written, and what to do."""
    try:
        yield
    except OSError as err:
        raise BuildError(
            f"the report's folder {folder} cannot be written ({err.strerror or err}); free space there or let it be "
            "written, or set LRLIB_BUILD to another folder"
        ) from err


@contextlib.contextmanager
def own_folder(build: Path) -> Iterator[Path]:
    """A folder for one report in the making, within `build`; it goes when this ends, and so do those of killed reports.

    Raises BuildError unless what a report needs can be written there.
    """
    with naming(build):
        build.mkdir(parents=True, exist_ok=True)
        lent = _lend(build, ".making-")
        folder = lent.__enter__()
    try:
        with naming(build):
            probe = folder / "probe"
            probe.write_bytes(bytes(NEEDED_BYTES))
            probe.unlink()
        yield folder
    finally:
        lent.__exit__(None, None, None)


@contextlib.contextmanager
def socket_folder() -> Iterator[Path | None]:
    """A folder with a path short enough for sockets, which goes when this ends; None where there is none."""
    tried = [tempfile.gettempdir(), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "")]
    with contextlib.ExitStack() as lent:
        for parent in dict.fromkeys(filter(None, tried)):
            if os.name == "posix" and len(os.fsencode(parent)) <= SOCKET_FOLDER_LENGTH - len("/lrlib-12345678"):
                with contextlib.suppress(OSError):
                    yield lent.enter_context(_lend(Path(parent), "lrlib-"))
                    return
        yield None


@contextlib.contextmanager
def sole(build: Path) -> Iterator[None]:
    """One process at a time: another that is here too waits."""
    with naming(build), open(build / ".lock", "ab") as lock:
        if fcntl:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def move(source: Path, target: Path) -> None:
    """Put a file or folder in the place of another one; of a folder that is replaced nothing stays."""
    if target.is_dir():
        aside = source.with_name(f"{source.name}-replaced")
        os.replace(target, aside)
        os.replace(source, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(source, target)


@contextlib.contextmanager
def _lend(parent, prefix):
    for left in parent.glob(f"{prefix}*"):
        _remove_if_dead(left)
    folder = tempfile.mkdtemp(dir=parent, prefix=prefix)
    try:
        with open(Path(folder) / _ALIVE, "ab") as alive:
            if fcntl:
                with contextlib.suppress(OSError):
                    fcntl.flock(alive, fcntl.LOCK_EX)
            yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(folder):
    """Remove a folder of a process that was killed: a living one holds a lock in its."""
    with contextlib.suppress(OSError):
        if folder.is_symlink() or not fcntl:
            return
        if not (folder / _ALIVE).exists():
            if time.time() - folder.stat().st_mtime > 3600:  # not just being made
                shutil.rmtree(folder, ignore_errors=True)
            return
        with open(folder / _ALIVE, "ab") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
