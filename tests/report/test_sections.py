"""Section notebooks in people's hands: parameters, values, plans, and notebooks that cannot be used."""

import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.models import Parameter

from lrlib.report.documents import Document, ParameterError, list_documents, load_document
from lrlib.report.sections import (
    describe_command,
    find_sections,
    find_tagged,
    give_values,
    parse_assignments,
    parse_value,
    pick_section,
    plan_section,
    read_command,
)

PARAMETERS = """\
seeds: int = 1  # how many
epochs: int = 30
milestones: list[int] = [15, 25]  # after which
lr = 1e-1
schedules: list[str] = ["OneCycle(0.1, pct_start=0.2)"]
word: str = "a" * 2"""
RUNS = """\
from lrlib import Run
from lrlib.schedules import Constant

runs = [Run(Constant(lr), problem="lenet5_sample", epochs=epochs, seed=seed) for seed in range(seeds)]"""


def write(folder, number, parameters=PARAMETERS, runs=RUNS, name=None, **about):
    cells = [new_markdown_cell("# Title")]
    cells += [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    cells += [new_code_cell(runs, metadata={"tags": ["runs"]})] if runs else []
    about = {"section": number, "anchor": f"s{number.replace('.', '-')}", **about}
    path = folder / f"{name or number}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"lrlib": about}), path)
    return path


@pytest.fixture
def document(tmp_path):
    write(tmp_path, "", "epochs: int = 30", None, name="0-abstract", whole=True)
    write(tmp_path, "2.1")
    write(tmp_path, "10", "other: bool = False", None)
    return Document(tmp_path, "report")


def section_of(document, texts=(), name="2-1", **options):
    return pick_section(give_values(find_sections(document), dict(texts), **options), name)


def test_sections_stand_in_order_with_their_parameters(document):
    sections = find_sections(document)
    assert [section.name for section in sections] == ["0", "2-1", "10"]
    declared = sections[1].declared
    assert declared["seeds"] == Parameter("seeds", "int", 1, "how many")
    assert declared["milestones"] == Parameter("milestones", "list[int]", [15, 25], "after which")
    assert declared["lr"].inferred_type_name == "float" and declared["word"].default == "aa"
    assert declared["schedules"].default == ["OneCycle(0.1, pct_start=0.2)"]
    assert {"seeds", "other", "epochs"} <= sections[0].values.keys() | sections[0].declared.keys()


def test_a_value_reaches_every_section_that_declares_it_and_its_runs(document):
    texts = {"seeds": "2", "epochs": "20", "lr": "0.5"}
    assert section_of(document, texts, name="0").values["seeds"] == 2
    section = section_of(document, texts)
    assert [(run.seed, run.epochs, run.label) for run in plan_section(section)] == [
        (0, 20, "constant lr 0.5"), (1, 20, "constant lr 0.5")
    ]  # fmt: skip
    command = "make section NAME=2-1 SEEDS=2 EPOCHS=20 PARAMS=lr=0.5"
    assert describe_command(document, section) == command and read_command(command) == texts


def test_quick_values_give_way_to_given_ones(document):
    section = section_of(document, {"epochs": "16"}, quick={"epochs": 3, "seeds": 2, "nothing": 1})
    assert (section.values["epochs"], section.values["seeds"]) == (16, 2)


def test_assignments_may_hold_spaces_lists_and_calls():
    text = """a=[1, 2] b="x=1 y" schedules=["OneCycle(0.1, pct_start=0.2)", 'Constant(0.1)'] c=3"""
    assert parse_assignments(text) == {
        "a": "[1, 2]", "b": '"x=1 y"', "schedules": """["OneCycle(0.1, pct_start=0.2)", 'Constant(0.1)']""", "c": "3"
    }  # fmt: skip
    assert parse_assignments("  ") == {}
    for wrong in ("epochs", "epochs=", "=3", "a=1 a=2"):
        with pytest.raises(ParameterError):
            parse_assignments(wrong)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("int", "3", 3), ("float", "1", 1), ("str", "1", "1"), ("str", "'a b'", "a b"), ("bool", "True", True),
     ("list[float]", "[1, 0.5]", [1, 0.5]), ("list", "[1, 'a']", [1, "a"])],
)  # fmt: skip
def test_a_value_is_read_by_its_type(kind, text, value):
    assert parse_value(Parameter("x", kind, None, ""), text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1.5"), ("int", "True"), ("float", "x"), ("str", ""), ("bool", "1"), ("list[int]", "[1, 'a']"),
     ("list[int]", "3")],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_with_the_type_and_the_default(kind, text):
    with pytest.raises(ParameterError, match=f"x must be .*{kind.replace('[', '.')}.*default is 7 .hint"):
        parse_value(Parameter("x", kind, 7, "hint"), text)


def test_unknown_names_are_refused_with_the_nearest(document):
    with pytest.raises(ParameterError, match="'epoch'.*did you mean 'epochs'"):
        section_of(document, {"epoch": "3"})
    with pytest.raises(ParameterError, match="'2-2'.*did you mean '2-1'"):
        section_of(document, name="2-2")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("raise ValueError('lr must be less')", r"section 2-1: lr must be less \(given: epochs=5\)"),
        ("1 / 0", "section 2-1: ZeroDivisionError"),
        ("runs = 5", "section 2-1: .*list of Runs, got int"),
        (f"{RUNS}\nruns += [Run(Constant(lr + 1e-9), problem='lenet5_sample', epochs=5)]", "label 'constant lr 0.1'"),
    ],
)
def test_a_plan_that_cannot_be_made_names_its_section(document, runs, message):
    write(document.folder, "2.1", runs=runs)
    with pytest.raises(ParameterError, match=message):
        plan_section(section_of(document, {"epochs": "5"}))


def test_a_copy_and_an_unreadable_file_are_skipped_with_a_warning(document):
    shutil.copy(document.folder / "2.1.ipynb", document.folder / "2.1-Copy1.ipynb")
    (document.folder / "Untitled.ipynb").write_text("")
    with pytest.warns(UserWarning) as warned:
        found = [section.path.name for section in find_sections(document)]
    assert found == ["0-abstract.ipynb", "2.1.ipynb", "10.ipynb"]
    assert {str(warning.message).split()[0] for warning in warned} == {"2.1-Copy1.ipynb", "Untitled.ipynb"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("<<<<<<< HEAD\n{"), "not a valid notebook"),
        (lambda path: write(path.parent, "2.1", parameters="1 / 0"), "parameters cell raises ZeroDivisionError"),
        (lambda path: write(path.parent, "2.1", anchor="No Anchor"), "lrlib.anchor"),
        (lambda path: path.write_text(path.read_text().replace('"runs"', '"other"')), "lost the tag 'runs'"),
        (lambda path: path.write_text(path.read_text().replace('"parameters"', '"x"')), "lost the tag 'parameters'"),
        (lambda path: path.write_text(path.read_text().replace("# Title", "Title")), "first cell"),
    ],
)
def test_a_section_that_cannot_be_used_is_named(document, change, message):
    change(document.folder / "2.1.ipynb")
    with pytest.raises(ParameterError, match=f"2.1.ipynb.*{message}"):
        find_sections(document)


def test_the_project_s_documents_plan_their_quick_runs():
    names = [document.name for document in list_documents()]
    assert names[0] == "report" and len(set(names)) == len(names)
    for document in list_documents():
        for section in give_values(find_sections(document), {}, document.quick | {"dataset": "sample"}):
            assert bool(plan_section(section)) == (find_tagged(section.notebook, "runs") is not None)


@pytest.mark.parametrize("content", [None, "name = ", "title = 'x'\nname = 'y'"])
def test_a_folder_without_a_valid_document_toml_is_refused(tmp_path, content):
    if content:
        Path(tmp_path / "document.toml").write_text(content)
    with pytest.raises(ParameterError, match="document.toml"):
        load_document(tmp_path)
    assert load_document(ROOT / "notebooks").name == "report"
