"""The page of the guide for Lightning's and the Trainer's users is executed, and says what it shows."""

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient", reason="executing notebooks needs nbclient")
for tool in ("lightning", "transformers", "accelerate"):
    pytest.importorskip(tool, reason=f"{tool} is not installed (make peers)")


@pytest.fixture(scope="module")
def outputs():
    from conftest import ROOT

    notebook = nbformat.read(ROOT / "notebooks" / "guide-switching.ipynb", as_version=4)
    check = (
        "assert restored and found.result.suggest().reliable and result.suggest().reliable\n"
        "assert trainer.args.learning_rate == result.suggest().lr and trained.training_loss < 0.6"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": ROOT}}
    )
    return {cell.id: cell.outputs for cell in client.execute().cells if cell.cell_type == "code"}


def said(outputs, cell):
    return "".join(output.get("text", "") for output in outputs[cell])


def test_lightnings_first_loss_is_half_of_what_it_was_and_its_history_reads(outputs):
    assert float(said(outputs, "theirs").split("first loss ")[1].split(" ")[0]) < 0.8
    assert "<img" in outputs["read"][-1].data["text/html"]


def test_the_other_import_keeps_ratios_and_weights(outputs):
    assert "ratio of the groups: 10, weights restored: True" in said(outputs, "switch")
    assert "<img" in outputs["result"][-1].data["text/html"]


def test_the_trainer_trains_at_the_suggestion(outputs):
    assert "learning_rate set to" in said(outputs, "sweep") and "mean loss of 160 updates" in said(outputs, "train")
