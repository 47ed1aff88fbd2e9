"""The way from parameters to a report: plan, train, execute the notebooks, assemble.

All runs of all sections are trained at once, so that every core has work to the end and one bar shows all of it;
the notebooks then find their runs in the store. A notebook does not rely on that: what is missing it trains itself.
"""

import contextlib
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import papermill
import psutil
from dask.system import CPU_COUNT
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lrlib.errors import LrlibError
from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.project import project_folder
from lrlib.report.document import merge_notebooks
from lrlib.report.export_html import export_html
from lrlib.report.export_pdf import export_pdf
from lrlib.report.kernels import SectionKernelManager
from lrlib.report.provenance import Making
from lrlib.report.sections import ParameterError, find_sections, give_values, pick_section, plan_section
from lrlib.report.sources import read_origin
from lrlib.runs.trainer import train
from lrlib.study.readings import tabulate_accuracies

# A look at the whole report in a minute or two: few epochs, on the embedded sample.
QUICK = {
    "dataset": "sample",
    "epochs": "5",
    "range_epochs": "4",
    "turning_points": "[1, 3, 4]",
    "milestones": "[3, 4]",
    "sweep_seeds": "3",
    "sweep_epochs": "[2, 4]",
    "adam_sweep_epochs": "[2]",
    "grid_per_decade": "1",
    "budgets": "[1, 2]",
    "cycle_budget": "2",
    "cycle_epochs": "[2, 3]",
    "inv_epochs": "3",
    "validation_seeds": "2",
}
TITLE = {
    "title": "A Learning-Rate Range Test for LeNet-5 on MNIST",
    "subtitle": "A reproduction of “Colossalai and LR Range Test” that anyone can run again",
}


class NotebookError(LrlibError):
    """A section's notebook that raised; says which cell, and where the executed notebook is."""


@dataclass(frozen=True)
class Made:
    """What was made: the files, and, of the whole report, PDF, notebooks and accuracies (`tabulate_accuracies`).

    commit: the sources' when it began, in short, or why there is none.
    """

    html: Path
    pdf: Path | None
    notebooks: Path | None
    accuracies: object
    n_trained: int
    seconds: float
    commit: str = ""


def build_folder():
    """Where reports are made: `report/build` of the project, git-ignored."""
    return project_folder() / "report" / "build"


def make_report(texts, *, command, say, quick=False, extended=False):
    """Make report.html and report.pdf in `build_folder()`, with the executed notebooks beside them.

    texts: parameter name -> value as written on the command line. command: what makes this very report again.
    extended: with part 3. say: called with each line that a person should see while it runs.
    Raises ParameterError before anything is trained; DatasetError, StoreError, EngineError, NotebookError, OSError.
    """
    started, origin = time.time(), read_origin()
    sections = find_sections(extended=extended)
    if extended:
        texts = texts | {"extended": "True"}
    sections = _settle_dataset(give_values(sections, (quicken(sections) if quick else {}) | texts))
    plans = [plan_section(section) for section in sections]
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    n_trained = _train(plans, started=started, origin=origin, command=command, say=say)
    say(f"executing {len(sections)} notebooks")
    executed = execute_notebooks(sections, folder / "notebooks")
    say("writing report.html and report.pdf")
    document = _merge(executed, started, origin)
    export_html(document, out=folder / "report.html")
    export_pdf(document, out=folder / "report.pdf")
    abstract = plans[0]  # whose design is that of the whole report; part 3 has runs of the same labels on other data
    return Made(
        html=folder / "report.html",
        pdf=folder / "report.pdf",
        notebooks=folder / "notebooks",
        accuracies=tabulate_accuracies(train(abstract.runs), abstract.design),
        n_trained=n_trained,
        seconds=time.time() - started,
        commit=origin.describe(digits=12),
    )


def make_section(name, texts, *, command, say, quick=False):
    """Make one section's HTML and executed notebook in `build_folder()/sections`, leaving the report alone.

    Arguments and errors as of `make_report`.
    """
    started, origin = time.time(), read_origin()
    section = pick_section(find_sections(extended=True), name)
    if quick:
        texts = quicken([section]) | texts
    sections = _settle_dataset(give_values([section], texts))
    plans = [plan_section(section) for section in sections]
    folder = build_folder() / "sections"
    folder.mkdir(parents=True, exist_ok=True)
    n_trained = _train(plans, started=started, origin=origin, command=command, say=say)
    say(f"executing {section.path.name}")
    executed = execute_notebooks(sections, folder)
    html = folder / f"{section.path.stem}.html"
    export_html(_merge(executed, started, origin, partial=True), out=html)
    return Made(
        html=html,
        pdf=None,
        notebooks=None,
        accuracies=None,
        n_trained=n_trained,
        seconds=time.time() - started,
    )


def quicken(sections):
    """Those of QUICK's values that a section declares."""
    return {name: text for name, text in QUICK.items() if any(name in section.declared for section in sections)}


def execute_notebooks(sections, folder):
    """Execute sections by papermill, as many at once as there are cores.

    A notebook is executed under a temporary name and then moved to folder, also when it raised: its traceback is in it.
    Returns the executed notebooks' paths. Raises NotebookError for the first, in order, that raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A section about the whole report is given values that its notebook does not declare, of which papermill warns.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    before = psutil.Process().children(recursive=True)
    with _findable_package(), ThreadPoolExecutor(CPU_COUNT) as pool:
        futures = [pool.submit(_execute, section, folder) for section in sections]
        try:
            return [future.result() for future in futures]
        except BaseException:
            # Kernels are in sessions of their own and hear no Ctrl-C; a thread waiting for one would never end.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(psutil.Process().children(recursive=True)) - set(before):
                process.kill()
            raise


@contextlib.contextmanager
def _findable_package():
    """Kernels find lrlib also where it is not installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project_folder()), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _kernel_settings(folder):
    """Have a kernel be talked to through socket files in a folder of its own.

    A TCP port that is free when it is looked for may be taken by another kernel when it is used.
    """
    kernels = {"NotebookClient": {"kernel_manager_class": SectionKernelManager}}
    if os.name != "posix":
        return Config(kernels)
    return Config(
        kernels | {"KernelManager": {"transport": "ipc", "connection_file": str(Path(folder) / "kernel.json")}}
    )


def _execute(section, folder):
    target = folder / section.path.name
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".executing-") as temporary,
        # The path of a socket file must be short, which a home or temporary folder's is not everywhere.
        tempfile.TemporaryDirectory(dir="/tmp" if os.name == "posix" else None, prefix="lrlib-") as sockets,
    ):
        output = Path(temporary) / section.path.name
        try:
            papermill.execute_notebook(
                section.path,
                output,
                parameters=section.values,
                cwd=section.path.parent,
                progress_bar=False,
                config=_kernel_settings(sockets),
                extra_arguments=["--IPKernelApp.log_level=50"],  # a kernel that is told to end says so as an error
            )
        except PapermillExecutionError as err:
            os.replace(output, target)
            raise NotebookError(
                f"section {section.name}: cell {err.cell_index} of {section.path.name} raised {err.ename}: {err.evalue}; "
                f"its traceback is in {target}"
            ) from err
        os.replace(output, target)
    return target


def _settle_dataset(sections):
    """Sections with "auto" replaced by the dataset that it stands for, so that all of them use the same one.

    Their other parameters are tried first, on the sample: a dataset may have to be downloaded.
    Raises ParameterError.
    """
    for section in sections:
        plan_section(_with_dataset(section, SAMPLE))
    asked = [section.values.get("dataset", section.declared["dataset"].default) for section in sections]
    try:
        chosen = {name: choose_dataset(name) for name in dict.fromkeys(asked)}
    except ValueError as err:
        raise ParameterError(str(err)) from err
    return [_with_dataset(section, chosen[name]) for section, name in zip(sections, asked)]


def _with_dataset(section, name):
    return replace(section, values={**section.values, "dataset": name})


def _train(plans, *, started, origin, command, say):
    start = time.time()
    runs = [run for plan in plans for run in plan.runs]
    results = train(runs)
    n_trained, training_seconds = results.n_computed, results.computed_seconds
    more = [run for plan in plans if plan.more_runs for run in plan.more_runs(train(plan.runs))]
    if more:
        results = train(runs + more)
        n_trained += results.n_computed
        training_seconds += results.computed_seconds
    making = Making(
        command=command,
        commit=origin.describe(),
        sources=origin.digest,
        started=started,
        n_trained=n_trained,
        training_seconds=training_seconds,
        training_wall_seconds=time.time() - start,
    )
    os.environ |= making.as_environment()
    say(f"{n_trained} epochs trained, {results.n_known - n_trained} from the store")
    return n_trained


def _merge(executed, started, origin, *, partial=False):
    document = merge_notebooks(executed, partial=partial)
    document.metadata["report"] = {
        **(TITLE if not partial else {}),
        "date": time.strftime("%-d %B %Y", time.gmtime(started)),
        "commit": origin.commit and origin.describe(digits=12),
    }
    return document
