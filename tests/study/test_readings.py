import numpy as np
import pandas as pd
import pytest

from lrlib.study.readings import summarize_suggestions, tabulate_suggestions
from lrlib.suggest import suggest_lr


def test_suggestions_are_each_rule_s_for_each_sweep_and_summed_up_over_seeds():
    lr = np.geomspace(1e-5, 10, 200)
    frames = []
    for seed, shift in ((100, 1.0), (101, 2.0)):
        loss = 2.3 - 2 / (1 + (0.01 * shift / lr) ** 2) + np.maximum(0, np.log10(lr / (0.3 * shift))) * 5
        frames.append(pd.DataFrame({"run": "sweep", "seed": seed, "lr": lr, "loss": loss}))
    found = tabulate_suggestions(pd.concat(frames))
    ours = found[found["rule"] == "suggest_lr"].set_index("seed")["lr"]
    assert ours[100] == suggest_lr(lr, frames[0]["loss"]).lr
    summary = summarize_suggestions(found).set_index("rule").loc["suggest_lr"]
    assert summary["spread_decades"] == pytest.approx(abs(np.log10(ours[101] / ours[100])))
    assert summary["lr"] == pytest.approx(np.sqrt(ours[100] * ours[101]))
    assert summary["n"] == 2
