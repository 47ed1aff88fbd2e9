"""From parameters to a document: plan, train, execute the notebooks, typeset.

All runs of all sections are trained first, together, so that every core has work; the notebooks then find their runs in
the cache. A notebook does not rely on that: it trains what is missing.
"""

import functools
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
from filelock import FileLock

from lrlib.errors import LrlibError
from lrlib.problems.data import SAMPLE, choose_dataset
from lrlib.project import build_folder
from lrlib.report.documents import Document, ParameterError
from lrlib.report.execution import execute_notebooks
from lrlib.report.page.html import export_html
from lrlib.report.page.merge import merge_notebooks
from lrlib.report.page.pdf import export_pdf
from lrlib.report.provenance import MAKING, Making, read_origin
from lrlib.report.publish import Outcome, list_outputs, publish_document, read_outcome, take_outcome
from lrlib.report.sections import describe_command, find_sections, give_values, pick_section, plan_section, read_command
from lrlib.runs import published
from lrlib.runs.store import write_whole
from lrlib.runs.trainer import train

NEEDED_BYTES = 16 * 2**20  # for executed notebooks, page and PDF

say = functools.partial(print, file=sys.stderr, flush=True)  # about the progress


def make_document(
    document: Document,
    texts: dict[str, str],
    *,
    command: str,
    section: str = "",
    quick: bool = False,
    results: str = "",
    publish: bool = False,
) -> tuple[list[Path], Outcome]:
    """Make a document's page and PDF in `build_folder()`, beside the executed notebooks; or one section's page.

    Returns the paths of what was made, and what it found.

    Args:
        document: the document.
        texts: parameter name -> value as written on the command line.
        command: the command that makes this document.
        section: the name of the section to make, into `build_folder()/sections`; "" for the document.
        quick: whether to use the document's quick values.
        results: "published" or a file of results that are used instead of training; with "published", values that are
            not given are those of the published document.
        publish: whether to copy the document to `report/` and fill its README.

    Raises LrlibError for bad parameters, and OSError for folders that cannot be written, before anything is trained.
    """
    started, origin, build = time.time(), read_origin(), build_folder()
    sections = find_sections(document)
    sections = [pick_section(sections, section)] if section else sections
    sections = _settle(document, sections, texts, quick=quick, results=results)
    runs = [run for each in sections for run in plan_section(each)]
    for folder in (build, *(document.published.parent, document.readme.parent) * publish):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(NEEDED_BYTES))
    trained = train(runs)
    n_trained = trained.n_computed
    say(f"{n_trained} epochs trained, {trained.n_known - n_trained} from the cache or published results")
    notice = ""
    if trained.published and (used := published.asked_for()):
        n = trained.n_unpublished
        notice = f"From {used.describe()}; {f'other epochs: {n},' if n else 'nothing was'} trained on this machine."
    making = Making(command, origin.describe(), started, n_trained, trained.computed_seconds, notice)
    os.environ[MAKING] = json.dumps(asdict(making))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say(f"executing {len(sections)} notebook{'s' * (len(sections) > 1)}")
        executed = execute_notebooks(sections, folder / "notebooks", failed=build / "failed")
        outputs = list_outputs(nbformat.read(path, as_version=4) for path in executed)
        outcome = take_outcome(outputs, command=command, commit=origin.describe())
        say("typesetting")
        name, target = (executed[0].stem, build / "sections") if section else (document.name, build)
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
            export_html(merged, out=folder / f"{name}.html")
            if not section:
                export_pdf(merged, out=folder / f"{name}.pdf")
        except ValueError as err:
            raise LrlibError(f"the notebooks cannot be typeset: {err}") from err
        kept = target / ("notebooks" if section or document.name == "report" else f"{document.name}-notebooks")
        with FileLock(build / ".lock"):
            if not section:
                shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True, exist_ok=True)
            paths = [target / path.name for path in sorted(folder.glob(f"{name}.*"))]
            for path in paths:
                write_whole(path, (folder / path.name).read_bytes())
            for path in executed:
                write_whole(kept / path.name, path.read_bytes())
            if publish:
                paths = publish_document(document, paths, outputs, outcome, runs)
    return paths, outcome


def _settle(document, sections, texts, *, quick, results):
    """Sections with their values, all with the same dataset, and the commands that make them in their metadata."""
    if results:
        os.environ[published.VARIABLE] = str(document.results if results == "published" else Path(results).absolute())
    if results == "published" and (outcome := read_outcome(document.published)):
        names = {name for section in sections for name in section.declared}
        texts = {name: text for name, text in read_command(outcome.command).items() if name in names} | texts
    values = document.quick if quick else {}
    if "epochs" in texts:  # its lists are of epochs, and fit its own number of them
        values = {name: value for name, value in values.items() if not isinstance(value, list)}
    sections = give_values(sections, texts, values)
    for section in sections:  # bad values are refused before a dataset is downloaded
        plan_section(replace(section, values=section.values | {"dataset": SAMPLE}))
    for section in sections:
        try:
            if "dataset" in section.values:
                section.values["dataset"] = choose_dataset(section.values["dataset"])
        except ValueError as err:
            raise ParameterError(f"section {section.name}: {err}") from err
        section.notebook.metadata.lrlib["command"] = describe_command(document, section)
    return sections
