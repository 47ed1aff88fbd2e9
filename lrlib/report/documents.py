"""Documents: folders of section notebooks, each with a `document.toml` that says what the folder becomes."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrlib.errors import LrlibError
from lrlib.project import project_folder

FOLDERS = ("notebooks", "bench/suggestions/notebooks")


class ParameterError(LrlibError):
    """A document, section, parameter or value that does not exist or cannot be used."""

    status = 2


@dataclass(frozen=True)
class Document:
    """A folder of section notebooks.

    Args:
        folder: where the notebooks are.
        name: the files that it becomes, such as `report` for report.html and report.pdf.
        subtitle: what stands below the title.
        quick: values of parameters for QUICK=1.
        within_epochs: parameters that list epochs; unless given, they keep only those up to `epochs`.
    """

    folder: Path
    name: str
    subtitle: str = ""
    quick: dict[str, Any] = field(default_factory=dict)
    within_epochs: tuple[str, ...] = ()

    @property
    def readme(self) -> Path:
        """The README that shows its published results."""
        return self.folder.parent / "README.md"

    @property
    def results(self) -> Path:
        """The published results of its runs."""
        return self.published.with_name("results.npz" if self.name == "report" else f"{self.name}-results.npz")

    @property
    def published(self) -> Path:
        """Its published page; the PDF and the figures of the README lie beside it."""
        return project_folder() / "report" / f"{self.name}.html"


def load_document(folder: Path) -> Document:
    """The Document in a folder. Raises ParameterError if its document.toml is missing or invalid."""
    path = folder / "document.toml"
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        return Document(folder, **(about | {"within_epochs": tuple(about.get("within_epochs", ()))}))
    except FileNotFoundError as err:
        raise ParameterError(f"{path} not found; run this in a checkout of lrlib") from err
    except (tomllib.TOMLDecodeError, TypeError) as err:
        raise ParameterError(f"{path} is invalid: {err}") from err


def list_documents() -> list[Document]:
    """The project's documents. Raises ParameterError if there is none."""
    folders = [project_folder() / name for name in FOLDERS]
    found = [load_document(folder) for folder in folders if (folder / "document.toml").exists()]
    return found or [load_document(folders[0])]


def find_document(name: str) -> Document:
    """The project's Document of a name. Raises ParameterError."""
    documents = list_documents()
    for document in documents:
        if document.name == name:
            return document
    raise ParameterError(f"unknown document {name!r}; available: {', '.join(each.name for each in documents)}")
