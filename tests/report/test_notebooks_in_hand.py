"""Notebooks as people leave them: what is no section is left out and said, what cannot be used is named by its cell."""

import json
import re
import shutil
import warnings

import nbformat
import pytest
from conftest import ROOT

from lrlib.report import sections as rooms
from lrlib.report.parameters import ParameterError, parse_value, read_parameters
from lrlib.report.plans import plan_section
from lrlib.report.sections import find_sections, give_values, pick_section

NAMES = ["0", "1", "2-1", "2-2", "2-3", "2-4"]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A copy of the notebooks, which is what `find_sections` looks at."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(rooms, "project_folder", lambda: tmp_path)
    return tmp_path / "notebooks"


def find(**options):
    """The sections, and what was warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = find_sections(**options)
    return found, [str(warning.message) for warning in heard]


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def tagged(notebook, tag):
    return next(cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))


def make_folder(path):
    path.mkdir()


def make_empty(path):
    path.write_text("")


def make_new(path):
    path.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def make_binary(path):
    path.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X\xff\xfe")


def make_broken_link(path):
    path.symlink_to("/no/such/notebook")


def make_list(path):
    path.write_text("[1, 2]")


def make_copy(path):
    shutil.copy(path.parent / "2-2-multistep.ipynb", path)


def make_copy_with_another_number(path):
    make_copy(path)
    edit(path, lambda notebook: notebook.metadata["lrlib"].update(section="2.5"))


def make_odd_number(path):
    make_copy(path)
    edit(path, lambda notebook: notebook.metadata["lrlib"].update(section=2.5, anchor="other"))


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (make_folder, "2-5-mine.ipynb", "it is a folder"),
        (make_empty, "2-5-mine.ipynb", "it is empty"),
        (make_new, "Untitled.ipynb", "its metadata has no lrlib.section"),
        (make_new, "2-5-mine.ipynb", "its metadata has no lrlib.section"),
        (make_binary, "._2-2-multistep.ipynb", "it cannot be read as a notebook"),
        (make_broken_link, "2-5-mine.ipynb", "it is a link that leads nowhere"),
        (make_list, "mine.ipynb", "it cannot be read as a notebook"),
        (make_copy, "2-2-multistep-Copy1.ipynb", "it has the section 2-2 of 2-2-multistep.ipynb"),
        (make_copy, "2-2.ipynb", "it has the section 2-2 of 2-2-multistep.ipynb"),
        (make_copy, "renamed.ipynb", "it has the section 2-2 of 2-2-multistep.ipynb"),
        (make_copy_with_another_number, "2-5-mine.ipynb", "it has the anchor 'multistep' of 2-2-multistep.ipynb"),
        (make_odd_number, "2-5-mine.ipynb", "lrlib.section must be a number like '2.5', got 2.5"),
    ],
)
def test_what_is_no_section_is_left_out_with_one_line(notebooks, make, name, why):
    make(notebooks / name)
    found, heard = find()
    assert [section.name for section in found] == NAMES
    assert pick_section(found, "2-2").path.name == "2-2-multistep.ipynb"
    assert len(heard) == 1 and heard[0].startswith(f"{name} is left out of the report: ") and why in heard[0]


def test_the_project_s_own_notebooks_are_left_out_of_without_a_word(notebooks):
    assert find() == (find()[0], [])
    assert len(find()[0]) == len(list(notebooks.glob("[0-9]*.ipynb")))


def test_a_section_that_was_renamed_is_still_the_section(notebooks):
    (notebooks / "2-2-multistep.ipynb").rename(notebooks / "drops.ipynb")
    found, heard = find()
    assert [section.name for section in found] == NAMES and heard == []


def test_a_section_of_one_s_own_stands_where_its_number_says(notebooks):
    for number in ("2.10", "2.5"):
        path = notebooks / f"mine-{number}.ipynb"
        make_copy(path)
        anchor = f"mine-{number.replace('.', '-')}"
        edit(path, lambda n, number=number, anchor=anchor: n.metadata["lrlib"].update(section=number, anchor=anchor))
        edit(path, lambda notebook: notebook.metadata.pop("kernelspec"))
    found, heard = find()
    assert [section.name for section in found] == [*NAMES, "2-5", "2-10"] and heard == []
    assert plan_section(give_values([pick_section(found, "2-10")], {"dataset": "sample"})[0]).runs


def fault_of(name="2-2", **texts):
    found, _ = find()
    others = [section for section in found if section.name != name]
    assert plan_section(give_values(others, {"dataset": "sample"})[0]).runs  # another section is usable
    with pytest.raises(ParameterError) as caught:
        plan_section(give_values([pick_section(found, name)], {"dataset": "sample"} | texts)[0])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_merge_marks_are_said_with_their_line_where_the_section_is_asked_for(notebooks):
    path = notebooks / "2-2-multistep.ipynb"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "<<<<<<< HEAD", *lines[4:6], "=======", ">>>>>>> theirs", *lines[6:]]))
    assert fault_of() == (
        "section 2-2: 2-2-multistep.ipynb cannot be used: it has git's merge marks (line 5); resolve them"
    )


@pytest.mark.parametrize(
    ("tag", "source", "message"),
    [
        ("parameters", "lr: float = 1 / 0", r"its parameters, cell 2, raise ZeroDivisionError: division by zero"),
        ("parameters", "lr: float = ", r"its parameters, cell 2, raise SyntaxError: invalid syntax"),
        ("parameters", "# epochs: int = 30\ndataset = 'sample'", "cell 3 of 2-2-multistep.ipynb raised NameError"),
        ("runs", "raise KeyError('foo')", "section 2-2: cell 3 of 2-2-multistep.ipynb raised KeyError: 'foo'"),
        ("runs", "raise SystemExit(3)", "section 2-2: cell 3 of 2-2-multistep.ipynb raised SystemExit: 3"),
        ("runs", "int('x')", "section 2-2: cell 3 of 2-2-multistep.ipynb raised ValueError: invalid literal"),
        ("runs", "design = 1 +", "section 2-2: cell 3 of 2-2-multistep.ipynb raised SyntaxError"),
        ("runs", "design = None", "cell 3 of 2-2-multistep.ipynb must make a list of Runs called `runs`, got NoneType"),
        ("runs", "runs = [1]", "cell 3 of 2-2-multistep.ipynb must make a list of Runs called `runs`"),
        (
            "runs",
            "runs = more_runs = []",
            "cell 3 of 2-2-multistep.ipynb must make `more_runs` a function of Results, got list",
        ),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(notebooks, tag, source, message):
    runs = source if tag == "runs" else "print(epochs)\nruns = []"

    def change(notebook):
        tagged(notebook, "runs").source = runs
        tagged(notebook, tag).source = source
        notebook.cells[1:] = [tagged(notebook, "parameters"), tagged(notebook, "runs")]

    edit(notebooks / "2-2-multistep.ipynb", change)
    texts = {} if tag == "runs" else {"dataset": "sample"}
    found, _ = find()
    section = pick_section(found, "2-2")
    given = {name: text for name, text in texts.items() if name in section.declared}
    with pytest.raises(ParameterError, match=message.replace("(", r"\(")):
        plan_section(give_values([section], given)[0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("more_runs = lambda results: 1 / 0", "2-2-multistep.ipynb: `more_runs` raised ZeroDivisionError: division by"),
        ("more_runs = lambda: []", "2-2-multistep.ipynb: `more_runs` raised TypeError: <lambda>() takes 0"),
        ("more_runs = lambda results: int('x')", "`more_runs` raised ValueError: invalid literal"),
        ("more_runs = lambda results: exec('raise SystemExit(3)')", "`more_runs` raised SystemExit: 3"),
        ("more_runs = lambda results: None", "must make a list of Runs by `more_runs`, got NoneType"),
        (
            "from lrlib import Run\nfrom lrlib.schedules import Constant\n"
            "more_runs = lambda results: [Run(Constant(-1.0), problem='lenet5_sample', epochs=1)]",
            "section 2-2: lr must be",
        ),
        (
            "from lrlib import Run\nfrom lrlib.schedules import Constant\n"
            "more_runs = lambda results: [Run(Constant(0.1), problem='lenet5_sample', epochs=1, batch_size=4001)]",
            "section 2-2: batch_size must be at most the 4,000 training samples",
        ),
    ],
)
def test_runs_that_follow_from_results_are_said_with_their_cell_too(notebooks, source, message):
    def change(notebook):
        tagged(notebook, "runs").source = f"runs = []\n{source}"

    edit(notebooks / "2-2-multistep.ipynb", change)
    more_runs = plan("2-2", {}).more_runs
    with pytest.raises(ParameterError) as caught:
        more_runs(None)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("tag", ["runs", "parameters"])
def test_a_cell_that_lost_its_tag_is_named(notebooks, tag):
    edit(notebooks / "2-2-multistep.ipynb", lambda notebook: tagged(notebook, tag).metadata.pop("tags"))
    assert re.search(rf"2-2-multistep.ipynb cannot be used: its cell \d+ lacks the tag '{tag}'", fault_of())


def test_parameters_that_are_commented_out_are_warned_of(notebooks):
    def change(notebook):
        cell = tagged(notebook, "parameters")
        cell.source = (
            cell.source.replace("epochs: int", "# epochs: int") + "\n# two rates = one too many\n# lr: see above"
        )

    edit(notebooks / "2-2-multistep.ipynb", change)
    found, heard = find()
    assert "epochs" not in pick_section(found, "2-2").declared
    assert heard == [
        "2-2-multistep.ipynb: its parameters, cell 2, have epochs commented out; "
        "the section takes no value of that, neither a given nor a quick one"
    ]


def test_a_section_as_an_editor_saves_it_is_read_without_a_word(notebooks):
    path = notebooks / "2-2-multistep.ipynb"
    content = json.loads(path.read_text())
    for cell in content["cells"]:
        cell.pop("id")
    path.write_text("\ufeff" + json.dumps(content))
    found, heard = find()
    assert plan_section(give_values([pick_section(found, "2-2")], {"dataset": "sample"})[0]).runs and heard == []


def test_a_section_without_a_heading_is_named(notebooks):
    edit(notebooks / "2-2-multistep.ipynb", lambda notebook: notebook.cells.pop(0))
    assert "its first cell must be Markdown whose first line is '# ' and its heading" in fault_of()


def test_parameters_may_be_expressions_and_have_no_types():
    source = (
        "import math\nlr: float = 10 * 0.01  # a rate\nepochs = 20\nrates = [0.1, 1]  # two\n# old: int = 3\n"
        "name = 'x'\nboth: list[int] = [\n    1,\n]  # many"
    )
    found = read_parameters(source)
    said = {p.name: (p.type, p.default, p.help) for p in found.values()}
    assert said == {
        "lr": ("float", 0.1, "a rate"),
        "epochs": ("int", 20, ""),
        "rates": ("list[float]", [0.1, 1], "two"),
        "name": ("str", "x", ""),
        "both": ("list[int]", [1], "many"),
    }
    assert parse_value(found["epochs"], "3") == 3
    with pytest.raises(ParameterError, match="epochs must be a whole number, got x; by default it is 20$"):
        parse_value(found["epochs"], "x")
    with pytest.raises(ParameterError, match="name must be a word, got nothing"):
        parse_value(found["name"], "")


def plan(name, texts, *, defaults=None):
    found = find_sections()
    section = pick_section(found, name)
    return plan_section(give_values([section], {"dataset": "sample"} | texts, defaults=defaults)[0])


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        (
            "1",
            {"range_epochs": "0"},
            r"range_epochs must be a whole number of at least 1, got 0 \(given: dataset=sample range_",
        ),
        (
            "2-1",
            {"learning_rates": "[0.1, 0.1000001]"},
            "learning_rates must differ in six digits .*, got 0.1 and 0.1000001",
        ),
        ("2-1", {"batch_size": "4001"}, "batch_size must be at most the 4,000 training .*, got 4001"),
        ("2-1", {"seeds": "20240101"}, "seeds must be at most 1,000, got 20240101; it is how many, and no seed itself"),
        (
            "2-1",
            {"epochs": "1000000"},
            "these are 3,000,000 epochs, more than the 1,000,000 that are taken to be meant",
        ),
        ("2-1", {"dataset": ""}, "dataset must be a word, got nothing"),
    ],
)
def test_values_that_would_lie_are_refused_before_anything_is_trained(name, texts, message):
    with pytest.raises(ParameterError, match=message):
        plan(name, texts)


def test_defaults_fit_what_was_given_and_what_was_given_is_what_an_error_shows():
    quick = {"epochs": "5", "turning_points": "[1, 3, 4]", "milestones": "[3, 4]"}
    design = plan("2-2", {"epochs": "2"}, defaults=quick).design
    assert (design.epochs, design.turning_points, design.milestones) == (2, (1,), (1,))
    with pytest.raises(
        ParameterError, match=r"turning_points .* \(given: dataset=sample epochs=2 turning_points=\[3\]\)$"
    ):
        plan("2-2", {"epochs": "2", "turning_points": "[3]"}, defaults=quick)


def test_a_design_by_itself_has_its_default_drops_within_its_epochs():
    from lrlib.study.experiments import Design

    made = Design(epochs=3, dataset="sample")
    assert (made.turning_points, made.milestones) == ((1,), (1,))
    assert Design(epochs=30, dataset="sample").milestones == (15, 25)
    with pytest.raises(ValueError, match="turning_points must be whole epochs up to the last, 3"):
        Design(epochs=3, turning_points=(5,), dataset="sample").one_drop()
