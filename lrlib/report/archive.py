"""The made report as one file for an archive: an RO-Crate of page, PDF, executed notebooks, data, lock and checksums."""

import hashlib
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path

from lrlib.errors import LrlibError
from lrlib.project import project_folder
from lrlib.report.changes import read_outcome
from lrlib.report.citations import PREFIXES
from lrlib.report.notebook_files import nbformat
from lrlib.runs.store import write_whole

SUMS = "SHA256SUMS"
_TYPES = {
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".ipynb": "application/x-ipynb+json",
    ".csv": "text/csv",
    ".lock": "text/plain",
    ".bib": "application/x-bibtex",
    "": "text/plain",
}


class ArchiveError(LrlibError):
    """No report to archive, or no package to archive it with."""


def make_archive(build, out):
    """Write the report in the folder `build` as an RO-Crate to the zip file `out`; the same report gives the same bytes.

    Beside page, PDF and executed notebooks it has each figure's and table's data, the lock of the environment, the
    bibliography, the author's curves, and SHA256SUMS. Raises ArchiveError, OSError.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as err:
        raise ArchiveError("an archive needs the package rocrate; `pip install rocrate` adds it") from err
    files = collect_files(build)
    about = _read_about(files["report.html"].decode())
    crate = ROCrate()
    crate.name, crate.description = about["headline"], about.get("description", about["headline"])
    crate.datePublished, crate.license = about.get("datePublished", ""), about["license"]
    if about.get("version"):
        crate.root_dataset["version"] = about["version"]
    entities = {}
    for name, content in files.items():
        properties = {
            "name": _describe(name),
            "encodingFormat": _TYPES[Path(name).suffix],
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        entities[name] = crate.add_file(io.BytesIO(content), name, properties=properties)
    _add_making(crate, entities, about, read_outcome(Path(build) / "report.html"))
    with tempfile.TemporaryDirectory() as folder:
        crate.write(folder)
        written = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
        }
    write_whole(Path(out), _zip(written))


def collect_files(build):
    """name in the archive -> content. Raises ArchiveError where there is no whole report in the folder `build`."""
    build, project = Path(build), project_folder()
    notebooks = sorted((build / "notebooks").glob("*.ipynb"))
    missing = [path.name for path in (build / "report.html", build / "report.pdf") if not path.is_file()]
    if missing or not notebooks:
        raise ArchiveError(
            f"{build} holds no {missing[0] if missing else 'executed notebooks'}; `make report` makes them"
        )
    files = {name: (build / name).read_bytes() for name in ("report.html", "report.pdf")}
    for path in notebooks:
        files[f"notebooks/{path.name}"] = path.read_bytes()
        files |= _extract_data(nbformat.reads(files[f"notebooks/{path.name}"].decode(), as_version=4))
    files["data/author_curves.csv"] = (project / "lrlib" / "study" / "author_curves.csv").read_bytes()
    files["references.bib"] = (project / "report" / "references.bib").read_bytes()
    files["requirements.lock"] = (project / "requirements.lock").read_bytes()
    files["LICENSE"] = (project / "LICENSE").read_bytes()
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return files | {SUMS: "".join(sums).encode()}


def _extract_data(notebook):
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            report = output.get("metadata", {}).get("report", {})
            if report.get("kind") in PREFIXES and "text/csv" in output.data:
                found[f"data/{PREFIXES[report['kind']]}-{report['label']}.csv"] = output.data["text/csv"].encode()
    return found


def _read_about(page):
    """What the page says of itself in JSON-LD."""
    told = re.search(r'<script type="application/ld\+json">(.*?)</script>', page, re.S)
    if told is None:
        raise ArchiveError("report.html does not say what it is, in JSON-LD; `make report` makes one that does")
    return json.loads(told[1])


def _describe(name):
    path = Path(name)
    if path.parent.name == "data" and path.stem != "author_curves":
        kind, _, label = path.stem.partition("-")
        return f"Data of the {'figure' if kind == 'fig' else 'table'} “{label}”"
    return {
        "report.html": "The report as a page",
        "report.pdf": "The report as a PDF",
        "author_curves.csv": "The per-epoch values that the author's notebook printed",
        "references.bib": "Bibliography",
        "requirements.lock": "Exact versions of all packages",
        "LICENSE": "Licence",
        SUMS: "Checksums of all other files",
    }.get(path.name, f"Executed notebook {path.stem}")


def _add_making(crate, entities, about, outcome):
    from rocrate.model.softwareapplication import SoftwareApplication

    software = crate.add(
        SoftwareApplication(crate, "#lrlib", properties={"name": "lrlib", "version": about.get("version", "")})
    )
    crate.add_action(
        software,
        identifier="#making",
        object=[entities["requirements.lock"]],
        result=[entities["report.html"], entities["report.pdf"]],
        properties={
            "name": f"Making the report: {outcome.command}" if outcome and outcome.command else "Making the report",
            "endTime": about.get("datePublished", ""),
        },
    )


def _zip(files):
    """A zip of name -> content, without the clock."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files, key=lambda name: (name != "ro-crate-metadata.json", name)):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()
