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
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from filelock import FileLock

from lrlib.errors import LrlibError
from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.project import build_folder
from lrlib.report.documents import Document, ParameterError
from lrlib.report.execution import execute_notebooks
from lrlib.report.outcome import Outcome, take_outcome
from lrlib.report.page.html import export_html
from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.pdf import export_pdf
from lrlib.report.provenance import Making, Origin, read_origin
from lrlib.report.sections import Section, describe_command, find_sections, give_values, pick_section, plan_section
from lrlib.runs.trainer import train

NEEDED_BYTES = 16 * 2**20  # for executed notebooks, page and PDF


class BuildError(LrlibError):
    """A build folder that cannot be written."""


@dataclass(frozen=True)
class Made:
    """The files that were made, and what the document found."""

    paths: list[Path]
    notebooks: Path
    outcome: Outcome


def make_document(
    document: Document,
    texts: dict[str, str],
    *,
    command: str,
    say: Callable[[str], object],
    quick: bool = False,
    then: Callable[[Made], object] | None = None,
) -> Made:
    """Make a document's page and PDF in `build_folder()`, with the executed notebooks beside them.

    Args:
        document: the document.
        texts: parameter name -> value as written on the command line.
        command: the command that makes this document.
        say: called with lines about the progress.
        quick: whether to use the document's quick values.
        then: called with what was made, before another process can replace it.

    Raises LrlibError: bad parameters and folders before anything is trained.
    """
    sections = [section for section in find_sections(document) if not section.about.get("extended")]
    with _making(document, sections, texts, command=command, say=say, quick=quick) as (executed, folder, about):
        merged = merge_notebooks(executed)
        merged.metadata["report"] = {**about, "subtitle": document.subtitle}
        export_html(merged, out=folder / f"{document.name}.html")
        export_pdf(merged, out=folder / f"{document.name}.pdf")
        build, targets = build_folder(), [f"{document.name}.html", f"{document.name}.pdf"]
        with FileLock(build / ".lock"):
            for name in targets:
                os.replace(folder / name, build / name)
            notebooks = build / ("notebooks" if document.name == "report" else f"{document.name}-notebooks")
            _replace_folder(folder / "notebooks", notebooks)
            made = Made([build / name for name in targets], notebooks, Outcome(**about["outcome"]))
            if then:
                then(made)
    return made


def make_section(
    document: Document, name: str, texts: dict[str, str], *, command: str, say: Callable[[str], object], quick: bool = False
) -> Made:
    """Make the page of one section in `build_folder()/sections`; arguments and errors as of `make_document`."""
    section = pick_section(find_sections(document), name)
    with _making(document, [section], texts, command=command, say=say, quick=quick) as (executed, folder, about):
        merged = merge_notebooks(executed, partial=True)
        merged.metadata["report"] = about
        page = executed[0].with_suffix(".html")
        export_html(merged, out=page)
        target = build_folder() / "sections"
        target.mkdir(exist_ok=True)
        for path in (executed[0], page):
            os.replace(path, target / path.name)
    return Made([target / page.name], target, Outcome(**about["outcome"]))


@contextlib.contextmanager
def _making(document, sections, texts, *, command, say, quick) -> Iterator[tuple[list[Path], Path, dict]]:
    """Plan, train and execute sections. Yields the executed notebooks, the folder around them, and what made them."""
    started, origin = time.time(), read_origin()
    sections = give_values(sections, texts, quick=document.quick if quick else None, within_epochs=document.within_epochs)
    for section in sections:  # bad values are refused before a dataset is downloaded
        plan_section(_with_dataset(section, SAMPLE))
    sections = [_settle_dataset(section) for section in sections]
    plans = [plan_section(section) for section in sections]
    for section in sections:
        section.about["command"] = describe_command(document, section)
    build = build_folder()
    _check_writable(build)
    making = _train(plans, started=started, origin=origin, command=command, say=say)
    making.publish()
    with _naming(build), tempfile.TemporaryDirectory(dir=build, prefix=".making-") as folder:
        say(f"executing {len(sections)} notebook{'s' * (len(sections) > 1)}")
        executed = execute_notebooks(sections, Path(folder) / "notebooks", failed=build / "failed")
        outcome = take_outcome(
            [nbformat.read(path, as_version=4) for path in executed], command=command, commit=making.commit
        )
        about = {
            "date": time.strftime("%-d %B %Y", time.gmtime(started)),
            "commit": origin.commit and origin.describe(digits=12),
            "command": command,
            "outcome": outcome.__dict__,
        }
        say("typesetting")
        try:
            yield executed, Path(folder), about
        except ValueError as err:
            raise BuildError(f"the notebooks cannot be typeset: {err}") from err


def _settle_dataset(section: Section) -> Section:
    """A section with "auto" replaced by the dataset that it stands for, so that all sections use the same one."""
    try:
        return _with_dataset(section, choose_dataset(section.all_values().get("dataset", SAMPLE)))
    except ValueError as err:
        raise ParameterError(f"section {section.name}: {err}") from err


def _with_dataset(section: Section, name: str) -> Section:
    return replace(section, values=section.values | {"dataset": name}) if "dataset" in section.declared else section


def _train(plans, *, started, origin: Origin, command, say) -> Making:
    runs = [run for plan in plans for run in plan.runs]
    trained = [train(runs)]
    more = [run for plan in plans if plan.more_runs for run in plan.more_runs(train(plan.runs))]
    if more:
        trained.append(train(runs + more))
    n_trained = sum(results.n_computed for results in trained)
    say(f"{n_trained} epochs trained, {trained[-1].n_known - n_trained} from the cache")
    seconds = sum(results.computed_seconds for results in trained)
    return Making(command, origin.describe(), origin.digest, started, n_trained, seconds)


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
            f"cannot write the build folder {build} ({err.strerror or err}); free space or permit writing there, or set "
            "LRLIB_BUILD to another folder"
        ) from err


def _replace_folder(source: Path, target: Path) -> None:
    if target.exists():
        os.replace(target, source.with_name("replaced"))
    os.replace(source, target)
