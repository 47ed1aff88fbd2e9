import hashlib
import json
import sys
import zipfile

import pytest
from test_document import figure, prose, shows, table, write_section

from lrlib.report.archive import ArchiveError, make_archive
from lrlib.report.document import merge_notebooks
from lrlib.report.export_html import export_html
from lrlib.report.export_pdf import export_pdf


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    (folder / "notebooks").mkdir()
    cells = [prose("# A\n\nAfter @smith2017."), shows(figure("one"), table("t"))]
    section = write_section(folder / "notebooks", "1-a", "1", "a", cells)
    document = merge_notebooks([section])
    document.metadata["report"] = {"title": "T", "subtitle": "S", "date": "25 November 2026", "commit": "abc, clean"}
    export_html(document, out=folder / "report.html")
    export_pdf(document, out=folder / "report.pdf")
    return folder


@pytest.fixture(scope="module")
def crate(build, tmp_path_factory):
    pytest.importorskip("rocrate", reason="rocrate is not installed; the report extra brings it")
    out = tmp_path_factory.mktemp("crate") / "crate.zip"
    make_archive(build, out)
    return out


def test_the_crate_holds_the_report_and_what_it_is_made_of(crate, build):
    with zipfile.ZipFile(crate) as archive:
        names = set(archive.namelist())
        assert archive.read("report.html") == (build / "report.html").read_bytes()
        assert archive.read("data/fig-one.csv") == b"x,y\n1,2\n"
    assert names == {
        "ro-crate-metadata.json",
        "report.html",
        "report.pdf",
        "notebooks/1-a.ipynb",
        "data/fig-one.csv",
        "data/tbl-t.csv",
        "data/author_curves.csv",
        "references.bib",
        "requirements.lock",
        "LICENSE",
        "SHA256SUMS",
    }


def test_the_checksums_are_those_of_all_other_files(crate):
    with zipfile.ZipFile(crate) as archive:
        sums = dict(reversed(line.split("  ")) for line in archive.read("SHA256SUMS").decode().splitlines())
        for name, digest in sums.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        assert set(sums) == set(archive.namelist()) - {"SHA256SUMS", "ro-crate-metadata.json"}


def test_the_metadata_names_every_file_and_what_made_the_report(crate, tmp_path):
    from rocrate.rocrate import ROCrate

    with zipfile.ZipFile(crate) as archive:
        archive.extractall(tmp_path)
        names = set(archive.namelist())
    found = ROCrate(tmp_path)
    assert (found.name, str(found.root_dataset["datePublished"])[:10]) == ("T", "2026-11-25")
    graph = json.loads((tmp_path / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert names - {"ro-crate-metadata.json"} <= set(entities)
    assert entities["report.html"]["encodingFormat"] == "text/html"
    assert {item["@id"] for item in entities["#making"]["result"]} == {"report.html", "report.pdf"}
    assert entities["#lrlib"]["version"] == "abc, clean"


def test_the_same_report_gives_the_same_archive(crate, build, tmp_path):
    make_archive(build, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == crate.read_bytes()


def test_without_a_report_or_the_package_the_error_says_what_to_do(build, tmp_path, monkeypatch):
    pytest.importorskip("rocrate", reason="rocrate is not installed; the report extra brings it")
    with pytest.raises(ArchiveError, match="holds no report.html; `make report` makes them"):
        make_archive(tmp_path, tmp_path / "crate.zip")
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(ArchiveError, match="needs the package rocrate; `pip install rocrate` adds it"):
        make_archive(build, tmp_path / "crate.zip")
    assert not (tmp_path / "crate.zip").exists()
