"""lrlib.peers.fastai inside the real fastai's lr_find."""

from functools import partial

import numpy as np
import pytest
import torch
from peer_problems import N_STEPS, RecordedLoss, blobs, build
from torch.utils.data import DataLoader, TensorDataset

from lrlib import suggest
from lrlib.peers.fastai import suggest_lr

basics = pytest.importorskip("fastai.basics", reason="fastai is not installed (make peers)")
schedule = pytest.importorskip("fastai.callback.schedule")
pytestmark = pytest.mark.filterwarnings("ignore")


def learner_in(folder, seed, criterion):
    model, _, _ = build(seed)
    data = TensorDataset(*blobs())
    torch.manual_seed(seed)
    loaders = basics.DataLoaders(DataLoader(data, batch_size=64, shuffle=True), DataLoader(data, batch_size=64))
    return basics.Learner(loaders, model, loss_func=criterion, opt_func=basics.SGD, path=folder)


@pytest.mark.parametrize("beta", [0.98, 0.9])
@pytest.mark.parametrize("seed", range(10))
def test_it_reads_the_raw_losses_of_the_steps_that_lr_find_hands_over(tmp_path, seed, beta):
    criterion = RecordedLoss()
    learner = learner_in(tmp_path, seed, criterion)
    learner.recorder.smooth_loss.beta = beta
    method = suggest_lr if beta == 0.98 else partial(suggest_lr, beta=beta)
    with learner.no_bar():
        found = learner.lr_find(start_lr=1e-4, end_lr=1e3, num_it=N_STEPS, suggest_funcs=(schedule.valley, method))
    first, last = N_STEPS // 10 + 1, len(learner.recorder.lrs) - 5
    lr = np.array(learner.recorder.lrs)
    expected = suggest.suggest_lr(lr[first:last], criterion.losses[first:last])
    assert found.suggest_lr == pytest.approx(expected.lr, rel=1e-3)
    assert found._fields == ("valley", "suggest_lr")


def test_its_point_lies_on_fastais_plot():
    lrs, losses = torch.logspace(-5, 1, 86), torch.linspace(3, 1, 86)
    lr, (x, y) = suggest_lr(lrs, losses, 100)
    assert x == lr and float(losses[-1]) <= y <= float(losses[0])
    place = int((lrs.log() - torch.tensor(lr).log()).abs().argmin())
    assert y == pytest.approx(float(losses[place]), abs=0.03)
