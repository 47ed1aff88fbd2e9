import pandas as pd
import pytest
from test_document import prose, shows, table, write_section

from lrlib.report.changes import Outcome, published_page, read_outcome, take_outcome, tell_changes
from lrlib.report.document import merge_notebooks
from lrlib.report.export_html import export_html
from lrlib.study.claims import Verdict

BEFORE = Outcome(
    {"C1": "reproduced", "C2": "inconclusive"}, {"MultiStep": 99.154}, "make publish SEEDS=5", "0123456789abcdef"
)


def test_what_moved_is_told_with_what_it_moved_from():
    made = Outcome({"C1": "not reproduced", "C2": "inconclusive", "C3": "reproduced"}, {"MultiStep": 99.16})
    origin = "since the published report (`make publish SEEDS=5`, 0123456789ab)"
    assert tell_changes(BEFORE, made) == [
        f"Verdicts that moved {origin}: C1 from reproduced to not reproduced and C3 from unknown to reproduced.",
        f"Accuracies that moved {origin}: MultiStep from 99.15 % to 99.16 %.",
    ]


@pytest.mark.parametrize("published", [BEFORE, None])
def test_where_nothing_moved_as_it_is_printed_or_nothing_was_published_nothing_is_told(published):
    made = Outcome(BEFORE.verdicts, {"MultiStep": 99.1501, "OneCycle": 99.2})
    assert tell_changes(published, made) == []


def test_an_outcome_comes_back_from_the_page_that_shows_it(tmp_path):
    tables = {
        "claims": 'id,verdict,evidence\nC1,reproduced,"a, b"\nC2,inconclusive,"100 % ""so"""\n',
        "accuracies": "method,accuracy,author\nMultiStep,99.154,99.27\n",
        "provenance": 'item,value\ncommand,`make publish SEEDS=5`\ncommit,"0123456789abcdef, clean"\n',
    }
    shown = []
    for label, csv in tables.items():
        output = table(label)
        output.data["text/csv"] = csv
        shown.append(output)
    section = write_section(tmp_path, "1", "1", "a", [prose("# A"), shows(*shown)])
    export_html(merge_notebooks([section]), out=tmp_path / "report.html")
    assert read_outcome(tmp_path / "report.html") == BEFORE


def test_a_page_that_is_missing_or_holds_no_claims_has_no_outcome(tmp_path):
    assert read_outcome(tmp_path / "report.html") is None
    (tmp_path / "report.html").write_text("<html>")
    assert read_outcome(tmp_path / "report.html") is None


def test_verdicts_and_accuracies_make_the_outcome_that_their_page_has():
    verdicts = [Verdict(id, "1", "c", "r", word, "e") for id, word in BEFORE.verdicts.items()]
    made = take_outcome(verdicts, pd.DataFrame({"method": ["MultiStep"], "accuracy": [99.154]}))
    assert (made.verdicts, made.accuracies) == (BEFORE.verdicts, BEFORE.accuracies)


def test_the_published_page_has_an_outcome():
    found = read_outcome(published_page())
    assert list(found.verdicts) == [f"C{i}" for i in range(1, 14)] and set(found.accuracies) == {
        "MultiStep",
        "OneCycle",
    }
    assert found.command.startswith("make publish")
