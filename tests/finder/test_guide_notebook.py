from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="reading notebooks needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="executing notebooks needs nbclient")

GUIDE = Path(__file__).parents[2] / "notebooks" / "guide-range-test.ipynb"


def test_the_guide_runs_to_a_trained_model_and_shows_the_curve_and_the_suggestion():
    notebook = nbformat.read(GUIDE, as_version=4)
    check = (
        "assert suggestion.reliable, suggestion.reason\n"
        "assert accuracy > 0.7, accuracy\n"
        "assert average.n_averaged == len(losses)  # the sweeps' updates have been taken back\n"
        "assert losses[-1] < losses[0] / 3\n"
        "peaks = schedule['max_lr']; assert abs(peaks[1] / peaks[0] - 2) < 1e-9"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    executed = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = {cell.id: cell.outputs for cell in executed.cells if cell.cell_type == "code"}
    assert "unseen waves" in outputs["accuracy"][0].text
    assert "True" in outputs["keep"][0].data["text/plain"]
    for name in ("plain", "test"):
        [shown] = [out for out in outputs[name] if "<img" in out.get("data", {}).get("text/html", "")]
        assert '<img alt="suggested lr' in shown.data["text/html"] and "suggested lr" in shown.data["text/plain"]
