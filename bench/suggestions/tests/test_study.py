"""The document of the study is made of the committed results."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_study_is_made_without_training(tmp_path):
    environment = os.environ | {"LRLIB_BUILD": str(tmp_path)}
    command = [sys.executable, "-m", "lrlib", "report", "study", "--quick"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 epochs trained" in done.stderr
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert (tmp_path / "study.pdf").read_bytes().startswith(b"%PDF")
    for anchor in (
        "tbl-cells",
        "tbl-measured",
        "tbl-regret",
        "fig-heatmap",
        "tbl-default",
        "tbl-targets",
        "tbl-calibration",
    ):
        assert f'id="{anchor}"' in page, anchor
    assert not re.search(r"\bnan\b|object at 0x", page)
