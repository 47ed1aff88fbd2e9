import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from lrlib.schedules import Constant, Exponential, MultiStep, OneCycle, lr_per_step, parse_schedule

EPOCHS, STEPS = 6, 7
TOTAL = EPOCHS * STEPS
SHAPED = {"pct_start": 0.4, "anneal_strategy": "linear", "three_phase": True, "base_momentum": 0.8, "max_momentum": 0.9}
FLAT = {"pct_start": 0.5, "div_factor": 10, "cycle_momentum": False}


def drive(lr, make, *, per_epoch=False):
    """lr and momentum of each step of an ordinary training loop with torch's scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    seen = []
    for step in range(TOTAL):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        optimizer.step()
        if step + 1 < TOTAL and (not per_epoch or (step + 1) % STEPS == 0):
            scheduler.step()
    return np.array(seen).T


def cycle(max_lr, **options):
    return drive(1.0, lambda o: lr_scheduler.OneCycleLR(o, max_lr, total_steps=TOTAL, **options))


def multistep(milestones, gamma):
    return drive(0.1, lambda o: lr_scheduler.MultiStepLR(o, milestones, gamma), per_epoch=True)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), drive(0.3, lambda o: lr_scheduler.ConstantLR(o, factor=1.0))),
        (MultiStep(0.1, [2, 5], 0.1), multistep([2, 5], 0.1)),
        (MultiStep(0.1, [1], 0.5), multistep([1], 0.5)),
        (OneCycle(0.1, final_div_factor=4), cycle(0.1, final_div_factor=4)),
        (OneCycle(0.2, **FLAT), cycle(0.2, **FLAT)),
        (OneCycle(0.1, **SHAPED), cycle(0.1, **SHAPED)),
        (
            Exponential(1e-6, 1.18),
            drive(1e-6, lambda o: lr_scheduler.ExponentialLR(o, gamma=(1.18 / 1e-6) ** (1 / TOTAL))),
        ),
    ],
    ids=lambda value: str(value) if not isinstance(value, np.ndarray) else "",
)
def test_every_step_has_the_lr_and_momentum_that_torch_uses(schedule, expected):
    found = lr_per_step(schedule, epochs=EPOCHS, steps_per_epoch=STEPS, momentum=0.9)
    np.testing.assert_array_equal(np.stack(found), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "lr must be a positive number, got 0"),
        (lambda: Constant(math.nan), "lr must be a positive number, got nan"),
        (lambda: MultiStep(-1.0), "lr must be a positive number, got -1.0"),
        (lambda: MultiStep(0.1, [25, 15]), r"milestones must be .* in increasing order, got \[25, 15\]"),
        (lambda: MultiStep(0.1, []), "milestones must be"),
        (lambda: MultiStep(0.1, [5], gamma=2.0), r"gamma must be in \(0, 1\], got 2.0"),
        (lambda: MultiStep(0.1, [15, 40]).check_epochs(30), r"past the last epoch, 30, got \[15, 40\]; lower \[40\]"),
        (lambda: OneCycle(0.1, pct_start=30), r"pct_start must be in \(0, 1\), got 30; it is a fraction"),
        (lambda: OneCycle(0.1, anneal_strategy="exp"), 'anneal_strategy must be "cos" or "linear", got \'exp\''),
        (lambda: OneCycle(0.1, base_momentum=0.96), "base_momentum and max_momentum must be .* got 0.96 and 0.95"),
        (lambda: Exponential(1.0, 0.1), "start_lr must be less than end_lr, got 1.0 and 0.1"),
        (lambda: Exponential(0.0, 0.1), "start_lr must be a positive number"),
        (lambda: parse_schedule("OneCycle(-1)"), "max_lr must be a positive number, got -1"),
    ],
)
def test_values_outside_their_range_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OneCycle(0.1, pct_start=0.2)", OneCycle(0.1, pct_start=0.2)),
        (" MultiStep(lr=1e-1, milestones=[5, 25]) ", MultiStep(0.1, (5, 25))),
        ("Exponential(1e-6, 1)", Exponential(1e-6, 1)),
    ],
)
def test_a_schedule_is_read_from_its_call(text, expected):
    assert parse_schedule(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "OneCycle", "OneCycle()", "OneCycle(0.1, peak=2)", "Cycle(0.1)", "OneCycle(max_lr=open('x'))",
     "OneCycle(**{})", "os.system('true')", "OneCycle(0.1) or 1", "(" * 500],
)  # fmt: skip
def test_what_is_no_call_of_a_schedule_is_refused_and_not_evaluated(text):
    with pytest.raises(ValueError, match="a schedule must be a call of Constant"):
        parse_schedule(text)
