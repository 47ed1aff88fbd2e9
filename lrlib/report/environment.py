"""The environment that a document is made in: known variables only, so that a user's settings do not change it."""

import os
import sys
from pathlib import Path

from lrlib.project import named_folders

# Variables that are kept, and beginnings of their names. Settings of Python, Jupyter, IPython and matplotlib are not.
KEPT = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TERM", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "HOSTNAME",
    "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
    "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "PYTHON_CPU_COUNT",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
}  # fmt: skip
KEPT_BEGINNINGS = ("LRLIB_", "LC_", "LD_", "DYLD_", "CONDA_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "OPENBLAS_",
                   "TORCH_", "NUMBA_", "SSL_")  # fmt: skip
SETTLED = {
    "MATPLOTLIBRC": os.devnull,  # fonts and colours
    "JUPYTER_NO_CONFIG": "1",
    "JUPYTER_CONFIG_DIR": os.devnull,
    "JUPYTER_DATA_DIR": os.devnull,  # a user's own kernels and templates
    "PYTHONUTF8": "1",
}
_MARK = "LRLIB_ENVIRONMENT"


def settle() -> None:
    """Start this command again in the known environment; return at once if it runs in that already."""
    if os.environ.pop(_MARK, None):
        return
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_BEGINNINGS)}
    if os.environ.get("DASK_SCHEDULER_ADDRESS"):  # a cluster that the user named, with what it needs
        kept |= {name: value for name, value in os.environ.items() if name.startswith("DASK_")}
    package = Path(__file__).resolve().parents[2]
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), kept.get("PYTHONPATH")]))
    # -P: modules in the working folder are not the project's.
    command = [sys.executable, "-P", "-m", "lrlib", *sys.argv[1:]]
    os.execve(sys.executable, command, kept | named_folders() | SETTLED | {_MARK: "1"})
