import math

import pytest

from lrlib.study import beyond_answers
from lrlib.study.horizon import AS_IT_IS, DEEPOBS, RULE, Case, compare_forms


def make_case(problem, *, best, lr=0.1, longer=1.0, training="constant"):
    """A training whose regret is a decade's square away from its best rate."""
    return Case(training, problem, lr, 0.01, longer, lambda rate: math.log10(rate / best) ** 2)


def test_a_form_is_judged_on_problems_that_it_was_not_fitted_on():
    cases = [make_case("a", best=0.05), make_case("b", best=0.05), make_case("c", best=0.2)]
    table = compare_forms(cases).set_index("form")
    # Fitted on the two others, half fits a and b less well than either alone, and c not at all.
    fitted_on_bc = min((0.05, 0.07, 0.1, 0.14, 0.2), key=lambda rate: sum(case.regret(rate) for case in cases[1:]))
    expected = (2 * math.log10(fitted_on_bc / 0.05) ** 2 + math.log10(0.05 / 0.2) ** 2) / 3
    assert table.loc["times p", "regret"] == pytest.approx(expected)
    assert table.loc[AS_IT_IS, "regret"] == pytest.approx(math.log10(2) ** 2)
    assert "without the length the rate loses 0.1 %; the best" in beyond_answers.say_forms(table.reset_index())
    assert table.loc["times p", "problems"] == 3


def test_a_rate_that_should_fall_with_the_length_is_found_to():
    cases = [
        make_case(problem, best=0.1 * longer**-0.3, longer=longer, training=DEEPOBS)
        for problem in "abc"
        for longer in (1.0, 10.0, 100.0)
    ]
    table = compare_forms(cases).set_index("form")
    falling = table.loc["over the p-th power of the length"]
    assert falling["regret"] == pytest.approx(0, abs=1e-12) and falling["p"] == "0.3"
    said = beyond_answers.say_forms(table.reset_index())
    assert "in log10; told it, as" in said and said.endswith("*over the p-th power of the length*, 0.000.")
    assert table.loc[RULE, "regret"] < 0.1 * table.loc[AS_IT_IS, "regret"] and table.loc[RULE, "p"] == "0.32"


def test_forms_with_a_length_are_left_out_where_all_trainings_have_one_and_one_problem_judges_nothing():
    cases = [make_case("a", best=0.05), make_case("b", best=0.05)]
    assert list(compare_forms(cases)["form"])[:2] == [AS_IT_IS, "times p"]
    assert "over the p-th power of the length" not in set(compare_forms(cases)["form"])
    assert compare_forms(cases[:1]).empty and "takes two" in beyond_answers.say_forms(compare_forms([]))
