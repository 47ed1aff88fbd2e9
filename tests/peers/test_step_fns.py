"""Tools that need no adapter: the step_fn that lrlib/peers/README.md gives for them, as it is typed there."""

import importlib.util

import numpy as np
import pytest
import torch
from peer_problems import assert_equal, blobs, build, weights_of
from torch import nn

import lrlib

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"start_lr": 1e-4, "num_iter": 40, "repeats": 1, "progress": False}


def test_monai():
    data = pytest.importorskip("monai.data", reason="MONAI is not installed (make peers)")
    model, optimizer, _ = build()
    samples = [{"image": x, "label": y} for x, y in zip(*blobs(), strict=True)]
    loader, loss = data.DataLoader(data.Dataset(samples), batch_size=64), nn.CrossEntropyLoss()
    before = weights_of(model)
    result = lrlib.range_test(
        model,
        optimizer,
        None,
        loader,
        step_fn=lambda batch: loss(model(batch["image"]), batch["label"]),
        **SETTINGS,
    )
    assert_equal(weights_of(model), before)
    assert result.sweeps[0].loss[0] > 0.8


def test_skorch():
    skorch = pytest.importorskip("skorch", reason="skorch is not installed (make peers)")
    X, y = (part.numpy() for part in blobs())
    net = skorch.NeuralNetClassifier(build()[0], criterion=nn.CrossEntropyLoss, lr=1e-3, batch_size=64, verbose=0)
    net.initialize()
    before = weights_of(net.module_)
    result = lrlib.range_test(
        net.module_,
        net.optimizer_,
        None,
        net.get_iterator(net.get_dataset(X, y), training=True),
        step_fn=lambda batch: net.get_loss(net.infer(batch[0]), batch[1], X=batch[0], training=True),
        **SETTINGS,
    )
    assert_equal(weights_of(net.module_), before)
    assert result.sweeps[0].loss[0] > 0.8 and np.isfinite(result.suggest().lr)
    net.set_params(lr=result.suggest().lr, max_epochs=5)
    assert net.fit(X, y).history[-1, "train_loss"] < 0.8


@pytest.mark.skipif(
    not importlib.util.find_spec("composer"), reason="Composer is not installed; it asks for an older torch"
)
def test_composer():
    from composer.models import ComposerClassifier

    model = ComposerClassifier(build()[0], num_classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    step_fn = lambda batch: model.loss(model(batch), batch)  # noqa: E731
    result = lrlib.range_test(model, optimizer, None, build()[2], step_fn=step_fn, **SETTINGS)
    assert result.sweeps[0].loss[0] > 0.8
