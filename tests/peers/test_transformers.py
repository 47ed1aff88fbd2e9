"""lrlib.peers.transformers with a real Trainer on a BERT of two small layers, made here: nothing is downloaded."""

import copy

import numpy as np
import pytest
import torch
from peer_problems import assert_equal, weights_of
from torch import nn

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
    assert torch.equal(torch.get_rng_state(), randomness) and not trainer.accelerator.gradient_state.in_dataloader


SCHEDULE_FREE = {"optim": "schedule_free_adamw", "lr_scheduler_type": "constant", "learning_rate": 1e-2}


@pytest.mark.parametrize("arguments", [{}, SCHEDULE_FREE], ids=["AdamW", "AdamWScheduleFree"])
def test_a_trainer_trains_afterwards_as_if_nothing_had_been_swept(tmp_path, arguments):
    if arguments:
        pytest.importorskip("schedulefree", reason="schedulefree is not installed (make peers)")
    plain, swept = (trainer_in(tmp_path, **arguments) for _ in range(2))
    result = range_test(swept, **SETTINGS)
    assert np.ptp(result.sweeps[0].loss) > 0.1
    assert result.settings.optimizer == ("AdamWScheduleFree" if arguments else "AdamW")
    for trainer in (plain, swept):
        torch.manual_seed(1)
        trainer.train()
    assert_equal(weights_of(swept.model), weights_of(plain.model))


def test_apply_sets_what_is_not_of_low_confidence_and_says_so(tmp_path, capsys):
    trainer = trainer_in(tmp_path)
    result = range_test(trainer, apply=True, refine=True, **{**SETTINGS, "num_iter": 150, "repeats": 3})
    expected = result.suggest().lr
    assert result.suggest().reliable
    assert trainer.args.learning_rate == expected
    assert f"learning_rate set to {expected:.3g}: " in capsys.readouterr().out
    with pytest.warns(UserWarning, match=f"learning_rate stays {expected:.3g}: "):
        flat = range_test(trainer, apply=True, **{**SETTINGS, "start_lr": 1e-9, "end_lr": 1e-8})
    assert not flat.suggest().reliable and trainer.args.learning_rate == expected


def test_a_loss_of_its_own_accumulation_and_mixed_precision_are_taken(tmp_path):
    losses, dtypes = [], []

    class Weighted(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **_):
            logits = model(input_ids=inputs["input_ids"]).logits
            loss = 3 * nn.functional.cross_entropy(logits, inputs["labels"])
            losses.append(loss.item())
            return (loss, logits) if return_outputs else loss

    trainer = trainer_in(tmp_path, Weighted, gradient_accumulation_steps=3, max_grad_norm=0, bf16=True)
    trainer.model.classifier.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    result = range_test(trainer, **SETTINGS)
    n_steps = len(result.sweeps[0].loss)
    assert result.settings.clip_norm is None and set(dtypes) == {torch.bfloat16}
    assert np.allclose(result.sweeps[0].loss, np.reshape(losses[: 3 * n_steps], (n_steps, 3)).mean(axis=1), rtol=1e-6)


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
    with pytest.raises(ValueError, match="clip_norm, step_fn must be set in TrainingArguments"):
        range_test(trainer_in(tmp_path), step_fn=len, clip_norm=1.0)
