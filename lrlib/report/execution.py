"""Execution of section notebooks by papermill, one kernel each, as many at once as there are cores."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import nbformat
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError

from lrlib.errors import LrlibError
from lrlib.report.environment import kernel_folder
from lrlib.report.sections import Section


class NotebookError(LrlibError):
    """A notebook that raised, or whose kernel died; names the cell and where the executed notebook is."""


def execute_notebooks(sections: list[Section], folder: Path, *, failed: Path) -> list[Path]:
    """Execute sections into a folder. Returns the paths of the executed notebooks.

    Args:
        sections: the sections, all of one document.
        folder: where they go; it is made.
        failed: the folder for a notebook that raised, with its traceback.

    Raises NotebookError for the first section, in their order, that raised.
    """
    folder.mkdir()
    for name in ("papermill", "traitlets", "asyncio"):  # what they would say, NotebookError says
        logging.getLogger(name).setLevel(logging.CRITICAL)
    others = set(psutil.Process().children(recursive=True))
    with kernel_folder(folder.with_name("kernels"), sections[0].path.parent):
        pool = ThreadPoolExecutor(joblib.cpu_count())
        futures = [pool.submit(_execute, section, folder / section.path.name) for section in sections]
        try:
            executed = [future.result() for future in futures]
        except PapermillExecutionError as err:
            section = next(s for s, f in zip(sections, futures, strict=True) if f.done() and f.exception() is err)
            raise NotebookError(_describe(section, folder, failed, f"raised {err.ename}: {err.evalue}")) from err
        except RuntimeError as err:  # nbclient's, for a kernel that died or never answered
            section = next(s for s, f in zip(sections, futures, strict=True) if f.done() and f.exception() is err)
            raise NotebookError(_describe(section, folder, failed, "lost its kernel, possibly out of memory")) from err
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # Kernels have process groups of their own and do not receive Ctrl-C.
            for process in set(psutil.Process().children(recursive=True)) - others:
                process.kill()
            pool.shutdown()
    return executed


def _execute(section, output):
    escaped = str(output).replace("{", "{{").replace("}", "}}")  # papermill takes a path for a format
    # The native kernel of this interpreter: a user's kernelspecs are out of sight.
    papermill.execute_notebook(
        section.notebook,
        escaped,
        parameters=section.values,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        extra_arguments=["--HistoryManager.enabled=False", "--IPKernelApp.log_level=50"],
    )
    return output


def _describe(section, folder, failed, what):
    output = folder / section.path.name
    if not output.exists():
        return f"section {section.name}: {section.path.name} {what} before its first cell"
    executed = nbformat.read(output, as_version=4)
    failed.mkdir(parents=True, exist_ok=True)
    os.replace(output, failed / output.name)
    cells = [
        c
        for c in executed.cells
        if not {"injected-parameters", "papermill-error-cell-tag"} & set(c.metadata.get("tags", []))
    ]
    reached = [
        number
        for number, cell in enumerate(cells, 1)
        if cell.metadata.get("papermill", {}).get("status") in ("running", "failed")
    ]
    cell = f"cell {reached[-1]} of " if reached else ""
    return (
        f"section {section.name}: {cell}{section.path.name} {what}; the executed notebook is in {failed / output.name}"
    )
