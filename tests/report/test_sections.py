"""Section notebooks in people's hands: parameters, values, plans, and notebooks that cannot be used."""

import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.models import Parameter

from lrlib.report import sections
from lrlib.report.documents import Document, ParameterError, list_documents, load_document
from lrlib.report.page.citations import find_numbers

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
    return sections.pick_section(sections.give_values(sections.find_sections(document), dict(texts), **options), name)


def test_sections_stand_in_order_with_their_parameters(document):
    found = sections.find_sections(document)
    assert [section.name for section in found] == ["0", "2-1", "10"]
    declared = found[1].declared
    assert declared["seeds"] == Parameter("seeds", "int", 1, "how many")
    assert declared["milestones"] == Parameter("milestones", "list[int]", [15, 25], "after which")
    assert declared["lr"].inferred_type_name == "float" and declared["word"].default == "aa"
    assert declared["schedules"].default == ["OneCycle(0.1, pct_start=0.2)"]
    assert {"seeds", "other", "epochs"} <= found[0].declared.keys()


def test_a_value_reaches_every_section_that_declares_it_and_its_runs(document):
    texts = {"seeds": "2", "epochs": "20", "lr": "0.5"}
    assert section_of(document, texts, name="0").values["seeds"] == 2
    section = section_of(document, texts)
    assert [(run.seed, run.epochs, run.label) for run in sections.plan_section(section)] == [
        (0, 20, "constant lr 0.5"), (1, 20, "constant lr 0.5")
    ]  # fmt: skip
    command = "make section NAME=2-1 SEEDS=2 EPOCHS=20 PARAMS=lr=0.5"
    assert sections.describe_command(document, section) == command and sections.read_command(command) == texts
    section = section_of(document, {"epochs": "16"}, quick={"epochs": 3, "seeds": 2, "nothing": 1})
    assert (section.values["epochs"], section.values["seeds"]) == (16, 2)


@pytest.mark.filterwarnings("error")
def test_sections_that_differ_in_a_value_of_their_own_are_named_unless_it_is_given(document):
    write(document.folder, "2.2", PARAMETERS.replace("seeds: int = 1", "seeds: int = 2"))
    write(document.folder, "2.3")
    with pytest.warns(UserWarning, match="sections differ in seeds: 2-2 has 2, the others 1"):
        section_of(document)
    section_of(document, {"seeds": "3"})


def test_assignments_may_hold_spaces_lists_and_calls():
    values = {"a": "[1, 2]", "b": '"x=1 y"', "c": """["OneCycle(0.1, pct_start=0.2)", 'Constant(0.1)']""", "d": "3"}
    assert sections.parse_assignments(" ".join(f"{name}={text}" for name, text in values.items())) == values
    assert sections.parse_assignments("  ") == {}
    for wrong in ("epochs", "epochs=", "=3", "a=1 a=2"):
        with pytest.raises(ParameterError):
            sections.parse_assignments(wrong)


@pytest.mark.parametrize(
    ("kind", "right", "value", "wrong"),
    [("int", "3", 3, "1.5"), ("int", "0", 0, "True"), ("float", "1", 1, "x"), ("str", "1", "1", ""),
     ("str", "'a b'", "a b", "''"), ("bool", "True", True, "1"), ("list[float]", "[1, 0.5]", [1, 0.5], "[1, 'a']"),
     ("list[int]", "[]", [], "3"), ("list", "[1, 'a']", [1, "a"], "x")],
)  # fmt: skip
def test_a_value_is_read_by_its_type_or_refused_with_the_type_and_the_default(kind, right, value, wrong):
    parameter = Parameter("x", kind, 7, "hint")
    assert sections.parse_value(parameter, right) == value
    if kind != "list":
        with pytest.raises(ParameterError, match=f"x must be .*{kind.replace('[', '.')}.*default is 7 .hint"):
            sections.parse_value(parameter, wrong)


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
        sections.plan_section(section_of(document, {"epochs": "5"}))


def test_a_copy_and_an_unreadable_file_are_skipped_with_a_warning(document):
    shutil.copy(document.folder / "2.1.ipynb", document.folder / "2.1-Copy1.ipynb")
    (document.folder / "Untitled.ipynb").write_text("")
    with pytest.warns(UserWarning) as warned:
        found = [section.path.name for section in sections.find_sections(document)]
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
        sections.find_sections(document)


@pytest.fixture(params=list_documents(), ids=lambda document: document.name)
def sections_of_project(request):
    quick = request.param.quick | {"dataset": "sample"}
    return sections.give_values(sections.find_sections(request.param), {}, quick)


def test_the_project_s_documents_plan_their_quick_runs(sections_of_project):
    for section in sections_of_project:
        assert bool(sections.plan_section(section)) == (sections.find_tagged(section.notebook, "runs") is not None)


def test_markdown_cells_read_right_in_jupyterlab(sections_of_project):
    for section in sections_of_project:
        for cell in section.notebook.cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\[@|(?<![\w.`])@(fig|tbl|sec)-|(?<!\w)@[a-z]+\d{4}", cell.source), cell.source
                assert not re.search(r"^(?!\d+[.)] ).+\n\d+[.)] ", cell.source, re.M), cell.source  # a list by accident
            links = re.findall(r"\[([^\]]+)\]\(([\w.-]*)#((?:fig|tbl|sec)-[\w-]+)\)", cell.source)
            for words, notebook, anchor in links:
                assert (words, notebook or section.path.name) == find_numbers(section.path.parent)[anchor]


@pytest.mark.parametrize("content", [None, "name = ", "title = 'x'\nname = 'y'"])
def test_a_folder_without_a_valid_document_toml_is_refused(tmp_path, content):
    if content:
        (tmp_path / "document.toml").write_text(content)
    with pytest.raises(ParameterError, match="document.toml"):
        load_document(tmp_path)
