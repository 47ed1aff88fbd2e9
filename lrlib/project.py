"""Where the project's folders are."""

import os
from pathlib import Path


def project_folder() -> Path:
    """The checkout that this package stands in, or the working folder where the package is installed without one."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def store_folder() -> Path:
    """$LRLIB_STORE, else the git-ignored folder `.lrlib/store` of the project."""
    return _named("LRLIB_STORE") or project_folder() / ".lrlib" / "store"


def build_folder() -> Path:
    """Where reports are made: $LRLIB_BUILD, else the git-ignored folder `report/build` of the project."""
    return _named("LRLIB_BUILD") or project_folder() / "report" / "build"


def data_folders() -> list[Path]:
    """Where a dataset is looked for, in this order: $LRLIB_DATA, `data` of the project, `../shared/datasets`."""
    named = _named("LRLIB_DATA")
    return [*([named] if named else []), download_folder(), project_folder().parent / "shared" / "datasets"]


def download_folder() -> Path:
    """Where torchvision downloads a dataset to: the git-ignored folder `data` of the project."""
    return project_folder() / "data"


def named_folders() -> dict[str, str]:
    """The environment variables that name folders, made absolute: for processes that start in another folder."""
    named = {name: _named(name) for name in ("LRLIB_STORE", "LRLIB_BUILD", "LRLIB_DATA")}
    return {name: str(folder) for name, folder in named.items() if folder}


def _named(variable: str) -> Path | None:
    """The folder that an environment variable names, made absolute; None where it is unset or empty."""
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None
