"""From parameters to a document: plan, train, execute the notebooks, typeset.

All runs of all sections are trained first, together, so that every core has work; the notebooks then find their runs in
the cache. A notebook does not rely on that: it trains what is missing.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nbformat
from filelock import FileLock

from lrlib.errors import LrlibError
from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.project import build_folder
from lrlib.report.documents import Document, ParameterError
from lrlib.report.execution import execute_notebooks
from lrlib.report.outcome import Outcome, read_outcome, take_outcome
from lrlib.report.page.html import export_html
from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.pdf import export_pdf
from lrlib.report.provenance import Making, read_origin
from lrlib.report.sections import (
    Section,
    describe_command,
    find_sections,
    give_values,
    pick_section,
    plan_section,
    read_command,
)
from lrlib.runs import published
from lrlib.runs.plan import Run
from lrlib.runs.results import Results
from lrlib.runs.trainer import train

NEEDED_BYTES = 16 * 2**20  # for executed notebooks, page and PDF


class BuildError(LrlibError):
    """A build folder that cannot be written, or notebooks that cannot be typeset."""


@dataclass(frozen=True)
class Made:
    """The files that were made, what the document found, and the runs that it is about."""

    paths: list[Path]
    notebooks: Path
    outcome: Outcome
    runs: list[Run]


def make_document(
    document: Document,
    texts: dict[str, str],
    *,
    command: str,
    say: Callable[[str], object],
    section: str = "",
    quick: bool = False,
    results: str = "",
    then: Callable[[Made], object] | None = None,
) -> Made:
    """Make a document's page and PDF in `build_folder()`, beside the executed notebooks; or one section's page.

    Args:
        document: the document.
        texts: parameter name -> value as written on the command line.
        command: the command that makes this document.
        say: called with lines about the progress.
        section: the name of the section to make, into `build_folder()/sections`; "" for the document.
        quick: whether to use the document's quick values.
        results: "published" or a file of results that are used instead of training; with "published", values that are
            not given are those of the published document.
        then: called with what was made, before another process can replace it.

    Raises LrlibError: for bad parameters and folders before anything is trained.
    """
    started, origin, build = time.time(), read_origin(), build_folder()
    sections = find_sections(document)
    sections = [pick_section(sections, section)] if section else sections
    sections = _settle(document, sections, texts, quick=quick, results=results)
    plans = [plan_section(each) for each in sections]
    _check_writable(build)
    trained, runs = _train(plans)
    n_trained = sum(each.n_computed for each in trained)
    say(f"{n_trained} epochs trained, {trained[-1].n_known - n_trained} from the cache or published results")
    notice = _describe_results(trained[-1], n_trained)
    seconds = sum(each.computed_seconds for each in trained)
    Making(command, origin.describe(), origin.digest, started, n_trained, seconds, notice).publish()
    with _naming(build), tempfile.TemporaryDirectory(dir=build, prefix=".making-") as temporary:
        folder = Path(temporary)
        say(f"executing {len(sections)} notebook{'s' * (len(sections) > 1)}")
        executed = execute_notebooks(sections, folder / "notebooks", failed=build / "failed")
        notebooks = [nbformat.read(path, as_version=4) for path in executed]
        outcome = take_outcome(notebooks, command=command, commit=origin.describe())
        say("typesetting")
        try:
            merged = merge_notebooks(executed, partial=bool(section))
            merged.metadata["report"] = {
                "subtitle": "" if section else document.subtitle,
                "pdf": "" if section else f"{document.name}.pdf",
                "date": time.strftime("%-d %B %Y", time.gmtime(started)),
                "commit": origin.commit and origin.describe(digits=12),
                "command": command,
                "notice": notice,
                "outcome": asdict(outcome),
            }
            name = executed[0].stem if section else document.name
            export_html(merged, out=folder / f"{name}.html")
            if not section:
                export_pdf(merged, out=folder / f"{name}.pdf")
        except ValueError as err:
            raise BuildError(f"the notebooks cannot be typeset: {err}") from err
        target = build / "sections" if section else build
        target.mkdir(exist_ok=True)
        with FileLock(build / ".lock"):
            paths = [target / path.name for path in sorted(folder.glob(f"{name}.*"))]
            for path in paths:
                os.replace(folder / path.name, path)
            kept = target / ("notebooks" if section or document.name == "report" else f"{document.name}-notebooks")
            if section:
                kept.mkdir(exist_ok=True)
                os.replace(executed[0], kept / executed[0].name)
            else:
                _replace_folder(folder / "notebooks", kept)
            made = Made(paths, kept, outcome, runs)
            if then:
                then(made)
    return made


def _settle(document, sections, texts, *, quick, results) -> list[Section]:
    """Sections with their values, all with the same dataset, and the commands that make them in their metadata."""
    if results:
        os.environ[published.VARIABLE] = str(document.results if results == "published" else Path(results).absolute())
    if results == "published" and (outcome := read_outcome(document.published)):
        names = {name for section in sections for name in section.declared}
        texts = {name: text for name, text in read_command(outcome.command).items() if name in names} | texts
    values = document.quick if quick else None
    sections = give_values(sections, texts, quick=values, within_epochs=document.within_epochs)
    for section in sections:  # bad values are refused before a dataset is downloaded
        plan_section(_with_dataset(section, SAMPLE))
    settled = []
    for section in sections:
        try:
            settled.append(_with_dataset(section, choose_dataset(section.all_values().get("dataset", SAMPLE))))
        except ValueError as err:
            raise ParameterError(f"section {section.name}: {err}") from err
        section.about["command"] = describe_command(document, settled[-1])
    return settled


def _with_dataset(section: Section, name: str) -> Section:
    return replace(section, values=section.values | {"dataset": name}) if "dataset" in section.declared else section


def _describe_results(trained: Results, n_trained: int) -> str:
    """What the page says first where published results are used."""
    found = published.asked_for()
    if found is None or not trained.published:
        return ""
    rest = f"{n_trained} other epochs were" if n_trained else "nothing was"
    return f"From {found.describe()}; {rest} trained on this machine."


def _train(plans) -> tuple[list[Results], list[Run]]:
    """Train what the plans ask for. Returns Results, the last of all runs, and these."""
    runs = [run for wanted, _ in plans for run in wanted]
    trained = [train(runs)]
    more = [run for wanted, more_runs in plans if more_runs for run in more_runs(train(wanted))]
    if more:
        trained.append(train(runs + more))
    return trained, runs + more


def _check_writable(build: Path) -> None:
    """Raise BuildError unless a document can be written; remove what killed processes left more than a day ago."""
    with _naming(build):
        build.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=build) as file:
            file.write(bytes(NEEDED_BYTES))
        for left in build.glob(".making-*"):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _naming(build: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise BuildError(
            f"cannot make the document in {build} ({err.filename}: {err.strerror or err}); free space or permit "
            "writing there, or set LRLIB_BUILD to another folder"
        ) from err


def _replace_folder(source: Path, target: Path) -> None:
    if target.exists():
        os.replace(target, source.with_name("replaced"))
    os.replace(source, target)
