"""Errata of the reproduced report: what it says, and the evidence against it from its own numbers and ours."""

import pandas as pd

from lrlib.runs.results import Results
from lrlib.study import author
from lrlib.study.experiments import Design
from lrlib.study.readings import select_last
from lrlib.study.rows import select_run


def tabulate_errata(results: Results, design: Design) -> pd.DataFrame:
    """A row per erratum: no, erratum, evidence (Markdown). results: of design.all_runs()."""
    curves = author.load_curves()
    steps = results.steps
    rows = [
        _divided_losses(results.epochs, curves, design),
        _minimum_lr(steps, design),
        _panels(),
        _one_seed(results.epochs, design),
        (
            "Learning rates and turning points are chosen on the test set on which the accuracies are then reported.",
            "The text compares turning points by their loss on the testing data (§2.2), and holds no validation split.",
        ),
        _cycled_momentum(steps, design),
    ]
    return pd.DataFrame([(i, *row) for i, row in enumerate(rows, 1)], columns=["no", "erratum", "evidence"])


def _divided_losses(epochs, curves, design):
    last = curves[curves["run"] == "MultiStep"]["test_loss"].iloc[-1]
    ours = select_last(epochs, design.multistep_label, "test_loss").mean()
    return (
        f"The test-loss axes of Figures 1, 3, 4 and 5(b) show the mean test loss divided by {author.N_TEST_BATCHES}, the number of "
        "test batches.",
        f"The notebook's log ends MultiStep at {last:.4f}, ours ends at {ours:.4f}; the axis of Figure 4 is in units of 1e-4, where "
        f"{last:.4f} / {author.N_TEST_BATCHES} = {last / author.N_TEST_BATCHES:.2e} lies.",
    )


def _minimum_lr(steps, design):
    lr = select_run(steps, design.onecycle_label)["lr"]
    return (
        "“The minimum learning rate can be above 1e-3” (§2.3).",
        f"With a peak of {design.max_lr:g}, div_factor {design.div_factor:g} and final_div_factor {design.final_div_factor:g} the last step has "
        f"{design.max_lr:g} / {design.div_factor:g} / {design.final_div_factor:g} = "
        f"{design.max_lr / design.div_factor / design.final_div_factor:.6g}; PyTorch's scheduler gives {lr.min():.6g} there.",
    )


def _panels():
    return (
        "The caption of Figure 1 names its panels from right to left: training (right) and testing (left).",
        "The panels carry the tags Loss/test (left) and Loss/train (right): the caption's sides are those of the panels, its "
        "order is not.",
    )


def _one_seed(epochs, design):
    multistep, onecycle = author.ACCURACY["MultiStep"], author.ACCURACY["OneCycle"]
    images = round(abs(multistep - onecycle) * author.N_TEST)
    evidence = f"{100 * multistep:.2f} % against {100 * onecycle:.2f} % is {images} images of {author.N_TEST:,}"
    if design.seeds > 1:
        spreads = [
            1e4 * select_last(epochs, label, "test_accuracy").std(ddof=1)
            for label in (design.multistep_label, design.onecycle_label)
        ]
        evidence += (
            f"; the standard deviation over our {design.seeds} seeds is {spreads[0]:.0f} (MultiStep) and {spreads[1]:.0f} (OneCycle) "
            "images of 10,000"
        )
    return "Both final accuracies come from one seed each.", evidence + "."


def _cycled_momentum(steps, design):
    momentum = select_run(steps, design.onecycle_label)["momentum"]
    return (
        "The OneCycle run also changes the momentum, which the text does not say: the comparison with MultiStep is not of "
        "learning rates alone.",
        f"PyTorch's OneCycleLR cycles it unless told not to: {momentum.iloc[0]:.2f}, down to {momentum.min():.2f}, and back to "
        f"{momentum.iloc[-1]:.2f}, while MultiStep keeps {select_run(steps, design.multistep_label)['momentum'].iloc[0]:.2f}.",
    )
