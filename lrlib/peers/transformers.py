"""The range test of a Transformers Trainer: its own model, optimizer, data and loss. Transformers is not imported."""

import warnings
from typing import Any

from torch import Tensor

from lrlib.finder.result import RangeTestResult
from lrlib.finder.sweeps import range_test as sweep


def range_test(trainer: Any, *, apply: bool = False, **settings: Any) -> RangeTestResult:
    """lrlib.range_test of what trainer.train() would train; the trainer is afterwards what it was.

    Taken from the trainer: model, optimizer (made as train() makes it, if there is none yet), get_train_dataloader(),
    compute_loss(), mixed precision, gradient_accumulation_steps and max_grad_norm. settings: those of lrlib.range_test,
    such as start_lr, end_lr, num_iter, repeats.
    apply: set args.learning_rate, where an optimizer that train() makes begins, to the suggestion if that is reliable;
        else warn that it stays.

    Raises ValueError in several processes, or for a setting that is the trainer's.
    """
    own = {"step_fn", "scaler", "accumulation_steps", "clip_norm"}
    if own & set(settings):
        raise ValueError(
            f"{', '.join(sorted(own & set(settings)))} must be the trainer's own, got it besides; set it in "
            "TrainingArguments"
        )
    accelerator, args = trainer.accelerator, trainer.args
    if accelerator.num_processes > 1:
        raise ValueError(
            f"a Trainer is swept in one process, got {accelerator.num_processes}; prepare model, optimizer and loader "
            "with Accelerate and call lrlib.range_test"
        )

    def step(batch: Any) -> Tensor:
        with accelerator.autocast(), trainer.compute_loss_context_manager():
            loss: Tensor = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
        return loss.mean()

    made, n_loaders = trainer.optimizer is None, len(accelerator._dataloaders)
    try:
        optimizer = trainer.create_optimizer() if made else trainer.optimizer
        result = sweep(
            trainer.model,
            optimizer,
            loader=trainer.get_train_dataloader(),
            step_fn=step,
            scaler=accelerator.scaler,
            accumulation_steps=args.gradient_accumulation_steps,
            clip_norm=args.max_grad_norm or None,
            **settings,
        )
    finally:
        del accelerator._dataloaders[n_loaders:]
        if made:
            trainer.optimizer = None
    suggestion = result.suggest()
    if apply and suggestion.reliable:
        args.learning_rate = suggestion.lr
    elif apply:
        reason = f"the suggested lr is not reliable: {suggestion.reason}"
        warnings.warn(f"args.learning_rate stays {args.learning_rate:.3g}, since {reason}", stacklevel=2)
    return result
