"""The way from parameters to a report: plan, train, execute the notebooks, assemble.

All runs of all sections are trained at once, so that every core has work to the end and one bar shows all of it;
the notebooks then find their runs in the store. A notebook does not rely on that: what is missing it trains itself.
"""

import contextlib
import importlib.util
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.project import build_folder
from lrlib.report.execution import execute_notebooks
from lrlib.report.folders import move, naming, own_folder, sole
from lrlib.report.need import add_seeds, give_seeds, read_limit, refuse_auto
from lrlib.report.parameters import ParameterError
from lrlib.report.plans import plan_section
from lrlib.report.provenance import Making
from lrlib.report.sections import find_sections, give_values, pick_section
from lrlib.report.sources import read_origin
from lrlib.runs.trainer import train
from lrlib.study.experiments import Design
from lrlib.study.readings import tabulate_accuracies

# A look at the whole report in a minute or two: few epochs, on the embedded sample.
QUICK = {
    "dataset": "sample",
    "epochs": "5",
    "range_epochs": "4",
    "turning_points": "[1, 3, 4]",
    "milestones": "[3, 4]",
}


# What lrlib.report.assembly needs and nothing before it does: looked for before anything is trained.
ASSEMBLED_WITH = ("IPython", "matplotlib", "nbconvert", "pypandoc", "typst")


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


def make_report(texts, *, command, say, quick=False, then=None):
    """Make report.html and report.pdf in `build_folder()`, with the executed notebooks beside them.

    It is made in a folder of its own, so that of two reports at once each is whole; the later to finish stands.
    texts: parameter name -> value as written on the command line. command: what makes this very report again.
    say: called with each line that a person should see while it runs. then: called with what was
    made, before another report can take its place.
    Raises ParameterError, BuildError and StoreError before anything is trained; DatasetError, EngineError,
    NotebookError, ReportError.
    """
    started, origin = time.time(), read_origin()
    _look_for_assembly()
    sections = find_sections()
    texts, limit = read_limit(texts)
    defaults = quicken(sections) if quick else {}
    sections = _settle_dataset(give_values(sections, texts, defaults=defaults))
    plans = [plan_section(section) for section in sections]
    if sections[0].number != "" or not isinstance(plans[0].design, Design):
        raise ParameterError(
            "the report has no abstract, whose design is the whole report's; put notebooks/0-abstract.ipynb back, "
            'whose metadata has lrlib.section "" and whose runs cell makes `design`'
        )
    build = build_folder()
    with own_folder(build) as folder:
        looked = []
        if limit:
            seeds, looked = add_seeds(plans[0].design, limit, train=train, say=say)
            sections = give_seeds(sections, seeds)
            plans = [plan_section(section) for section in sections]
        making = _train(plans, looked, started=started, origin=origin, command=command, say=say)
        say(f"executing {len(sections)} notebooks")
        _import_assembly()
        with naming(build):
            executed = execute_notebooks(
                sections, folder / "notebooks", failed=build / "failed", environment=making.as_environment()
            )
            say("writing report.html and report.pdf")
            from lrlib.report.assembly import write_report

            write_report(executed, folder, started=started, origin=origin)
        design = plans[0].design
        made = Made(
            html=build / "report.html",
            pdf=build / "report.pdf",
            notebooks=build / "notebooks",
            accuracies=tabulate_accuracies(train(design.all_runs()), design),
            n_trained=making.n_trained,
            seconds=time.time() - started,
            commit=origin.describe(digits=12),
        )
        with sole(build):
            with naming(build):
                for target in (made.notebooks, made.html, made.pdf):
                    move(folder / target.name, target)
            if then:
                then(made)
    return made


def make_section(name, texts, *, command, say, quick=False):
    """Make one section's HTML and executed notebook in `build_folder()/sections`, leaving the report alone.

    Arguments and errors as of `make_report`.
    """
    started, origin = time.time(), read_origin()
    _look_for_assembly()
    section = pick_section(find_sections(), name)
    refuse_auto(texts, section.name)
    sections = _settle_dataset(give_values([section], texts, defaults=quicken([section]) if quick else {}))
    plans = [plan_section(section) for section in sections]
    build = build_folder()
    with own_folder(build) as folder:
        making = _train(plans, [], started=started, origin=origin, command=command, say=say)
        say(f"executing {section.path.name}")
        _import_assembly()
        with naming(build):
            [executed] = execute_notebooks(
                sections, folder / "notebooks", failed=build / "sections", environment=making.as_environment()
            )
            from lrlib.report.assembly import write_section

            page = write_section(executed, started=started, origin=origin)
            with sole(build):
                (build / "sections").mkdir(exist_ok=True)
                for path in (executed, page):
                    move(path, build / "sections" / path.name)
    return Made(
        html=build / "sections" / page.name,
        pdf=None,
        notebooks=None,
        accuracies=None,
        n_trained=making.n_trained,
        seconds=time.time() - started,
    )


def quicken(sections):
    """Those of QUICK's values that a section declares."""
    return {name: text for name, text in QUICK.items() if any(name in section.declared for section in sections)}


def _settle_dataset(sections):
    """Sections with "auto" replaced by the dataset that it stands for, so that all of them use the same one.

    Their other parameters are tried first, on the sample: a dataset may have to be downloaded.
    Raises ParameterError.
    """
    for section in sections:
        plan_section(_with_dataset(section, SAMPLE), trial=True)
    settled = []
    for section in sections:
        if "dataset" in section.declared:
            try:
                chosen = choose_dataset(section.values.get("dataset", section.declared["dataset"].default))
            except ValueError as err:
                raise ParameterError(f"section {section.name}: {err}") from err
            section = _with_dataset(section, chosen)
        settled.append(section)
    return settled


def _with_dataset(section, name):
    if "dataset" not in section.declared:
        return section
    return replace(section, values={**section.values, "dataset": name})


def _train(plans, looked, *, started, origin, command, say):
    """Train what the plans ask for. Returns its Making. looked: Results of what was trained for it already."""
    runs = [run for plan in plans for run in plan.runs]
    trained = [*looked, train(runs)]
    more = [run for plan in plans if plan.more_runs for run in plan.more_runs(train(plan.runs))]
    if more:
        trained.append(train(runs + more))
    n_trained = sum(results.n_computed for results in trained)
    making = Making(
        command=command,
        commit=origin.describe(),
        sources=origin.digest,
        started=started,
        n_trained=n_trained,
        training_seconds=sum(results.computed_seconds for results in trained),
    )
    say(f"{n_trained} epochs trained, {trained[-1].n_known - n_trained} from the store")
    return making


def _look_for_assembly():
    """Raises ModuleNotFoundError for a package that would be missed only when all is trained and executed."""
    for name in ASSEMBLED_WITH:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _import_assembly():
    """Begin to import what puts sections together, which is not needed before they are executed."""

    def begin():
        with contextlib.suppress(ImportError):  # which is raised where it is used
            importlib.import_module("lrlib.report.assembly")

    threading.Thread(target=begin, daemon=True).start()
