"""lrlib.peers.fastai inside the real fastai's lr_find."""

from functools import partial

import numpy as np
import pytest
from peer_problems import N_STEPS, RecordedLoss, build

from lrlib import suggest
from lrlib.peers.fastai import suggest_lr

basics = pytest.importorskip("fastai.basics", reason="fastai is not installed (make peers)")
schedule = pytest.importorskip("fastai.callback.schedule")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(("seed", "beta"), [(0, 0.98), (1, 0.98), (2, 0.9)])
def test_it_reads_the_raw_losses_of_the_steps_that_lr_find_hands_over(tmp_path, seed, beta):
    model, _, loader = build(seed)
    loaders, criterion = basics.DataLoaders(loader, loader), RecordedLoss()
    learner = basics.Learner(loaders, model, loss_func=criterion, opt_func=basics.SGD, path=tmp_path)
    learner.recorder.smooth_loss.beta = beta
    method = suggest_lr if beta == 0.98 else partial(suggest_lr, beta=beta)
    with learner.no_bar():
        found = learner.lr_find(start_lr=1e-4, end_lr=1e3, num_it=N_STEPS, suggest_funcs=(schedule.valley, method))
    first, last = N_STEPS // 10 + 1, len(learner.recorder.lrs) - 5
    lr = np.array(learner.recorder.lrs)
    expected = suggest.suggest_lr(lr[first:last], criterion.losses[first:last])
    assert found.suggest_lr == pytest.approx(expected.lr, rel=1e-3)
    assert found._fields == ("valley", "suggest_lr")
