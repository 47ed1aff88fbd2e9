"""The section notebooks on made-up results: every sentence, table and figure comes out, whatever the outcome."""

import re
from dataclasses import replace

import matplotlib.figure
import nbformat
import numpy as np
import pandas as pd
import pytest

from lrlib.project import project_folder
from lrlib.report import display
from lrlib.reproduction import design as designs
from lrlib.runs.plan import plan_epochs

NOTEBOOKS = sorted((project_folder() / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if "miniature" not in path.name]
NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*(?![\w])")


class MadeUp:
    """Results of runs whose losses follow from their labels and differ by seed."""

    def __init__(self, runs, *, worse="", diverges=""):
        self.runs, self.n_epochs, self.n_epochs_apart, self.seconds = runs, 1, 1, 1.0
        epochs, steps = [], []
        for run in dict.fromkeys(runs):
            chain = plan_epochs(replace(run, backend="torch", processes=1))
            number = np.arange(1, len(chain) + 1)
            factor = (1 + 0.01 * run.seed) * (1.5 if worse and worse in run.label else 1.0)
            test = factor * (0.03 + 1 / number + 0.002 * (number % 2))
            names = ("lr", "momentum")
            frame = pd.DataFrame({name: np.concatenate([getattr(epoch, name) for epoch in chain]) for name in names})
            x = np.log10(frame["lr"])
            fall = 2.3 - 2.2 / (1 + np.exp(-4 * (x - x.mean())))
            loss = fall if "range" in run.label else 2 / (1 + frame.index)
            nothing = np.nan if diverges and diverges in run.label and run.seed == 0 else 1.0
            about = {"seconds": 1.0, "run": run.label, "seed": run.seed, "problem": run.problem}
            curves = {"train_loss": test * nothing, "test_loss": test * nothing}
            accuracy = (0.99 - 0.1 * (test - 0.03)) * nothing
            epochs.append(pd.DataFrame({"epoch": number, **curves, "test_accuracy": accuracy}).assign(**about))
            steps.append(frame.assign(step=frame.index, loss=loss * nothing, **about))
        self.epochs, self.steps = (pd.concat(frames, ignore_index=True) for frames in (epochs, steps))


def execute(path, monkeypatch, *, is_mnist=True, outcome=None, **values):
    """What a notebook displays: bundles with their metadata."""
    shown = []
    monkeypatch.setattr(display, "display", lambda data, metadata, raw: shown.append((data, metadata["report"])))
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(designs.Design, "is_mnist", property(lambda self: is_mnist))
    monkeypatch.setattr("lrlib.train", lambda runs: MadeUp(runs, **(outcome or {})), raising=False)
    found = MadeUp if values.get("trainers") else lambda runs: None
    monkeypatch.setattr("lrlib.runs.trainer.find_results", found)
    provenance = pd.DataFrame(columns=["item", "value"])
    monkeypatch.setattr("lrlib.report.provenance.tabulate_provenance", lambda *_: provenance)
    monkeypatch.chdir(path.parent)  # as papermill and JupyterLab execute it
    namespace: dict = {}
    with matplotlib.rc_context({"backend": "Agg"}):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, path.name, "exec"), namespace)
                if "parameters" in cell.metadata.get("tags", []):
                    namespace |= {"dataset": "sample"} | {k: v for k, v in values.items() if k in namespace}
    return shown


CASES = [
    {"seeds": 3, "epochs": 30},
    {"seeds": 1, "epochs": 30, "schedules": ["OneCycle(0.2, pct_start=0.5)"]},
    {"seeds": 3, "epochs": 6, "is_mnist": False, "trainers": ["torch"]},
    {"seeds": 3, "epochs": 30, "outcome": {"worse": "25"}},
    {"seeds": 3, "epochs": 6, "outcome": {"diverges": "OneCycle"}, "learning_rates": [0.1], "turning_points": [3]},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_outcome_has_its_words(path, case, monkeypatch):
    shown = execute(path, monkeypatch, **case)
    for data, report in shown:
        for text in (data.get("text/markdown", ""), report.get("caption", ""), report.get("alt", "")):
            assert not re.search(r"\bnan\b|\binf\b|[{}]|\bNone\b", text), text
    has_figure = any(report["kind"] == "figure" for _, report in shown)
    assert has_figure or path.stem in ("0-abstract", "3-methods")


def test_the_abstract_has_at_most_150_words_and_six_numbers(monkeypatch):
    shown = execute(NOTEBOOKS[0], monkeypatch, seeds=3, epochs=30)
    text = re.sub(r"\]\([^)]*\)", "]", shown[-1][0]["text/markdown"])  # without the addresses of links
    words = re.sub(r"\(?\[[^\]]*\]\)?", "", text)  # and without citations
    assert len(words.split()) <= 150
    assert len(NUMBER.findall(words)) <= 6
