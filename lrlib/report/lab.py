"""JupyterLab on the notebooks, with the user's own settings and the published results; what `make lab` calls."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from lrlib.project import named_folders, project_folder


def open_lab(arguments: Sequence[str]) -> int:
    """Run JupyterLab to its end. Returns its exit status.

    Args:
        arguments: `--results` (default: published, where they exist; none: train everything), then JupyterLab's own.
    """
    parser = argparse.ArgumentParser("lrlib lab", description="Open the notebooks in JupyterLab.")
    parser.add_argument("--results", default="published", help="published (default), none, or a file of results")
    known, options = parser.parse_known_args(arguments)
    # Kernels work in the notebooks' folder: lrlib must be found there, and relative folders would be others.
    found = os.pathsep.join(filter(None, [str(project_folder()), os.environ.get("PYTHONPATH")]))
    environment = os.environ | named_folders() | {"PYTHONPATH": found}
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
