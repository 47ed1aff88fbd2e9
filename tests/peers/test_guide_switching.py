"""The page of the guide for Lightning's and the Trainer's users is executed, and says what it shows."""

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient", reason="executing notebooks needs nbclient")
for tool in ("lightning", "transformers", "accelerate"):
    pytest.importorskip(tool, reason=f"{tool} is not installed (make peers)")


def test_the_switching_guide_shows_each_tool_with_its_own_finder_and_with_lrlibs():
    from conftest import ROOT

    notebook = nbformat.read(ROOT / "notebooks" / "guide-switching.ipynb", as_version=4)
    check = (
        "assert restored and found.result.suggest().reliable and result.suggest().reliable\n"
        "assert trainer.args.learning_rate == result.suggest().lr and trained.training_loss < 0.6"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    options = {"timeout": 300, "kernel_name": "python3", "resources": {"metadata": {"path": ROOT}}}
    cells = [cell for cell in nbclient.NotebookClient(notebook, **options).execute().cells if cell.cell_type == "code"]
    said = {cell.id: "".join(output.get("text", "") for output in cell.outputs) for cell in cells}
    # Lightning's first loss is half of what it was.
    assert float(said["theirs"].split("first loss ")[1].split(" ")[0]) < 0.8
    assert "ratio of the groups: 10, weights restored: True" in said["switch"]
    assert "learning_rate set to" in said["sweep"] and "mean loss of 160 updates" in said["train"]
    pictures = [cell.outputs[-1].data["text/html"] for cell in cells if cell.id in ("read", "result")]
    assert len(pictures) == 2 and all("<img" in picture for picture in pictures)
