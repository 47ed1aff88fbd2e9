"""Executing sections: each in a kernel of this Python, as many at once as there are cores."""

import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import papermill
import psutil
from dask.system import CPU_COUNT
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lrlib.errors import LrlibError
from lrlib.report.folders import socket_folder
from lrlib.report.kernels import SectionKernelManager
from lrlib.report.notebook_files import nbformat
from lrlib.report.sections import Section
from lrlib.report.surroundings import kernel_environment


class NotebookError(LrlibError):
    """A section's notebook that raised, or whose kernel ended; says which cell, and where the executed notebook is."""


def execute_notebooks(
    sections: list[Section], folder: Path, *, failed: Path, environment: dict[str, str]
) -> list[Path]:
    """Execute sections by papermill into a folder; one that raised goes to the folder `failed`, its traceback in it.

    environment: variables for the kernels besides `kernel_environment`'s.
    Returns the executed notebooks' paths. Raises NotebookError for the first, in order, that raised; OSError.
    """
    folder.mkdir()
    # A section about the whole report is given values that its notebook does not declare, of which papermill warns.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    for name in ("traitlets", "asyncio"):  # a kernel that is killed is said by NotebookError
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = psutil.Process().children(recursive=True)
    with socket_folder() as sockets, ThreadPoolExecutor(CPU_COUNT) as pool:
        ended = threading.Event()
        futures = [pool.submit(_execute, section, folder, failed, sockets, environment, ended) for section in sections]
        try:
            return [future.result() for future in futures]
        except BaseException:
            # Kernels are in sessions of their own and hear no Ctrl-C; a thread waiting for one would never end.
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(psutil.Process().children(recursive=True)) - set(before):
                process.kill()
            raise


def _execute(section, folder, failed, sockets, environment, ended):
    output = folder / section.path.name
    own = folder / f".{section.name}"
    own.mkdir()
    try:
        papermill.execute_notebook(
            section.notebook,
            str(output).replace("{", "{{").replace("}", "}}"),  # papermill takes a path for a format
            parameters=section.values,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            config=kernel_settings(section.path.parent, own, sockets, environment),
            extra_arguments=["--IPKernelApp.log_level=50"],  # a kernel that is told to end says so as an error
        )
    except PapermillExecutionError as err:
        raise NotebookError(_describe(section, output, failed, "error", f"raised {err.ename}: {err.evalue}")) from err
    except RuntimeError as err:  # nbclient's, of a kernel that ended or never answered
        if ended.is_set():
            raise  # killed, since another section failed or a person stopped it all
        what = "lost its kernel, perhaps for want of memory"
        raise NotebookError(_describe(section, output, failed, "running", what)) from err
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return output


def kernel_settings(folder: Path, own: Path, sockets: Path | None, environment: dict[str, str]) -> Config:
    """Configuration for a kernel that works in a folder and writes into its own, with an environment besides."""
    settings = {
        "environment": kernel_environment(own) | environment,
        "folder": str(folder),
        "connection_file": str((sockets or own) / f"{own.name.lstrip('.')}.json"),
    }
    if sockets:
        # A TCP port that is free when it is looked for may be taken by another kernel when it is used.
        settings["transport"] = "ipc"
    manager = {"NotebookClient": {"kernel_manager_class": SectionKernelManager}}
    return Config(manager | {"SectionKernelManager": settings})


def _describe(section, output, failed, sign, what):
    """The sentence for NotebookError. sign: "error" for the cell with an error, "running" for the last that began."""
    executed = nbformat.read(output, as_version=4) if output.exists() else None
    if executed is None:
        return f"section {section.name}: {section.path.name} {what} before its first cell"
    failed.mkdir(parents=True, exist_ok=True)
    kept = failed / output.name
    os.replace(output, kept)
    number = 0  # as in the notebook itself, without what papermill puts in
    for cell in executed.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags or "papermill-error-cell-tag" in tags:
            continue
        number += 1
        if sign == "running" and cell.metadata.get("papermill", {}).get("status") == "running":
            break
        if sign == "error" and any(o.output_type == "error" for o in cell.get("outputs", [])):
            break
    there = "its traceback" if sign == "error" else "what it did before"
    return f"section {section.name}: cell {number} of {section.path.name} {what}; {there} is in {kept}"
