"""lrlib.peers.lightning with the real Lightning: at the start and later, with groups, precisions and schedulers."""

import importlib
import random
import sys
from functools import partial

import numpy as np
import pytest
import torch
from peer_problems import assert_equal, lightning_module, lightning_trainer, weights_of
from torch import nn
from torch.utils.data import DataLoader

import lrlib
from lrlib import suggest

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed (make peers)")
from lrlib.peers.lightning import LearningRateFinder, Tuner  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


# Outside the module, whose own attributes are put back.
LOSSES, CALLS, FAIL_AT = [], [], []


@pytest.fixture(autouse=True)
def nothing_recorded():
    for record in (LOSSES, CALLS, FAIL_AT):
        record.clear()


class Module(lightning_module(pl)):
    def __init__(self, groups=False, scheduler=None):
        super().__init__()
        self.groups, self.scheduler = groups, scheduler

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        LOSSES.append(loss.item())
        if len(LOSSES) in FAIL_AT:
            raise FloatingPointError("stop here")
        self.log("loss", loss, prog_bar=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        parts = [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters()}]
        if self.groups:
            parts[1]["lr"] = 10 * self.lr
        optimizer = torch.optim.SGD(parts, lr=self.lr, momentum=0.9)
        return ([optimizer], [self.scheduler(optimizer)]) if self.scheduler else optimizer


trainer_in = partial(lightning_trainer, pl)


@pytest.fixture
def tune(tmp_path):
    def tune(module, trainer=None, **settings):
        return Tuner(trainer or trainer_in(tmp_path)).lr_find(module, **{"min_lr": 1e-5, "max_lr": 100, **settings})

    return tune


def test_the_tuner_finds_what_the_rule_reads_in_the_raw_losses_and_sets_it(tune, tmp_path):
    module = Module()
    before = weights_of(module)
    finder = tune(module)
    raw = LOSSES[: len(finder.results["lr"])]
    assert finder.results["loss"] == raw and raw[0] > 0.8
    expected = suggest.suggest_lr(finder.results["lr"], raw, total_steps=200)
    assert finder.suggestion() == finder.result.suggest().lr == expected.lr == module.lr
    assert finder.results["lr"][0] == pytest.approx(1e-5)
    assert lrlib.read(finder) is finder.result
    assert_equal(weights_of(module), before)
    assert not list(tmp_path.iterdir())


def one_cycle(module):
    """As users write it: the trainer sets up the data to say how many steps there are."""
    optimizer = torch.optim.SGD(module.parameters(), lr=module.lr, momentum=0.9)
    total_steps = module.trainer.estimated_stepping_batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, module.lr, total_steps)
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


@pytest.mark.parametrize("asks_for_steps", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
def test_the_module_trains_afterwards_as_if_nothing_had_been_swept(tune, tmp_path, asks_for_steps, own_generator):
    trained = []
    for sweeps in (True, False):
        module = Module()
        if asks_for_steps:
            module.configure_optimizers = partial(one_cycle, module)
        if not own_generator:
            module.loader = DataLoader(module.loader.dataset, batch_size=64, shuffle=True)
        pl.seed_everything(1)
        trainer = trainer_in(tmp_path)
        if sweeps:
            tune(module, trainer, update_attr=False)
        trainer.fit(module)
        trained.append(weights_of(module))
        assert trainer.global_step == 32 and not [c for c in trainer.callbacks if isinstance(c, LearningRateFinder)]
    assert_equal(*trained)


class AtEpochs(LearningRateFinder):
    """As Lightning's own documentation extends its callback."""

    def __init__(self, milestones, **settings):
        super().__init__(**settings)
        self.milestones = milestones

    def on_fit_start(self, trainer, pl_module):
        return

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch in self.milestones:
            before = self.state_of(trainer, pl_module)
            self.lr_find(trainer, pl_module)
            assert self.state_of(trainer, pl_module) == before

    def state_of(self, trainer, pl_module):
        optimizer, loop = trainer.optimizers[0].state_dict()["state"], trainer.fit_loop.state_dict()
        state = repr((pl_module.state_dict(), optimizer, loop))
        return state, torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_sweeping_at_milestones_changes_nothing_of_training(tmp_path, workers):
    trained = []
    options = {"min_lr": 1e-5, "max_lr": 100, "num_training_steps": 20, "update_attr": False}
    for callbacks in ([], [AtEpochs((0, 1, 2), **options)]):
        pl.seed_everything(1)
        module = Module()
        if workers:
            own = {"num_workers": workers, "persistent_workers": True}
            module.loader = DataLoader(module.loader.dataset, batch_size=64, shuffle=True, **own)
        trainer = trainer_in(tmp_path, callbacks=callbacks, max_epochs=3)
        trainer.fit(module)
        trained.append((weights_of(module), {name: float(value) for name, value in trainer.callback_metrics.items()}))
    assert_equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1] and trained[0][1]


def test_all_is_back_after_an_exception(tmp_path):
    module = Module()
    before = weights_of(module)
    FAIL_AT.append(40)
    trainer = trainer_in(tmp_path)
    with pytest.raises(FloatingPointError, match="stop here"):
        Tuner(trainer).lr_find(module, min_lr=1e-5, max_lr=100)
    assert_equal(weights_of(module), before)
    assert not [c for c in trainer.callbacks if isinstance(c, LearningRateFinder)]
    FAIL_AT.clear()
    assert Tuner(trainer).lr_find(module, min_lr=1e-5, max_lr=100).suggestion() > 0


schedules = torch.optim.lr_scheduler
SCHEDULES = {
    "lambda": lambda optimizer: schedules.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
    "warm-up from zero": lambda optimizer: schedules.LambdaLR(optimizer, lambda epoch: epoch / 2),
    "step": lambda optimizer: schedules.StepLR(optimizer, 1, 0.5),
    "chain": lambda optimizer: schedules.ChainedScheduler([schedules.LambdaLR(optimizer, lambda epoch: 0.5**epoch)]),
    "one cycle": lambda optimizer: schedules.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], 4),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_groups_keep_their_ratios_and_schedulers_go_on_from_the_suggestion(tmp_path, kind):
    rates, expected = [], []

    def read(optimizer):
        return [group["lr"] for group in optimizer.param_groups]

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer, _):
            rates.extend(read(trainer.optimizers[0]))

    finder = LearningRateFinder(1e-5, 100, num_training_steps=300)
    module = Module(groups=True, scheduler=SCHEDULES[kind])
    trainer_in(tmp_path, max_epochs=3, callbacks=[finder, Watch()]).fit(module)
    assert finder.optimal_lr.result.settings.group_ratios == (1.0, 1.0 if kind == "one cycle" else 10.0)
    assert module.lr == finder.result.suggest().lr != 1e-3
    [optimizer], [schedule] = module.configure_optimizers()  # at the suggested lr from the start
    for _ in range(3):
        expected.extend(read(optimizer))
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


def test_accumulation_clipping_limits_and_precision_are_the_trainers(tune, tmp_path):
    class Clipping(Module):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            CALLS.append(float(nn.utils.get_total_norm([p.grad for p in self.parameters()])))

    module, dtypes = Clipping(), []
    module.model[0].register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    settings = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.01, "limit_train_batches": 5}
    finder = tune(module, trainer_in(tmp_path, precision="bf16-mixed", **settings), num_training=20)
    assert len(finder.results["lr"]) == 20 and len(LOSSES) >= 60 and set(dtypes) == {torch.bfloat16}
    assert finder.results["loss"][0] == pytest.approx(np.mean(LOSSES[:3]))
    assert len(CALLS) >= 20 and max(CALLS) == pytest.approx(0.01, rel=1e-3)


def test_modules_with_other_signatures_loaders_and_outputs_are_swept(tune):
    class Other(Module):
        def training_step(self, batch):
            (inputs, targets), _ = batch["a"], batch["b"]
            return {"loss": nn.functional.cross_entropy(self.model(inputs), targets)}

        def train_dataloader(self):
            return {"a": self.loader, "b": self.loader}

        def backward(self, loss):
            CALLS.append(1)
            loss.backward()

    module = Other()
    assert len(tune(module, num_training=30).results["lr"]) == 30 and len(CALLS) >= 30


def test_the_surface_is_lightnings_but_for_low_confidence(tune, tmp_path):
    module = Module()
    module.rate = 1e-3
    finder = tune(module, attr_name="rate")
    figure = finder.plot(suggest=True)
    assert finder.plot(ax=figure.axes[0]) is figure and figure.axes[0].get_xscale() == "log"
    assert finder.suggestion(skip_begin=5, skip_end=3) == finder.result.suggest().lr == module.rate
    with pytest.warns(UserWarning, match="lr stays as it is: the loss"):
        assert not tune(module, max_lr=1e-3).result.suggest().reliable  # of low confidence: not set
    assert module.lr == 1e-3
    assert tune(Module(), trainer_in(tmp_path, fast_dev_run=True)) is None


@pytest.mark.parametrize("how", ["beside", "installed alone"])
def test_trainers_of_lightnings_other_package_are_swept_too(tmp_path, monkeypatch, how):
    other = pytest.importorskip("pytorch_lightning")
    if how == "installed alone":
        for name in ("lrlib.peers.lightning", "lightning.pytorch"):
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "lightning", None)
    peer = importlib.import_module("lrlib.peers.lightning")

    class Logging(lightning_module(other)):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss)
            return loss

    module = Logging()
    found = peer.Tuner(lightning_trainer(other, tmp_path)).lr_find(module, min_lr=1e-5, max_lr=100)
    assert module.lr == found.suggestion() != 1e-3
    assert (peer.pl is other) == (how == "installed alone")


class Two(Module):
    def configure_optimizers(self):
        self.automatic_optimization = False
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (self.model[0], self.model[2])]


@pytest.mark.parametrize(
    ("error", "kind", "settings"),
    [
        (ValueError, Module, {"method": "validate"}),
        (AttributeError, Module, {"attr_name": "rate"}),
        (ValueError, Two, {}),
        (ValueError, Module, {"num_training": 5}),
        (ValueError, Module, {"mode": "linear"}),
        (ValueError, Module, {"callbacks": [LearningRateFinder()]}),
    ],
)
def test_what_cannot_be_swept_is_refused(tune, tmp_path, error, kind, settings):
    trainer = trainer_in(tmp_path, callbacks=settings.pop("callbacks", None))
    with pytest.raises(error):
        tune(kind(), trainer, **settings)
