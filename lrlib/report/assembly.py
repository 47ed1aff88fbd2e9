"""Putting executed sections together: the page and the PDF of a whole report, the page of one section."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lrlib.errors import LrlibError
from lrlib.report.document import merge_notebooks
from lrlib.report.export_html import export_html
from lrlib.report.export_pdf import export_pdf
from lrlib.report.notebook_files import nbformat
from lrlib.report.sources import Origin

TITLE = {
    "title": "A Learning-Rate Range Test for LeNet-5 on MNIST",
    "subtitle": "A reproduction of “Colossalai and LR Range Test” that anyone can run again",
}


class ReportError(LrlibError):
    """Executed sections that cannot be put together; says which and why."""


def write_report(executed: Sequence[Path], folder: Path, *, started: float, origin: Origin) -> None:
    """Write report.html and report.pdf of executed notebooks into a folder.

    started: when it began, in seconds since the epoch. Raises ReportError.
    """
    document = _merge(executed, started, origin)
    with _saying_what():
        export_html(document, out=folder / "report.html")
        export_pdf(document, out=folder / "report.pdf")


def write_section(executed: Path, *, started: float, origin: Origin) -> Path:
    """Write one executed notebook's page beside it. Returns its path. Arguments and errors as of `write_report`."""
    page = executed.with_suffix(".html")
    document = _merge([executed], started, origin, partial=True)
    with _saying_what():
        export_html(document, out=page)
    return page


@contextlib.contextmanager
def _saying_what() -> Iterator[None]:
    """ReportError in place of the ValueError of what cannot be typeset."""
    try:
        yield
    except ValueError as err:
        raise ReportError(str(err)) from err


def _merge(executed: Sequence[Path], started: float, origin: Origin, *, partial: bool = False) -> nbformat.NotebookNode:
    with _saying_what():
        document = merge_notebooks(executed, partial=partial)
    document.metadata["report"] = {
        **(TITLE if not partial else {}),
        "date": time.strftime("%-d %B %Y", time.gmtime(started)),
        "commit": origin.commit and origin.describe(digits=12),
    }
    return document
