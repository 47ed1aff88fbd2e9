"""Our heuristics on the histories of other tools' own sweeps; each is skipped where the tool is not installed."""

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrlib import suggest
from lrlib.finder.sweeps import range_test

NUM_ITER = 100
HEURISTICS = [suggest.steepest, suggest.minimum_over_ten, suggest.valley, suggest.smith_bounds, suggest.suggest_lr]


def blobs():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (512,), generator=generator)
    return torch.randn(3, 6, generator=generator)[targets] + torch.randn(512, 6, generator=generator), targets


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    return (
        model,
        torch.optim.SGD(model.parameters(), lr=1e-4),
        DataLoader(TensorDataset(*blobs()), batch_size=64, shuffle=True),
    )


def check(lr, loss):
    """Every heuristic reads the history, and the recommended lr is near what our own sweep suggests."""
    lr, loss = np.array(lr, dtype=float), np.array(loss, dtype=float)
    assert len(lr) == len(loss) >= NUM_ITER // 2
    for heuristic in HEURISTICS:
        found = heuristic(lr, loss)
        assert lr[0] / 10 <= found.lr <= lr[-1] and found.heuristic == heuristic.__name__
    model, optimizer, loader = build()
    ours = range_test(
        model, optimizer, nn.functional.cross_entropy, loader, start_lr=1e-4, num_iter=NUM_ITER, progress=False
    )
    # Their losses are running means, late by half a decade or more; nothing that reads them afterwards can undo that.
    assert abs(np.log10(suggest.suggest_lr(lr, loss).lr / ours.suggest().lr)) < 1.2


def test_torch_lr_finders_history():
    torch_lr_finder = pytest.importorskip(
        "torch_lr_finder", reason="torch-lr-finder is not installed (the bench extra)"
    )
    model, optimizer, loader = build()
    finder = torch_lr_finder.LRFinder(model, optimizer, nn.functional.cross_entropy, device="cpu")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder.range_test(loader, start_lr=1e-4, end_lr=10, num_iter=NUM_ITER, diverge_th=50)
    check(finder.history["lr"], finder.history["loss"])


@pytest.mark.filterwarnings("ignore")
def test_fastais_history(tmp_path):
    basics = pytest.importorskip("fastai.basics", reason="fastai is not installed (the bench extra)")
    pytest.importorskip("fastai.callback.schedule", reason="fastai is not installed (the bench extra)")
    model, _, _ = build()
    data = TensorDataset(*blobs())
    loaders = basics.DataLoaders.from_dsets(data, data, bs=64, device="cpu")
    learner = basics.Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), opt_func=basics.SGD, path=tmp_path)
    learner.lr_find(start_lr=1e-4, end_lr=10, num_it=NUM_ITER, stop_div=False, show_plot=False)
    lr = np.array(learner.recorder.lrs)
    rising = np.concatenate([[True], np.diff(lr) > 0])  # it records the last rate twice
    check(lr[rising], np.array([float(loss) for loss in learner.recorder.losses])[rising])


@pytest.mark.filterwarnings("ignore")
def test_lightnings_history(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed (the bench extra)")
    from lightning.pytorch.tuner import Tuner

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr = build()[0], 1e-4

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    trainer = lightning.Trainer(
        max_epochs=20,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    tuner = Tuner(trainer)
    finder = tuner.lr_find(
        Module(),
        build()[2],
        min_lr=1e-4,
        max_lr=10,
        num_training=NUM_ITER,
        early_stop_threshold=None,
        update_attr=False,
    )
    check(finder.results["lr"], finder.results["loss"])
