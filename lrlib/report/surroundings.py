"""What the report's processes are started with: known settings where a user's own would change the result or end it.

`settle` is for this process, and so for the workers, git and pandoc that it starts; `kernel_environment` is for the
kernels, which lrlib.report.kernels settles further. What Dask's local cluster needs besides is in lrlib.runs.cluster.
JupyterLab, and a script that calls lrlib, keep the user's settings.
"""

import contextlib
import os
import sys
import warnings
from pathlib import Path

from lrlib.errors import LrlibError
from lrlib.project import named_folders

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

# Of Python's own variables these say where it, its packages and its bytecode are, and how many cores it may use. The
# others change how code runs: PYTHONOPTIMIZE=2 strips docstrings, which a section may show,
# PYTHONWARNINGS=error ends a library that warns, PYTHONSTARTUP runs in a kernel, PYTHONINSPECT keeps a process waiting.
KEPT_OF_PYTHON = {
    "PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX", "PYTHON_CPU_COUNT", "PYTHON_GIL",
}  # fmt: skip
# Jupyter's name folders of kernels and of nbconvert's templates; the report has its own.
LEFT_OUT = (
    "JUPYTER_",
    "JPY_",  # of the server whose terminal this is: its process, the notebook that is open
    "IPYTHONDIR",
    "MPLBACKEND",  # a window for each figure, or none of those that a section shows plainly
    "MATPLOTLIBRC",  # fonts, colours, usetex
    "COLUMNS",  # how wide pandas prints
    "LINES",
)
SETTLED = {
    # Where nbconvert would look for a user's templates, and Jupyter for a user's settings.
    "JUPYTER_DATA_DIR": os.devnull,
    "JUPYTER_CONFIG_DIR": os.devnull,
    # What Jupyter has where nobody says otherwise, and no file of fonts and colours.
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MATPLOTLIBRC": os.devnull,
    "PYTHONUTF8": "1",  # files are read alike in every locale, in the processes that this one starts
}

# Open files: what this process was seen to need by itself and for each core (a worker and a kernel), and half more.
FILES, FILES_PER_CORE = 64, 40


class SurroundingsError(LrlibError):
    """Something about this machine that a report cannot be made with."""


def settle() -> None:
    """Settle this process; to be called before anything else is imported.

    Dask's configuration is left unread where no cluster is joined: what it says is meant for other work.
    """
    _open_closed_streams()
    sys.stdout, sys.stderr = _Tolerant(sys.stdout), _Tolerant(sys.stderr)
    # Python's own filters: a library that warns is neither ended nor heard where a user is not concerned.
    # Those of its switches -X dev and -b stay: Python looks for them among these when it starts another one.
    of_switches = ["default"] if sys.flags.dev_mode else []
    of_switches += [option for option in sys.warnoptions if option.endswith("::BytesWarning")]
    sys.warnoptions[:] = of_switches
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    for name in list(os.environ):
        if not _is_kept(name):
            del os.environ[name]
    os.environ |= SETTLED
    import_dask()
    _raise_file_limit()


def kernel_environment(folder: Path) -> dict[str, str]:
    """The environment of a kernel, of a process that is settled. folder: an empty one, for what IPython writes."""
    written = str(folder / "jupyter")
    return dict(os.environ) | {
        "IPYTHONDIR": str(folder / "ipython"),  # a user's startup files, configuration and history are in theirs
        "JUPYTER_DATA_DIR": written,
        "JUPYTER_CONFIG_DIR": written,
        "JUPYTER_RUNTIME_DIR": written,
        **named_folders(),  # a kernel works in the notebooks' folder, where a relative one would be another
    }


def check_file_limit() -> None:
    """Raise SurroundingsError where so few open files are allowed that kernels and workers would lack them."""
    from dask.system import CPU_COUNT

    needed = FILES + FILES_PER_CORE * CPU_COUNT
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else needed
    if 0 <= allowed < needed:
        raise SurroundingsError(
            f"only {allowed} open files are allowed, and a report on {CPU_COUNT} cores needs {needed}; "
            f"raise the limit, such as by `ulimit -n {needed}`"
        )


def is_joined() -> bool:
    """Whether runs go to a cluster that a person named."""
    return bool(os.environ.get("DASK_SCHEDULER_ADDRESS"))


def import_dask() -> None:
    """Import Dask; where no cluster is joined, without the configuration in a user's home and in /etc.

    A file of it that cannot be read would end the import. Raises SurroundingsError for one that is to be read.
    """
    with contextlib.nullcontext() if is_joined() else _elsewhere():
        try:
            import dask  # noqa: F401 (reads it; distributed only adds its defaults)
        except ValueError as err:
            raise SurroundingsError(f"{' '.join(str(err).split())}; mend that file or move it away") from err


@contextlib.contextmanager
def _elsewhere():
    """Have Dask look for its configuration where there is none."""
    hidden = {"HOME": os.devnull, "USERPROFILE": os.devnull, "DASK_ROOT_CONFIG": os.devnull}
    before = {name: os.environ.get(name) for name in hidden}
    os.environ |= hidden
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _is_kept(name):
    if name.startswith("PYTHON") and name != "PYTHON":
        return name in KEPT_OF_PYTHON
    if name.startswith("DASK_"):
        return is_joined()
    return not name.startswith(LEFT_OUT)


def _raise_file_limit():
    """Allow as many open files as this process may allow itself, up to what no report comes near."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open_closed_streams():
    """Give a closed stdin, stdout or stderr a place: else the next file that is opened would get what they are told."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))


class _Tolerant:
    """A stream that takes what cannot be written, and characters that it lacks: the report is in files."""

    def __init__(self, stream):
        self._stream = stream
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._lose()
            return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _lose(self):
        """Write into nothing from now on; what is still held back would raise again when Python ends."""
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
