"""Execution of section notebooks by papermill, one kernel each, as many at once as there are cores."""

import contextlib
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import nbformat
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError

from lrlib.errors import LrlibError
from lrlib.report.sections import Section

# Folders of a kernel's own files. A user's kernels, startup files and history are elsewhere.
WRITTEN = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")


def execute_notebooks(sections: list[Section], folder: Path, *, failed: Path) -> list[Path]:
    """Execute sections into a folder, which is made. Returns the paths of the executed notebooks.

    Raises LrlibError for the first section, in their order, that raised or lost its kernel; it names the cell, and the
    executed notebook goes to the folder `failed`.
    """
    folder.mkdir()
    for name in ("papermill", "traitlets", "asyncio"):  # what they would say, the error says
        logging.getLogger(name).setLevel(logging.CRITICAL)
    own = folder.with_name("kernels")
    own.mkdir()
    os.environ |= dict.fromkeys(WRITTEN, str(own))
    others = set(psutil.Process().children(recursive=True))
    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        # Kernels start in this folder. papermill's own `cwd` would change that of all threads at any time.
        with contextlib.chdir(sections[0].path.parent):
            futures = [(section, pool.submit(_execute, section, folder / section.path.name)) for section in sections]
            for section, future in futures:
                try:
                    future.result()
                except (PapermillExecutionError, RuntimeError) as err:  # a RuntimeError: nbclient's, of a dead kernel
                    died = "lost its kernel, possibly out of memory"
                    what = died if isinstance(err, RuntimeError) else f"raised {err.ename}: {err.evalue}"
                    raise LrlibError(_describe(section, folder, failed, what)) from err
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # Kernels have process groups of their own and do not receive Ctrl-C.
        for process in set(psutil.Process().children(recursive=True)) - others:
            process.kill()
        pool.shutdown()
    return [folder / section.path.name for section in sections]


def _execute(section, output):
    papermill.execute_notebook(
        section.notebook,
        str(output).replace("{", "{{").replace("}", "}}"),  # papermill takes a path for a format
        parameters=section.values,
        kernel_name="python3",  # the native kernel of this interpreter
        language="python",
        progress_bar=False,
        extra_arguments=["--HistoryManager.enabled=False", "--IPKernelApp.log_level=50"],
    )


def _describe(section, folder, failed, what):
    output, kept = folder / section.path.name, failed / section.path.name
    if not output.exists():
        return f"section {section.name}: {section.path.name} {what} before its first cell"
    cells = nbformat.read(output, as_version=4).cells
    failed.mkdir(parents=True, exist_ok=True)
    shutil.move(output, kept)  # the folder is in another file system
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = [cell for cell in cells if not added & set(cell.metadata.get("tags", []))]
    started = [n for n, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    cell = f"cell {started[-1]} of " if started else ""
    return f"section {section.name}: {cell}{section.path.name} {what}; the executed notebook is in {kept}"
