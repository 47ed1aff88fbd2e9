"""A snapshot restores everything bit for bit, also after exceptions and Ctrl-C."""

import contextlib
import random
import signal
from itertools import islice

import numpy as np
import pytest
import torch
import trainings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader
from trainings import fingerprint, plain, train

from lrlib.finder.restore import Snapshot
from lrlib.finder.restorers import seed_everything

OPTIMIZERS = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3, amsgrad=True),
    "tensor lr": lambda groups: torch.optim.Adam(groups, lr=torch.tensor(1e-3)),
    "Adagrad": lambda groups: torch.optim.Adagrad(groups, lr=1e-2),
}


def build(optimizer="momentum"):
    model, _, loader = trainings.build(n=64, batch_size=8)
    model[1].eval()  # frozen statistics inside a model in train mode
    model[0].bias.requires_grad_(False)
    groups = [{"params": model[0].parameters()}, {"params": model[1:].parameters(), "lr": 0.01}]
    return model, OPTIMIZERS[optimizer](groups), loader


def wreck(model, optimizer, loader, scaler=None):
    """Change all that training can change, and some more."""
    train(model, optimizer, islice(loader, 3), scaler)
    model.eval()
    model[4].weight.requires_grad_(False)
    model[4].weight.data = torch.zeros(2, 2, dtype=torch.float64)
    model[0].bias.requires_grad_(True)
    model[1].running_mean = torch.full((16,), float("nan"))
    for group in optimizer.param_groups:
        group["lr"], group["new"] = 7.0, 1
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    random.random()
    np.random.rand()
    torch.rand(1)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    steps_before=st.integers(0, 3),
    gradients=st.booleans(),
    scaled=st.booleans(),
    scheduled=st.booleans(),
    error=st.sampled_from([None, RuntimeError, KeyboardInterrupt, SystemExit]),
)
def test_everything_is_back_to_the_bit_also_after_an_exception(name, steps_before, gradients, scaled, scheduled, error):
    model, optimizer, loader = build(name)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if scaled else None
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1)] if scheduled and name != "tensor lr" else []
    train(model, optimizer, islice(loader, steps_before), scaler)
    if not gradients:
        optimizer.zero_grad()
    before = fingerprint(model, optimizer, loader, scaler, schedulers)
    raised = pytest.raises(error) if error else contextlib.nullcontext()
    with raised, Snapshot(model, optimizer, scaler=scaler, extra_state=schedulers, loaders=[loader]) as state:
        assert all(p.grad is None for p in model.parameters())
        for _ in range(2):
            wreck(model, optimizer, loader, scaler)
            for scheduler in schedulers:
                scheduler.step()
            state.restore()
        wreck(model, optimizer, loader, scaler)
        if error:
            raise error
    assert fingerprint(model, optimizer, loader, scaler, schedulers) == before


def test_a_second_ctrl_c_waits_for_the_restoration_that_the_first_one_began():
    model, optimizer, loader = build()
    before, handler = fingerprint(model, optimizer, loader), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Snapshot(model, optimizer, loaders=[loader]):
        train(model, optimizer, islice(loader, 3))
        try:
            signal.raise_signal(signal.SIGINT)
        finally:  # on the way out, before the restoration has begun
            signal.raise_signal(signal.SIGINT)
            went_on = True
    assert went_on and fingerprint(model, optimizer, loader) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_handler_that_does_not_raise_is_called_each_time():
    model, optimizer, _ = build()
    presses = []
    before = signal.signal(signal.SIGINT, lambda *_: presses.append(1))
    try:
        with Snapshot(model, optimizer):
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            assert len(presses) == 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_device_that_was_not_used_before_starts_from_the_seed_that_it_would_have_had(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    model, optimizer, _ = build()
    torch.manual_seed(1234)
    with Snapshot(model, optimizer):
        seed_everything(0)
    assert seeds[-1] == 1234


class Augmented(torch.utils.data.Dataset):
    """Draws random numbers in its workers."""

    def __len__(self):
        return 32

    def __getitem__(self, i):
        return torch.randn(6), i % 3


def two_epochs(context, disturbed):
    """What persistent workers yield, with or without a sweep between the two."""
    model, optimizer, _ = build()
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": context}
    loader = DataLoader(Augmented(), batch_size=8, shuffle=True, **options)
    first, workers = plain(list(loader)), loader._iterator
    if disturbed:
        with Snapshot(model, optimizer, loaders=[loader]) as state:
            train(model, optimizer, islice(loader, 2))
            others = loader._iterator
            state.restore()
            assert loader._iterator is others is not workers
    assert loader._iterator is workers
    return [first, plain(list(loader))]


def test_persistent_workers_go_on_as_if_nothing_had_been():
    expected = two_epochs("fork", False)
    assert two_epochs("fork", True) == two_epochs("spawn", True) == expected


def test_a_lazy_model_is_refused():
    with pytest.raises(ValueError, match="model.weight has no shape yet; run one batch"):
        Snapshot(nn.LazyLinear(3), build()[1])
