import numpy as np
import pytest

from bench.suggestions import competitors

LR = np.geomspace(1e-6, 10, 300)
# Level, a fall around 1e-2, an explosion from 1 on.
LOSS = 0.1 + 2.2 / (1 + (LR / 1e-2) ** 2) + (LR / 1.5) ** 4


@pytest.mark.parametrize("tool", competitors._RULES)
def test_a_tool_reads_a_rate_out_of_the_fall_by_its_own_code(tool):
    if tool not in competitors.list_tools():
        pytest.skip(f"{tool} is not installed")
    assert 1e-4 < competitors.list_tools()[tool](LR, LOSS) < 2


def test_what_a_tool_raises_is_no_rate_and_a_loss_that_is_not_finite_ends_the_series():
    def refuse(lr, loss):
        raise RuntimeError("too short")

    assert competitors._guard(refuse)(LR, LOSS) is None
    assert competitors._guard(lambda lr, loss: np.nan)(LR, LOSS) is None
    assert competitors._guard(lambda lr, loss: lr[-1])(LR, np.where(LR > 1e-2, np.nan, LOSS)) < 1e-2


def test_tools_that_are_not_installed_are_named_as_pip_does(monkeypatch):
    monkeypatch.setattr(competitors, "find_spec", lambda package: None)
    assert competitors.list_tools() == {}
    assert competitors.list_missing() == ["fastai", "lightning", "monai", "pytorch-ignite", "torch-lr-finder"]
