"""Files as Keras, Lightning, TensorBoard and W&B export them; by the real tool where it is installed (make peers)."""

import numpy as np
import pytest
import torch
from peer_problems import blobs, lightning_module, lightning_trainer
from test_reading import curve, write, write_scalars

import lrlib

pytestmark = pytest.mark.filterwarnings("ignore")


def read_text(folder, text, **settings):
    (folder / "a.csv").write_text(text, encoding="utf-8")
    [sweep] = lrlib.read(folder / "a.csv", **settings).sweeps
    return sweep


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("lr,loss\n0.001,2.5\n0.01,2\n0.1,1.5\n", ("lr", "loss")),
        ("\ufeffepoch,LR , Loss\n0,0.001,2.5\n1,0.01,2\n2,0.1,1.5\n", ("LR", "Loss")),
        ("epoch;learning_rate;loss;val_loss\n0;0,001;2,5;9\n1;0,01;2;9\n2;0,1;1,5;9\n", ("learning_rate", "loss")),
        ("Learning Rate\ttrain_loss\n1e-3\t2,5\n1e-2\t2,0\n1e-1\t1,5\n", ("Learning Rate", "train_loss")),
        ('lr,loss\n0.001,"0,002.5"\n0.01,2\n0.1,1.5\n', ("lr", "loss")),
        ("# by hand\nlr,loss\n\n0.001,2.5\n,NA\n0.01,2\nNA,\n0.1,1.5\n", ("lr", "loss")),
        ("lr,loss,loss_epoch,val/loss,eval_loss\n1e-3,2.5,8,9,9\n.01,2,8,9,9\n.1,1.5,8,9,9\n", ("lr", "loss")),
        (
            '"Step","run - lr-Adam","run - lr-Adam__MIN","run - train/loss","run - train/loss__MAX"\n'
            '"0","0.001","0.001","2.5","2.5"\n"1","0.01","0.01","2","2"\n"2","0.1","0.1","1.5","1.5"\n',
            ("run - lr-Adam", "run - train/loss"),
        ),
        ("_step,lr,train/loss\n0,1e-3,\n1,,2.5\n2,1e-2,\n3,,2\n4,1e-1,\n5,,1.5\n", ("lr", "train/loss")),
        ("step,loss,lr\n0,2.5,\n0,,1e-3\n1,2,\n1,,1e-2\n2,1.5,\n2,,1e-1\n", ("lr", "loss")),
        ("lr,loss_ctc,train/loss,train/loss_ctc\n1e-3,9,2.5,9\n.01,9,2,9\n.1,9,1.5,9\n", ("lr", "train/loss")),
        (
            "lr-Adam/pg1,lr-Adam/pg2,lr-Adam-momentum,loss\n1e-3,1,0,2.5\n.01,1,0,2\n.1,1,0,1.5\n",
            ("lr-Adam/pg1", "loss"),
        ),
    ],
)
def test_columns_numbers_and_rows_are_found_and_named(tmp_path, text, columns):
    sweep = read_text(tmp_path, text)
    assert sweep.lr.tolist() == [0.001, 0.01, 0.1] and sweep.loss.tolist() == [2.5, 2, 1.5]
    assert f"learning rates from {columns[0]}, losses from {columns[1]}" in sweep.stop_reason


QUOTED = {"1,234.5": 1234.5, "1,234": 1234, "0,234": 0.234, "1.5e0": 1.5, "-1,5": -1.5}
BESIDE_SEMICOLONS = {"1.234,5": 1234.5, "1,234": 1.234, "1234,5": 1234.5, "1.5": 1.5, "1,5e-3": 0.0015}


def test_a_comma_is_decimal_beside_semicolons_and_of_thousands_or_decimal_in_a_quoted_cell(tmp_path):
    for cell, number in QUOTED.items():
        assert read_text(tmp_path, f'lr,loss\n0.01,"{cell}"\n0.1,1\n').loss[0] == number
    for cell, number in BESIDE_SEMICOLONS.items():
        assert read_text(tmp_path, f"lr;loss\n0,01;{cell}\n0,1;1\n").loss[0] == number


def test_columns_are_taken_by_name_and_losses_that_are_missing_at_the_end_alone_diverged(tmp_path):
    sweep = read_text(tmp_path, "a,b,loss\n1,5,9\n2,4,9\n", columns=("a", "b"))
    assert (sweep.lr.tolist(), sweep.loss.tolist()) == ([1, 2], [5, 4])
    assert np.isnan(read_text(tmp_path, "lr,loss\n1,3\n2,2\n3,\n4,\n").loss[-1])
    assert np.isnan(read_text(tmp_path, "lr,loss\n1,3\n2,2\n3,nan\n").loss[-1])
    assert read_text(tmp_path, "lr,loss\n1,3\n2,\n3,2\n4,\n").lr.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "one column with the learning rate, got columns none"),
        ("rate,loss\n1,2\n", "one column with the learning rate, got columns rate, loss"),
        ("lr,loss,loss\n1,2,3\n", "one column with the loss, got columns loss, loss"),
        ("lr,train_loss,training/loss\n1,2,3\n", "one column with the loss, got columns train_loss, training/loss"),
        ("lr,val_loss\n1,2\n", "one column with the loss"),
        ("lr,loss\n1,2\n2,abc\n", "must hold numbers, got 'abc' in row 2 of column loss"),
        ("lr,loss\n", "at least two steps, got 0"),
        ("lr,loss\n,2\n,3\n", "at least two steps, got 0"),
        ("Wall time,Step,Value\n1,0,2.5\n2,1,2\n", "holds one scalar of TensorBoard"),
    ],
)
def test_a_file_that_is_not_a_history_is_refused_with_its_name(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_text(tmp_path, text)
    assert "a.csv" in str(caught.value)


def test_tensorboards_files_are_read_together(tmp_path):
    lr, loss = curve(n=60)
    files = write_scalars(tmp_path, lr, loss)
    for pair in (files, files[::-1]):
        [sweep] = lrlib.read(pair).sweeps
        assert np.array_equal(sweep.lr, lr) and np.array_equal(sweep.loss, loss)
        assert "learning rates from lr.csv, losses from loss.csv" in sweep.stop_reason
    with pytest.raises(ValueError, match="must hold rising learning rates, got 0"):
        lrlib.read((files[1], files[1]))


def test_lightnings_metrics_are_read(tmp_path):
    pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed (make peers)")
    losses, rates = [], []

    class Module(lightning_module(pl)):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            losses.append(loss.item())
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), 1e-5)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.2**step)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    logger, monitor = pl.loggers.CSVLogger(tmp_path, name="", version=""), pl.callbacks.LearningRateMonitor("step")
    settings = {"max_epochs": 10, "logger": logger, "callbacks": [monitor], "log_every_n_steps": 2}
    lightning_trainer(pl, tmp_path, **settings).fit(Module())
    [sweep] = lrlib.read(tmp_path / "metrics.csv").sweeps
    assert np.allclose(sweep.lr, rates[1::2]) and np.allclose(sweep.loss, losses[1::2], rtol=1e-6)
    assert "learning rates from lr-Adam, losses from train/loss_step" in sweep.stop_reason


def test_keras_mean_over_an_epoch_is_recognised_and_undone(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed (make peers)")
    keras.utils.set_random_seed(0)
    x, y = (part.numpy() for part in blobs())
    model = keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(3)])
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), loss_fn)
    rates, kept = [], []

    class Sweep(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(1e-4 * 1.12 ** len(rates))
            model.optimizer.learning_rate = rates[-1]

        def on_train_batch_end(self, batch, logs=None):
            kept.append(logs["loss"])

    model.fit(x, y, batch_size=32, epochs=7, verbose=0, callbacks=[Sweep()])
    path = write(tmp_path / "a.csv", np.array(rates), np.array(kept), header="learning_rate,loss")
    with pytest.raises(ValueError, match="restarts about every 16 steps"):
        lrlib.read(path)
    [sweep] = lrlib.read(path, epoch_steps=16).sweeps
    for start in range(0, 112, 16):
        assert sweep.loss[start] == pytest.approx(kept[start], rel=1e-5)
        assert sweep.loss[start : start + 16].mean() == pytest.approx(kept[start + 15], rel=1e-4)
