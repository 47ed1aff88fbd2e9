"""Documents: folders of section notebooks, each with a `document.toml` that names the document."""

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
    """A folder of section notebooks, and the values of its document.toml."""

    folder: Path
    name: str  # of the files that it becomes: report.html and report.pdf
    subtitle: str = ""
    quick: dict[str, Any] = field(default_factory=dict)  # values of parameters for QUICK=1

    @property
    def readme(self) -> Path:
        """The README that shows what is published of it."""
        return self.folder.parent / "README.md"

    @property
    def published(self) -> Path:
        """Its published page; the PDF and the figures of the README are beside it."""
        return project_folder() / "report" / f"{self.name}.html"

    @property
    def results(self) -> Path:
        """The published results of its runs."""
        return self.published.with_name("results.npz" if self.name == "report" else f"{self.name}-results.npz")


def load_document(folder: Path) -> Document:
    """The Document in a folder. Raises ParameterError if its document.toml is missing or invalid."""
    path = folder / "document.toml"
    try:
        return Document(folder, **tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as err:
        raise ParameterError(f"{path} not found; run this in a checkout of lrlib") from err
    except (tomllib.TOMLDecodeError, TypeError) as err:
        raise ParameterError(f"{path} is invalid: {err}") from err


def list_documents() -> list[Document]:
    """The project's documents. Raises ParameterError if there is none."""
    folders = [project_folder() / name for name in FOLDERS]
    return [load_document(folder) for folder in folders if (folder / "document.toml").exists() or folder == folders[0]]


def find_document(name: str) -> Document:
    """The project's Document of a name. Raises ParameterError."""
    documents = {document.name: document for document in list_documents()}
    if name not in documents:
        raise ParameterError(f"unknown document {name!r}; available: {', '.join(documents)}")
    return documents[name]
