import pytest
import torch
from trainings import build, cross_entropy, fingerprint

from lrlib.finder.comparing import Overlay, overlay

SETTINGS = {"num_iter": 10, "repeats": 1, "progress": False}
CASES = {  # the optimizer, the values, and what the steps then use
    "weight_decay": (torch.optim.SGD, [0, 0.5], {(0, 0), (0.5, 0)}),
    "momentum": (torch.optim.SGD, [0.8, 0.95], {(0.8, 0.8), (0.95, 0.95)}),
    "betas": (torch.optim.Adam, [0.8, 0.95], {((0.8, 0.999),) * 2, ((0.95, 0.999),) * 2}),
    "batch_size": (torch.optim.SGD, [16, 64], {16, 64}),
}


@pytest.mark.parametrize("key", CASES)
def test_overlay_sweeps_over_a_setting_restores_it_and_draws_and_names_each(key):
    kind, values, expected = CASES[key]
    model, _, loader = build()
    decay = {"weight_decay": 0.01} if key == "weight_decay" else {}  # of one group; the other stays without
    optimizer = kind([{"params": model[0].parameters(), **decay}, {"params": model[1:].parameters()}], lr=0.1)
    seen, before = set(), fingerprint(model, optimizer, loader)
    if key == "batch_size":
        hook = model.register_forward_pre_hook(lambda _, inputs: seen.add(len(inputs[0])))
    else:
        hook = optimizer.register_step_pre_hook(lambda *_: seen.add(tuple(g[key] for g in optimizer.param_groups)))
    name = "momentum" if key == "betas" else key
    made = overlay(model, optimizer, cross_entropy, loader, **{name: values}, **SETTINGS)
    hook.remove()
    assert seen == expected and list(made.results) == values and isinstance(made, Overlay)
    assert fingerprint(model, optimizer, loader) == before
    labels = [text.get_text() for text in made.plot().get_legend().get_texts()]
    assert labels == [f"{name} = {value}" for value in values]
    assert f"{labels[1]}: lr " in made._repr_html_()


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "one of weight_decay, momentum, batch_size, got none"),
        ({"momentum": []}, "values of one of"),
        ({"momentum": [0.9]}, "momentum must be a setting of .*, got Rprop"),
        ({"batch_size": [1]}, "batch_size must be a setting of .*, got list"),
    ],
)
def test_overlay_takes_exactly_one_setting_that_the_optimizer_or_loader_has(values, message):
    model, _, _ = build()
    with pytest.raises(ValueError, match=message):
        overlay(model, torch.optim.Rprop(model.parameters()), cross_entropy, [1], **values)
