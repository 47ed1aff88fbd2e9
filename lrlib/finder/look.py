"""A first coarse look: the learning rates between which a sweep is worth its steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from lrlib.finder.one_sweep import OneSweep
from lrlib.finder.restore import State
from lrlib.finder.result import Settings, Sweep
from lrlib.finder.step import Training
from lrlib.suggest import turning_points

# Four rates a decade over all that a learning rate may be; a look ends where the loss explodes, mostly after 35 steps.
FIRST, LAST, NUM_ITER = 1e-8, 1e8, 65
SMOOTH_F = 0.3  # of its few losses, so that the explosion is seen at once
# By how much a sweep begins below where a look has made half of its fall, the one mark of so few losses that noise does
# not move. Half a decade to one and a half of level loss are left before the sweep's own fall, which is earlier.
MARGIN = 300
FALLBACK = 1e-6, 10.0  # the ends of a sweep of which the look says nothing


def look_around(
    training: Training, state: State, begin: Callable[[], Iterator[Any]], bar: Any, *, start_lr: float | None, seed: int
) -> Settings:
    """The training's settings with ends that a short sweep has chosen, and the number of its updates.

    start_lr: the first rate where it is known; None chooses it too. The state is put back before the return.
    """
    settings = training.settings
    training.settings = replace(
        settings,
        start_lr=start_lr or FIRST,
        end_lr=max(LAST, 10 * (start_lr or FIRST)),
        num_iter=NUM_ITER,
        step_mode="exp",
        num_rates=None,
        smooth_f=SMOOTH_F,
    )
    try:
        sweep = OneSweep(training, state, bar).run(begin, [], seed=seed)
    finally:
        training.settings = settings
    state.put_back()
    lower, upper = choose_ends(sweep)
    lower = start_lr or lower
    return replace(settings, start_lr=lower, end_lr=max(upper, 10 * lower), look_steps=len(sweep.lr))


def choose_ends(look: Sweep) -> tuple[float, float]:
    """(start_lr, end_lr): well below where the look's loss had made half of its fall, and where it exploded.

    Those of FALLBACK where it does not both fall and turn up again.
    """
    half = turning_points(look.lr, look.loss, fraction=0.5)
    if not half.reliable:
        return FALLBACK
    return half.start_of_fall / MARGIN, float(look.lr[-1])
