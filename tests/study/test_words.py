import math

import pandas as pd
import pytest

from lrlib.study import abstract, words
from lrlib.study.claims import Verdict
from lrlib.study.experiments import Design
from lrlib.study.statistics import estimate_share


@pytest.mark.parametrize(
    "said, written",
    [
        (words.spell(0), "none"),
        (words.spell(13, capital=True), "Thirteen"),
        (words.spell(14), "14"),
        (words.count(1, "seed"), "one seed"),
        (words.count(1200, "image"), "1,200 images"),
        (words.join(["a"]), "a"),
        (words.join("abc"), "a, b and c"),
        (words.number(1e-6), "1e-6"),
        (words.number(1.18), "1.18"),
        (words.number(2e10), "2e10"),
        (words.rate(0.1107), "0.11"),
        (words.rate(3.14e-5), "3.1e-5"),
        (words.signed(-0.0161, 2), "−0.02"),
        (words.signed(-0.0001, 2), "0.00"),
        (words.signed(0.5, 1), "+0.5"),
        (words.interval(99.05, 99.251, 2), "95 % interval 99.05 to 99.25 %"),
        (words.interval(-0.08, 0.05, 2, ""), "95 % interval −0.08 to 0.05"),
        (words.interval(-math.inf, math.inf, 2), "one seed, so no interval"),
        (words.times(1.66), "1.7"),
        (words.times(100), "100"),
    ],
)
def test_numbers_are_said_as_in_a_paper(said, written):
    assert said == written


@pytest.mark.parametrize(
    "log_ratio, said",
    [
        (0.055, "14 % above it"),
        (-0.01, "2 % below it"),
        (0.001, "level with it"),
        (0.922, "8.4 times it"),
        (3.537, "3443 times it"),
    ],
)
def test_a_ratio_is_said_in_percent_or_as_a_factor(log_ratio, said):
    assert words.compare(log_ratio, "it") == said


def test_the_interval_of_a_ratio_is_in_the_same_words():
    assert words.compare_within(0.028, 0.076) == "95 % interval 7 to 19 %"
    assert words.compare_within(0.877, 0.962) == "95 % interval 7.5 to 9.2 times"
    assert words.compare_within(-0.01, 0.02) == "95 % interval −2 to 5 %"
    assert words.compare_within(-math.inf, math.inf) == "one seed, so no interval"


def verdicts(*found):
    return [Verdict(f"C{i}", "1", "c", "r", word, "e") for i, word in enumerate(found, 1)]


@pytest.mark.parametrize(
    "found, said",
    [
        (["reproduced"] * 3, "three of its three claims hold."),
        (["reproduced", "not reproduced"], "one of its two claims holds and one does not."),
        (
            ["reproduced", "not reproduced", "inconclusive"],
            "one of its three claims holds, one does not and one remains open.",
        ),
        (["not reproduced"] * 2, "none of its two claims hold and two do not."),
    ],
)
def test_the_result_is_one_sentence_whatever_came_of_the_claims(found, said):
    sentence = abstract.say_result(verdicts(*found), Design(seeds=5, dataset="sample"))
    assert sentence == f"Every experiment of the report was run again, with 5 seeds on a sample of MNIST: {said}"


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_abstract_has_what_was_asked_found_and_how_sure_it_is(seeds):
    accuracies = pd.DataFrame(
        {
            "method": ["MultiStep", "OneCycle"],
            "accuracy": [99.154, 99.17],
            "low": [99.05, 99.11],
            "high": [99.25, 99.23],
            "author": [99.27, 99.18],
        }
    )
    found = abstract.write_abstract(
        verdicts("reproduced", "inconclusive"), accuracies, Design(seeds=seeds, dataset="sample")
    )
    asked, answer, sure = found.split("\n\n")
    assert [part.split("**")[1] for part in (asked, answer, sure)] == ["Asked.", "Found.", "How sure."]
    assert (
        "MultiStep recognises 99.15 % of the test images (95 % interval 99.05 to 99.25 %; the author’s 99.27 % lies above it)"
        in answer
    )
    assert (
        "OneCycle recognises 99.17 % of the test images (95 % interval 99.11 to 99.23 %; the author’s 99.18 % lies within)"
        in answer
    )
    assert "One of the report's two claims holds (@tbl-claims); C2 remains open." in answer
    assert ("what another seed would bring they do not say" in sure) == (seeds == 1)


@pytest.mark.parametrize(
    ("held", "said"),
    [([True], "in 1 of 1 seed"), ([True, False], "in 1 of 2 seeds"), ([True] * 5, "in 5 of 5 seeds [55 %, 100 %]")],
)
def test_a_share_of_seeds_is_counted_in_digits_and_has_bounds_where_they_are_enough(held, said):
    assert words.held_in(estimate_share(held)) == said
