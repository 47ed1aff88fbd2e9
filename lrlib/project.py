"""Where the project's folders are."""

import os
from pathlib import Path


def project_folder():
    """The checkout that this package stands in, or the working folder where the package is installed without one."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def store_folder():
    """$LRLIB_STORE, else the git-ignored folder `.lrlib/store` of the project."""
    return Path(os.environ.get("LRLIB_STORE") or project_folder() / ".lrlib" / "store").expanduser()


def data_folders():
    """Where a dataset is looked for, in this order: $LRLIB_DATA, `data` of the project, `../shared/datasets`."""
    named = [Path(os.environ["LRLIB_DATA"]).expanduser()] if os.environ.get("LRLIB_DATA") else []
    return [*named, download_folder(), project_folder().parent / "shared" / "datasets"]


def download_folder():
    """Where torchvision downloads a dataset to: the git-ignored folder `data` of the project."""
    return project_folder() / "data"
