import shutil

import pytest

from lrlib.report.command_line import main
from lrlib.report.parameters import ParameterError, parse_assignments
from lrlib.report.plans import plan_section
from lrlib.report.sections import find_sections, give_values, pick_section
from lrlib.study.experiments import Design


@pytest.fixture(scope="module")
def sections():
    return find_sections()


def plan(sections, name, **texts):
    [section] = give_values([pick_section(sections, name)], {"dataset": "sample"} | texts)
    return plan_section(section)


def test_sections_stand_in_the_report_s_order_and_the_guide_is_none_of_them(sections):
    assert [section.name for section in sections] == ["0", "1", "2-1", "2-2", "2-3", "2-4"]


def test_defaults_of_every_notebook_are_the_design_s(sections):
    fields = Design.__dataclass_fields__
    for section in sections:
        for name, parameter in section.declared.items():
            default = fields[name].default
            assert (list(default) if isinstance(default, tuple) else default) == parameter.default, (section.name, name)
            assert parameter.help, (section.name, name)


def test_the_conclusion_declares_and_plans_all_that_the_others_do(sections):
    whole = pick_section(sections, "2-4")
    runs = plan(sections, "2-4").runs
    for section in sections:
        if section.name != "0":  # the abstract has the settings of part 3 too
            assert section.declared.items() <= whole.declared.items()
        assert set(plan(sections, section.name).runs) <= set(runs)


def test_a_default_edited_in_a_section_reaches_those_about_the_whole_report(root, tmp_path, monkeypatch):
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    edited = tmp_path / "notebooks" / "2-2-multistep.ipynb"
    edited.write_text(edited.read_text().replace("[5, 15, 25]", "[6, 16, 26]"))
    monkeypatch.setattr("lrlib.report.sections.project_folder", lambda: tmp_path)
    sections = find_sections()
    assert plan(sections, "0").design.turning_points == plan(sections, "2-2").design.turning_points == (6, 16, 26)
    assert pick_section(give_values(sections, {}), "0").values["turning_points"] == [6, 16, 26]


def test_assignments_may_hold_spaces_and_lists():
    text = 'turning_points=[10, 20]  epochs=20 dataset="mnist" lr=1e-1'
    assert parse_assignments(text) == {
        "turning_points": "[10, 20]",
        "epochs": "20",
        "dataset": '"mnist"',
        "lr": "1e-1",
    }
    assert parse_assignments("  ") == {}


def test_a_value_goes_to_every_section_that_declares_it(sections):
    given = give_values(sections, {"lr": "0.2", "seeds": "3"})
    assert [section.name for section in given if "lr" in section.values] == ["0", "2-2", "2-3", "2-4"]
    assert all(section.values["seeds"] == 3 for section in given)


def test_values_reach_the_runs(sections):
    found = plan(sections, "2-2", turning_points="[10, 20]", epochs="25", milestones="[10, 20]")
    design, runs = found.design, found.runs
    assert design.turning_points == (10, 20)
    assert sorted({run.label for run in runs}) == ["MultiStep [10, 20]", "MultiStep [10]", "MultiStep [20]"]
    assert {run.epochs for run in runs} == {25}


def test_the_readme_s_example_of_other_parameters_makes_runs(sections):
    design = plan(sections, "2-2", turning_points="[10, 20]", epochs="20").design
    assert (design.turning_points, design.milestones, design.epochs) == ((10, 20), (15,), 20)


def test_fewer_epochs_keep_the_default_drops_that_lie_within_them(sections):
    design = plan(sections, "2-4", epochs="10").design
    assert (design.turning_points, design.milestones) == ((5,), (5,))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"turning_point": "[1]"}, "no section declares a parameter 'turning_point'.*did you mean 'turning_points'"),
        ({"epochs": "ten"}, "epochs must be a whole number, got ten; by default it is 30"),
        ({"epochs": "2.5"}, "epochs must be a whole number, got 2.5"),
        ({"epochs": "True"}, "epochs must be a whole number, got True"),
        ({"lr": "[0.1]"}, r"lr must be a number, got \[0.1\]"),
        ({"turning_points": "5"}, "turning_points must be a list of whole numbers, got 5"),
        ({"turning_points": "[5, 'x']"}, "turning_points must be a list of whole numbers"),
        ({"learning_rates": "[0.1"}, r"learning_rates must be a list of numbers, got \[0.1"),
    ],
)
def test_names_and_types_are_refused_by_name(sections, texts, message):
    with pytest.raises(ParameterError, match=message):
        give_values(sections, texts)


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("2-2", {"epochs": "0"}, "section 2-2: (turning_points must be whole epochs up to the last, 0|epochs must be)"),
        (
            "2-1",
            {"epochs": "0"},
            r"section 2-1: epochs must be a whole number of at least 1, got 0 \(given: .*epochs=0",
        ),
        ("2-1", {"seeds": "0"}, "section 2-1: seeds must be a whole number of at least 1, got 0"),
        ("2-1", {"learning_rates": "[0.1, -0.1]"}, "section 2-1: learning_rates must be positive numbers, got -0.1"),
        ("2-1", {"learning_rates": "[]"}, "section 2-1: learning_rates must be one or more different values"),
        ("1", {"start_lr": "2.0"}, "section 1: start_lr must be less than end_lr, got 2.0 and 1.18"),
        ("1", {"start_lr": "0.0"}, "section 1: start_lr must be a positive number, got 0.0"),
        ("2-2", {"milestones": "[25, 15]"}, r"section 2-2: milestones must be .* increasing order, got \[25, 15\]"),
        ("2-2", {"milestones": "[15, 31]"}, "section 2-2: milestones must not lie past the last epoch, 30"),
        ("2-2", {"turning_points": "[5, 40]"}, "section 2-2: turning_points must be whole epochs up to the last, 30"),
        ("2-3", {"pct_start": "30.0"}, r"section 2-3: pct_start must be in \(0, 1\), got 30.0; it is a fraction"),
        ("2-1", {"dataset": "mnits"}, "section 2-1: dataset must be one of mnist, fashion_mnist, sample, "),
    ],
)
def test_values_outside_their_range_are_refused_before_anything_is_trained(sections, name, texts, message):
    with pytest.raises(ParameterError, match=message):
        plan(sections, name, **texts)


@pytest.mark.parametrize(("name", "near"), [("2-5", "2-"), ("multistep", ""), ("22", "2-2")])
def test_an_unknown_section_is_refused_with_those_there_are(sections, name, near):
    with pytest.raises(ParameterError, match=f"there is no section '{name}'; sections are 0, 1, 2-1.*{near}"):
        pick_section(sections, name)


def test_a_name_that_is_given_twice_is_refused(capsys):
    with pytest.raises(ParameterError, match="^epochs is given 2 times, 3 and 4; give it once$"):
        parse_assignments("epochs=3 lr=1 epochs=4")
    assert main(["report", "--epochs", "3", "--params", "epochs=4"]) == 2
    assert capsys.readouterr().err == "lrlib: epochs is given 2 times, 3 and, in PARAMS, 4; give it once\n"


@pytest.mark.parametrize("text", ["epochs", "epochs=", "=3", "a b=1"])
def test_what_is_not_name_equals_value_is_refused(text):
    with pytest.raises(ParameterError, match="parameters must be name=value with spaces between"):
        parse_assignments(text)
