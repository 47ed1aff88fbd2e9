"""The histories of other tools' own sweeps, read: the rules find in them what they find in the raw losses.

Each tool is the real one; where it is not installed its tests are skipped (`make peers` installs them).
"""

from functools import partial

import numpy as np
import pytest
import torch
from peer_problems import N_STEPS, RecordedLoss, build, lightning_module, lightning_trainer
from torch import nn

import lrlib
from lrlib import suggest

pytestmark = pytest.mark.filterwarnings("ignore")
SEEDS = range(3)
RULES = [suggest.steepest, suggest.minimum_over_ten, suggest.valley, suggest.smith_bounds, suggest.suggest_lr]


def check(result, raw, *, rtol):
    """One sweep with the losses as they were made; every rule reads them as it reads those."""
    [sweep] = result.sweeps
    assert len(sweep.lr) >= N_STEPS // 2
    raw = np.array(raw)[: len(sweep.loss)]
    finite = np.isfinite(raw)
    assert np.allclose(sweep.loss[finite], raw[finite], rtol=rtol, atol=rtol)
    for rule in RULES:
        found, expected = result.suggest(rule), rule(sweep.lr, raw)
        assert found.lr == pytest.approx(expected.lr, rel=100 * rtol), rule.__name__
        assert found.heuristic == expected.heuristic


@pytest.mark.parametrize("smooth_f", [0, 0.02, 0.05, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_lr_finders(smooth_f, dtype):
    tool = pytest.importorskip("torch_lr_finder")
    for seed in SEEDS:
        model, optimizer, loader = build(seed, dtype=dtype)
        criterion = RecordedLoss()
        finder = tool.LRFinder(model, optimizer, criterion, device="cpu")
        finder.range_test(loader, start_lr=1e-4, end_lr=10, num_iter=N_STEPS, smooth_f=smooth_f)
        if dtype == torch.float64:  # nothing shows the weight then
            with pytest.raises(ValueError, match="pass smooth_f as the finder got it"):
                lrlib.read(finder)
        result = lrlib.read(finder, **({} if dtype == torch.float32 else {"smooth_f": smooth_f}))
        check(result, criterion.losses, rtol=1e-11)
        assert result.settings.optimizer == "SGD" and any(result.settings.momentum)
    with pytest.raises(ValueError, match="is a mean of another kind; beta does not apply"):
        lrlib.read(finder, beta=0.98)


def test_monais():
    tool = pytest.importorskip("monai.optimizers")
    (model, optimizer, loader), criterion = build(), RecordedLoss()
    finder = tool.LearningRateFinder(model, optimizer, criterion, verbose=False)
    finder.range_test(loader, start_lr=1e-4, end_lr=10, num_iter=N_STEPS)
    check(lrlib.read(finder), criterion.losses, rtol=1e-11)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("start_lr", [None, 1e-4])
def test_ignites(start_lr, groups):
    engine, handlers = pytest.importorskip("ignite.engine"), pytest.importorskip("ignite.handlers")
    model, optimizer, loader = build(lr=1e-4 if start_lr is None else 0.1, groups=groups)
    criterion = RecordedLoss()
    trainer = engine.create_supervised_trainer(model, optimizer, criterion)
    finder = handlers.FastaiLRFinder()
    to_save = {"model": model, "optimizer": optimizer}
    with finder.attach(trainer, to_save, num_iter=N_STEPS, start_lr=start_lr, end_lr=10.0) as sweeper:
        sweeper.run(loader)
    result = lrlib.read(finder)
    assert len(result.settings.group_ratios) == 1 + groups
    assert result.settings.optimizer == "SGD" and any(result.settings.momentum)
    check(result, criterion.losses, rtol=1e-11)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lightnings_at_the_start_and_at_a_later_epoch(epoch, dtype, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    criterion = RecordedLoss()

    class AtEpoch(lightning.callbacks.LearningRateFinder):
        def on_fit_start(self, *_):
            return

        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == epoch and self.optimal_lr is None:
                begins = len(criterion.losses)
                self.lr_find(trainer, module)
                self.swept = criterion.losses[begins:]
                trainer.should_stop = True

    settings = {"num_training_steps": N_STEPS, "early_stop_threshold": None, "update_attr": False}
    finder, module = AtEpoch(min_lr=1e-4, max_lr=10, **settings), lightning_module(lightning, criterion, dtype=dtype)()
    lightning_trainer(lightning, tmp_path, max_epochs=30, callbacks=[finder]).fit(module)
    if dtype == torch.float64 and epoch > 0:
        with pytest.raises(ValueError, match="does not show where its mean starts; pass first_step"):
            lrlib.read(finder)
        check(lrlib.read(finder, first_step=len(module.loader) + 2), finder.swept, rtol=1e-10)
    else:
        check(lrlib.read(finder), finder.swept, rtol=1e-10)


def fastai_learner(basics, folder, seed=0, beta=0.98):
    model, _, loader = build(seed)
    criterion = RecordedLoss()
    loaders = basics.DataLoaders(loader, loader)
    learner = basics.Learner(loaders, model, loss_func=criterion, opt_func=basics.SGD, path=folder)
    learner.recorder.smooth_loss.beta = beta
    return learner, criterion


@pytest.mark.parametrize("beta", [0.98, 0.9])
def test_fastais(beta, tmp_path):
    basics = pytest.importorskip("fastai.basics")
    pytest.importorskip("fastai.callback.schedule")
    for seed in SEEDS:
        learner, criterion = fastai_learner(basics, tmp_path, seed, beta)
        learner.lr_find(start_lr=1e-4, end_lr=10, num_it=N_STEPS, stop_div=False, show_plot=False)
        check(lrlib.read(learner), criterion.losses, rtol=2e-4)  # it keeps its mean in float32
        check(lrlib.read(learner.recorder), criterion.losses, rtol=2e-4)


@pytest.mark.parametrize(("seed", "beta"), [(0, 0.98), (1, 0.98), (2, 0.9)])
def test_in_fastais_own_lr_find_the_rule_reads_the_raw_losses_that_it_hands_over(tmp_path, seed, beta):
    basics = pytest.importorskip("fastai.basics")
    schedule = pytest.importorskip("fastai.callback.schedule")
    from lrlib.peers.fastai import suggest_lr

    learner, criterion = fastai_learner(basics, tmp_path, seed, beta)
    methods = (schedule.valley, suggest_lr if beta == 0.98 else partial(suggest_lr, beta=beta))
    with learner.no_bar():
        found = learner.lr_find(start_lr=1e-4, end_lr=1e3, num_it=N_STEPS, suggest_funcs=methods)
    first, last = N_STEPS // 10 + 1, len(learner.recorder.lrs) - 5
    expected = suggest.suggest_lr(np.array(learner.recorder.lrs)[first:last], criterion.losses[first:last])
    assert found.suggest_lr == pytest.approx(expected.lr, rel=1e-3)
    assert found._fields == ("valley", "suggest_lr")


def test_a_finder_that_has_not_run_is_told_to_run():
    tools = pytest.importorskip("torch_lr_finder"), pytest.importorskip("lightning.pytorch.callbacks")
    handlers = pytest.importorskip("ignite.handlers")
    finders = tools[0].LRFinder(*build()[:2], nn.CrossEntropyLoss()), tools[1].LearningRateFinder()
    for finder in (*finders, handlers.FastaiLRFinder()):
        with pytest.raises(ValueError, match="history must hold at least two steps, got 0; run the finder"):
            lrlib.read(finder)
