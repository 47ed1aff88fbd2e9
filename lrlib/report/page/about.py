"""How a document is cited: its authors, and BibTeX to copy."""

import re
from typing import Any

import yaml

from lrlib.project import project_folder


def read_citation() -> dict[str, Any]:
    """What CITATION.cff says."""
    return yaml.safe_load((project_folder() / "CITATION.cff").read_text(encoding="utf-8"))


def list_authors() -> list[str]:
    """The authors' names as CITATION.cff has them."""
    parts = ("given-names", "family-names", "name")
    return [" ".join(author[part] for part in parts if part in author) for author in read_citation()["authors"]]


def write_bibtex(title: str, about) -> str:
    """A BibTeX entry of the document. about: `metadata.report` of a merged notebook."""
    fields = {
        "author": " and ".join(f"{{{name}}}" for name in list_authors()),
        "title": re.sub(r"([A-Z][\w-]*[A-Z][\w-]*)", r"{\1}", title),  # as it is written: LeNet-5, MNIST
        "year": about.get("date", "")[-4:],
        "note": f"Commit {about['commit']}" if about.get("commit") else "",
        "url": str(read_citation().get("repository-code", "")),
    }
    return "@misc{lrlib,\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value) + "}"
