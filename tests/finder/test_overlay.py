import pytest
import torch
from trainings import build, cross_entropy, fingerprint

from lrlib.finder.comparing import Overlay, overlay


def test_overlay_sweeps_over_weight_decay_and_puts_it_back():
    model, _, loader = build()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.01}, {"params": model[1:].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append([g["weight_decay"] for g in optimizer.param_groups]))
    before = fingerprint(model, optimizer, loader)
    settings_ = {"num_iter": 100, "start_lr": 1e-5, "repeats": 1, "progress": False}
    made = overlay(model, optimizer, cross_entropy, loader, weight_decay=[0, 0.5], **settings_)
    assert fingerprint(model, optimizer, loader) == before
    assert [0, 0] in seen and [0.5, 0] in seen and len({tuple(s) for s in seen}) == 2
    assert isinstance(made, Overlay) and list(made.results) == [0, 0.5]
    labels = [text.get_text() for text in made.plot().get_legend().get_texts()]
    assert labels == ["weight_decay = 0", "weight_decay = 0.5"]
    assert "weight_decay = 0.5: lr " in made._repr_html_()


@pytest.mark.parametrize("kind", ["momentum", "betas"])
def test_overlay_sweeps_over_momentum_or_the_first_beta(kind):
    model, optimizer, loader = build()
    if kind == "betas":
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer, loader)
    seen = set()
    optimizer.register_step_pre_hook(lambda *_: seen.add(optimizer.param_groups[0][kind]))
    overlay(model, optimizer, cross_entropy, loader, momentum=[0.8, 0.95], num_iter=10, repeats=1, progress=False)
    assert seen == ({0.8, 0.95} if kind == "momentum" else {(0.8, 0.999), (0.95, 0.999)})
    assert fingerprint(model, optimizer, loader) == before


def test_overlay_sweeps_over_batch_size():
    model, optimizer, loader = build()
    sizes = set()
    model.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    before = fingerprint(model, optimizer, loader)
    made = overlay(model, optimizer, cross_entropy, loader, batch_size=[16, 64], num_iter=10, repeats=1, progress=False)
    assert sizes == {16, 64} and list(made.results) == [16, 64]
    assert fingerprint(model, optimizer, loader) == before


def test_overlay_takes_exactly_one_setting_that_the_optimizer_has():
    model, optimizer, loader = build()
    with pytest.raises(ValueError, match="one of weight_decay, momentum, batch_size, got none"):
        overlay(model, optimizer, cross_entropy, loader)
    with pytest.raises(ValueError, match="momentum must be a setting of .*, got Rprop"):
        overlay(model, torch.optim.Rprop(model.parameters()), cross_entropy, loader, momentum=[0.9])
    with pytest.raises(ValueError, match="batch_size must be a setting of .*, got list"):
        overlay(model, optimizer, cross_entropy, [1], batch_size=[1])
    with pytest.raises(ValueError, match="values of one of"):
        overlay(model, optimizer, cross_entropy, loader, momentum=[])
