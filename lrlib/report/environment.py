"""The environments of processes: a document's has known variables only, not a user's settings; JupyterLab's has all."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lrlib.project import named_folders, project_folder

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
    # -P: modules in the working folder are not the project's.
    command = [sys.executable, "-P", "-m", "lrlib", *sys.argv[1:]]
    os.execve(sys.executable, command, kept | _find_project() | SETTLED | {_MARK: "1"})


def open_lab(arguments: Sequence[str]) -> int:
    """Run JupyterLab on the notebooks to its end; what `make lab` calls. Returns its exit status.

    Args:
        arguments: `--results` (default: published, where they exist; none: train everything), then JupyterLab's own.
    """
    parser = argparse.ArgumentParser("lrlib lab", description="Open the notebooks in JupyterLab.")
    parser.add_argument("--results", default="published", help="published (default), none, or a file of results")
    known, options = parser.parse_known_args(arguments)
    environment = os.environ | _find_project()
    if known.results == "published" and not (project_folder() / "report" / "results.npz").exists():
        print("lrlib: no published results found; notebooks train what they need", file=sys.stderr)
    elif known.results != "none":
        environment["LRLIB_RESULTS"] = known.results if known.results == "published" else os.path.abspath(known.results)
    places = [f"--notebook-dir={project_folder()}", "--LabApp.default_url=/lab/tree/notebooks"]
    command = [sys.executable, "-m", "jupyterlab", *places, *options]
    try:
        return subprocess.run(command, cwd=project_folder(), env=environment).returncode
    except KeyboardInterrupt:  # JupyterLab received it too
        return 130


def _find_project():
    """Variables by which a process in another folder, such as a kernel, finds lrlib and the folders that were named."""
    found = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    return named_folders() | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
