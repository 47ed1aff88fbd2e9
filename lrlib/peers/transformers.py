"""The range test for a Transformers Trainer."""

import warnings
from typing import Any

from torch import Tensor

import lrlib.finder.sweeps as sweeps
from lrlib.finder.result import RangeTestResult
from lrlib.peers.accelerate import restored


def range_test(trainer: Any, *, apply: bool = False, **settings: Any) -> RangeTestResult:
    """Run lrlib.range_test on what trainer.train() would train, and restore the trainer.

    Model, optimizer (made as train() makes it), data, loss, mixed precision, gradient accumulation and clipping are the
    trainer's.

    Args:
        trainer: a Trainer in a single process.
        apply: set args.learning_rate to the suggestion, from which train() makes its optimizer, and print it. A
            suggestion with low confidence is not set, and a warning says so.
        settings: those of lrlib.range_test, such as start_lr, end_lr, num_iter, repeats.

    Returns:
        The RangeTestResult.

    Raises:
        ValueError: several processes, or a setting that TrainingArguments has.

    Example:
        >>> lrlib.peers.transformers.range_test(trainer, apply=True)
        >>> trainer.train()
    """
    accelerator, args = trainer.accelerator, trainer.args
    if (n := accelerator.num_processes) > 1:
        raise ValueError(f"the Trainer must run in one process, got {n}; use lrlib.peers.accelerate.range_test")

    def step(batch: Any) -> Tensor:
        with accelerator.autocast(), trainer.compute_loss_context_manager():
            loss: Tensor = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
        return loss.mean()

    own = {"step_fn": step, "scaler": accelerator.scaler, "clip_norm": args.max_grad_norm or None}
    own["accumulation_steps"] = args.gradient_accumulation_steps
    if twice := sorted(own.keys() & settings.keys()):
        raise ValueError(f"{', '.join(twice)} must be set in TrainingArguments; do not pass it")
    made, n_loaders = trainer.optimizer is None, len(accelerator._dataloaders)
    try:
        with restored(accelerator):
            optimizer = trainer.create_optimizer() if made else trainer.optimizer
            loader = trainer.get_train_dataloader()
            result = sweeps.range_test(trainer.model, optimizer, loader=loader, **own, **settings)
    finally:
        del accelerator._dataloaders[n_loaders:]
        if made:
            trainer.optimizer = None
    suggestion = result.suggest()
    if apply and suggestion.reliable:
        args.learning_rate = suggestion.lr
        print(f"learning_rate set to {suggestion.lr:.3g}: {suggestion.reason}")
    elif apply:
        warnings.warn(f"learning_rate stays {args.learning_rate:.3g}: {suggestion.reason}", stacklevel=2)
    return result
