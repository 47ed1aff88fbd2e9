"""Every row of lrlib/peers/README.md with the real tool: what one types today runs, and what one types instead too."""

import importlib
import os
import re

import matplotlib
import numpy as np
import pytest
from peer_problems import blobs, build, lightning_module, lightning_trainer
from test_histories import fastai_learner
from test_reading import curve, write
from test_undoing import epoch_mean
from torch import nn

import lrlib

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore")


def torch_lr_finder(tool, folder):
    model, optimizer, loader = build()
    loss_fn = nn.CrossEntropyLoss()
    finder = tool.LRFinder(model, optimizer, loss_fn, device="cpu")
    return dict(model=model, optimizer=optimizer, loader=loader, loss_fn=loss_fn), finder


def monai(tool, folder):
    data = importlib.import_module("monai.data")
    model, optimizer, _ = build()
    samples = [{"image": x, "label": y} for x, y in zip(*blobs(), strict=True)]
    loader, loss_fn = data.DataLoader(data.Dataset(samples), batch_size=64), nn.CrossEntropyLoss()
    finder = importlib.import_module("monai.optimizers").LearningRateFinder(model, optimizer, loss_fn, verbose=False)
    return dict(model=model, optimizer=optimizer, loader=loader, loss_fn=loss_fn), finder


def ignite(tool, folder):
    model, optimizer, loader = build()
    engine = importlib.import_module("ignite.engine")
    trainer = engine.create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    names = dict(loader=loader, trainer=trainer, to_save={"model": model, "optimizer": optimizer})
    return names, importlib.import_module("ignite.handlers").FastaiLRFinder()


def fastai(tool, folder):
    basics = importlib.import_module("fastai.basics")
    importlib.import_module("fastai.callback.schedule")
    importlib.import_module("lrlib.peers.fastai")
    return dict(learn=fastai_learner(basics, folder)[0]), None


def lightning(tool, folder):
    pl = importlib.import_module("lightning.pytorch")
    importlib.import_module("lrlib.peers.lightning")
    trainer = lightning_trainer(pl, folder, max_epochs=20)
    return dict(lightning=tool, trainer=trainer, module=lightning_module(pl)()), None


def transformers(tool, folder):
    from test_transformers import trainer_in

    importlib.import_module("lrlib.peers.transformers")
    return dict(trainer=trainer_in(folder)), None


def accelerate(tool, folder):
    importlib.import_module("lrlib.peers.accelerate")
    accelerator, (model, optimizer, loader) = tool.Accelerator(cpu=True), build()
    prepared = accelerator.prepare(*build())
    names = dict(model=model, optimizer=optimizer, loader=loader, loss_fn=nn.CrossEntropyLoss())
    return dict(names, accelerator=accelerator, prepared=prepared), None


def skorch(tool, folder):
    X, y = (part.numpy() for part in blobs())
    net = tool.NeuralNetClassifier(build()[0], criterion=nn.CrossEntropyLoss, max_epochs=1, batch_size=64, verbose=0)
    return dict(net=net.initialize(), X=X, y=y), None


def keras(tool, folder):
    lr, loss = curve()
    write(folder / "history.csv", lr, epoch_mean(loss, 16).astype(float))
    return dict(keras=tool), None


def logger(tool, folder):
    write(folder / "metrics.csv", *curve(), header="lr-Adam,train/loss")
    return {}, None


SET_UP = {"any": (None, logger), "MONAI": ("monai", monai), "torch-lr-finder": ("torch_lr_finder", torch_lr_finder)}
SET_UP |= {f.__name__.capitalize(): (f.__name__, f) for f in (lightning, transformers, accelerate, keras)}
SET_UP |= {f.__name__: (f.__name__, f) for f in (ignite, fastai, skorch)}


def rows():
    from conftest import ROOT

    table = (ROOT / "lrlib" / "peers" / "README.md").read_text().partition("\n\n| tool | today")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        tool, today, instead, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        yield pytest.param(tool, today.strip("`"), instead.strip("`"), id=f"{tool}: {re.split(r'[( ]', instead)[0]}")


@pytest.mark.parametrize(("tool", "today", "instead"), list(rows()))
def test_a_row_does_what_it_says(tool, today, instead, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
    module, set_up = SET_UP[tool.split()[0]]
    installed = module and pytest.importorskip(module, reason=f"{module} is not installed (make peers)")
    names, finder = set_up(installed, tmp_path)
    names |= {"lrlib": lrlib, "finder": finder}
    exec(today, names)
    found = eval(instead, names)
    if instead.endswith("suggest_lr)"):
        assert found.suggest_lr > 0
    elif instead.endswith("Finder()"):
        assert callable(found.on_fit_start)
    else:
        assert isinstance(found, lrlib.RangeTestResult)
        assert np.isfinite(found.suggest().lr) and len(found.sweeps[0].lr) >= 20
