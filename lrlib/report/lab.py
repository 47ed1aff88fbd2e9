"""JupyterLab on the notebooks, with the user's own settings; what `make lab` calls."""

import os
import subprocess
import sys
from collections.abc import Sequence

from lrlib.project import named_folders, project_folder


def open_lab(options: Sequence[str]) -> int:
    """Run JupyterLab to its end. options: JupyterLab's own. Returns its exit status."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in options:
        print(
            "lrlib: JupyterLab does not run as root unless told to; work as another user, or add --allow-root "
            "(make lab LAB_OPTIONS=--allow-root)",
            file=sys.stderr,
        )
        return 2
    # Kernels work in the notebooks' folder, where lrlib is to be found and a relative folder would be another.
    found = os.pathsep.join(filter(None, [str(project_folder()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={project_folder() / 'notebooks'}", *options]
    try:
        return subprocess.run(command, env=os.environ | named_folders() | {"PYTHONPATH": found}).returncode
    except KeyboardInterrupt:  # JupyterLab heard it too, and has said what it has to say
        return 130
