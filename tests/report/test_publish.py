"""Publishing, what changed since, and the cache of trained epochs beside what is published."""

import os
import re

import nbformat
import pytest
from in_process import train_in_process
from made_documents import SVG, figure, shows, table, words
from nbformat.v4 import new_output

from lrlib import Run
from lrlib.errors import LrlibError
from lrlib.report import publish, stored
from lrlib.report.documents import Document, list_documents
from lrlib.runs import published
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import Store, StoreError
from lrlib.schedules import Constant

README = "# T\n" + "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in ("accuracies", "curve", "made"))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A made document of a project in tmp_path, whose README lies in a folder of its own."""
    (tmp_path / "report").mkdir()
    monkeypatch.setattr("lrlib.report.documents.project_folder", lambda: tmp_path)
    monkeypatch.setenv("LRLIB_STORE", str(tmp_path / "store"))
    run = Run(Constant(0.1), problem="lenet5_sample", epochs=1)
    train_in_process(monkeypatch)([run], progress=False)
    folder = tmp_path / "bench" / "notebooks"
    folder.mkdir(parents=True)
    (folder.parent / "README.md").write_text(README)
    paths = [tmp_path / name for name in ("study.html", "study.pdf")]
    for path in paths:
        path.write_text(path.name)
    shown = [table("accuracies", "| a |\n|:------|\n| 1 |"), figure("curve", alt="A\nline.")]
    return Document(folder, "study"), paths, shown, publish.Outcome(command="make publish", commit="abc, clean"), [run]


def test_publishing_copies_the_files_and_fills_the_readme(made, tmp_path):
    document = made[0]
    assert [path.read_text() for path in publish.publish_document(*made)] == ["study.html", "study.pdf"]
    assert (tmp_path / "report" / "curve.svg").read_text() == SVG
    text = document.readme.read_text()
    assert "-->\n| a |\n|:---|\n| 1 |\n<!--" in text and "old" not in text
    assert "![A line.](../report/curve.svg)" in text and "`make publish`" in text and "`abc, clean`" in text
    assert [run.label for run in published.read(document.results).runs] == ["constant lr 0.1"]
    publish.publish_document(*made)
    assert document.readme.read_text() == text


def test_a_readme_that_names_an_unknown_output_is_refused_before_anything_is_copied(made, tmp_path):
    document = made[0]
    document.readme.write_text("<!-- none -->\n<!-- /none -->")
    with pytest.raises(LrlibError, match="'none'.*accuracies, curve"):
        publish.publish_document(*made)
    assert list((tmp_path / "report").iterdir()) == []


def test_a_block_is_filled_as_it_is():
    text = "a\n<!-- x -->\nold\n<!-- /x -->\n<!-- y -->\n<!-- /y -->\n"
    assert publish.fill_block(text, "x", "\\1 new\n") == text.replace("old", "\\1 new")
    with pytest.raises(LrlibError):
        publish.fill_block(text, "z", "")


def test_an_outcome_is_taken_from_findings_and_compared():
    found = words("F", "findings", verdicts={"C1": "reproduced"}, values={"accuracy": "99.1 %"})
    outputs = publish.list_outputs([nbformat.v4.new_notebook(cells=[shows(new_output("stream"), found)])])
    now = publish.take_outcome(outputs, command="make report", commit="c")
    assert now == publish.Outcome({"C1": "reproduced"}, {"accuracy": "99.1 %"}, "make report", "c")
    assert now.summarize() == ["accuracy: 99.1 %", "reproduced: 1"]
    before = publish.Outcome({"C1": "inconclusive", "C2": "x"}, {"accuracy": "99.1 %"}, "make publish", "d" * 40)
    heading, *changed = publish.list_changes(before, now)
    assert "d" * 12 in heading and changed == ["  C1 changed from inconclusive to reproduced"]
    assert publish.list_changes(now, now) == publish.list_changes(None, now) == []


def test_readmes_name_outputs_that_their_documents_have():
    for document in list_documents():
        labels = set(re.findall(r"<!-- ([a-z0-9-]+) -->", document.readme.read_text(encoding="utf-8"))) - {"made"}
        code = "".join(path.read_text(encoding="utf-8") for path in document.folder.glob("*.ipynb"))
        assert {label for label in labels if f'label=\\"{label}\\"' not in code} == set()


def test_pruning_removes_what_no_published_document_needs(tmp_path, monkeypatch):
    store = Store(tmp_path)
    needed, other = (Run(Constant(lr), problem="lenet5_sample", epochs=1) for lr in (0.1, 0.2))
    train_in_process(monkeypatch)([needed, other], store=store, progress=False)
    assert re.search(r": 2 epochs, .*; 1 of the 1 epochs of the published", stored.list_store(store, [needed]))
    assert stored.prune_store(store, [needed]).startswith("removed 0 files") and len(store.list_files()) == 2
    for name in store.list_files():
        os.utime(store.path(name), (0, 0))
    assert stored.prune_store(store, [needed], dry_run=True).startswith("would remove 1 files")
    assert stored.prune_store(store, [needed]).startswith("removed 1 files")
    assert list(store.list_files()) == [epoch.name for epoch in plan_epochs(needed)]
    with pytest.raises(StoreError, match="no epoch of the published documents"):
        stored.prune_store(store, [other])
