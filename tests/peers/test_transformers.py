"""lrlib.peers.transformers with a real Trainer on a BERT of two small layers, made here: nothing is downloaded."""

import copy

import numpy as np
import pytest
import torch
from peer_problems import assert_equal, weights_of
from torch import nn

import lrlib

transformers = pytest.importorskip("transformers", reason="Transformers is not installed (make peers)")
pytest.importorskip("accelerate")
from lrlib.peers.transformers import range_test  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"start_lr": 1e-5, "end_lr": 10, "num_iter": 30, "repeats": 1, "progress": False}


def samples(n=64):
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 30, (n, 6), generator=generator)
    return [{"input_ids": row, "labels": (row[0] > 15).long()} for row in words]


def trainer_in(folder, kind=None, model=None, **arguments):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    settings = {"report_to": [], "per_device_train_batch_size": 8, "use_cpu": True, "num_train_epochs": 2}
    return (kind or transformers.Trainer)(
        model=model or transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(output_dir=str(folder), **{**settings, "save_strategy": "no", **arguments}),
        train_dataset=samples(),
    )


def test_the_trainers_own_model_optimizer_data_and_loss_are_swept_and_nothing_is_set(tmp_path):
    trainer = trainer_in(tmp_path)
    before, arguments = weights_of(trainer.model), trainer.args.to_dict()
    state, randomness = copy.deepcopy(trainer.state), torch.get_rng_state()
    result = range_test(trainer, **SETTINGS)
    [sweep] = result.sweeps
    assert sweep.loss[0] == pytest.approx(np.log(2), abs=0.2) and len(sweep.lr) > 10
    assert result.settings.optimizer == "AdamW" and result.settings.clip_norm == trainer.args.max_grad_norm == 1.0
    assert_equal(weights_of(trainer.model), before)
    assert trainer.optimizer is None and trainer.lr_scheduler is None
    assert trainer.args.to_dict() == arguments and trainer.state == state
    assert torch.equal(torch.get_rng_state(), randomness)


def test_a_trainer_trains_afterwards_as_if_nothing_had_been_swept(tmp_path):
    plain, swept = trainer_in(tmp_path), trainer_in(tmp_path)
    range_test(swept, **SETTINGS)
    for trainer in (plain, swept):
        torch.manual_seed(1)
        trainer.train()
    assert_equal(weights_of(swept.model), weights_of(plain.model))


def test_apply_sets_the_learning_rate_of_a_reliable_suggestion(tmp_path):
    trainer = trainer_in(tmp_path)
    result = range_test(trainer, apply=True, **{**SETTINGS, "num_iter": 100})
    expected = result.suggest().lr
    assert result.suggest().reliable
    assert trainer.args.learning_rate == expected
    with pytest.warns(
        UserWarning, match="args.learning_rate stays .*, since the suggested lr is not reliable: the loss"
    ):
        flat = range_test(trainer, apply=True, **{**SETTINGS, "start_lr": 1e-9, "end_lr": 1e-8})
    assert not flat.suggest().reliable and trainer.args.learning_rate == expected


def test_a_loss_of_its_own_and_accumulation_are_taken(tmp_path):
    losses = []

    class Weighted(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **_):
            logits = model(input_ids=inputs["input_ids"]).logits
            loss = 3 * nn.functional.cross_entropy(logits, inputs["labels"])
            losses.append(loss.item())
            return (loss, logits) if return_outputs else loss

    result = range_test(trainer_in(tmp_path, Weighted, gradient_accumulation_steps=3, max_grad_norm=0), **SETTINGS)
    n_steps = len(result.sweeps[0].loss)
    assert len(losses) == 3 * n_steps and result.settings.clip_norm is None
    assert np.allclose(result.sweeps[0].loss, np.reshape(losses, (n_steps, 3)).mean(axis=1), rtol=1e-6)


def test_mixed_precision_is_the_trainers(tmp_path):
    trainer = trainer_in(tmp_path, bf16=True)
    dtypes = []
    trainer.model.classifier.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    range_test(trainer, **SETTINGS)
    assert set(dtypes) == {torch.bfloat16}


def test_an_optimizer_after_training_is_swept_from_its_base_rate_and_put_back(tmp_path):
    trainer = trainer_in(tmp_path)
    trainer.train()
    lrs = [group["lr"] for group in trainer.optimizer.param_groups]
    optimizer, before = trainer.optimizer, weights_of(trainer.model)
    assert lrs[0] == 0
    result = range_test(trainer, **SETTINGS)
    assert result.settings.group_ratios == (1.0, 1.0)
    assert trainer.optimizer is optimizer and [group["lr"] for group in optimizer.param_groups] == lrs
    assert_equal(weights_of(trainer.model), before)


def test_what_is_the_trainers_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="clip_norm, step_fn must be the trainer's own"):
        range_test(trainer_in(tmp_path), step_fn=len, clip_norm=1.0)


def test_it_is_lrlibs_sweep(tmp_path):
    result = range_test(trainer_in(tmp_path), **{**SETTINGS, "repeats": 2})
    assert [sweep.seed for sweep in result.sweeps] == [0, 1] and isinstance(result, lrlib.RangeTestResult)
