"""Losses and right answers of a batch, one for each sample. This code is part of the name of the epochs that use it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each sample: logits (n, classes) and labels (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def are_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the largest logit is the label's: bool (n,)."""
    return logits.argmax(1) == labels


def next_token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """The mean over each sequence: logits (n, length, vocabulary), tokens (n, length)."""
    losses = F.cross_entropy(logits.flatten(0, 1), tokens.flatten().long(), reduction="none")
    return losses.view(tokens.shape).mean(1)


def are_next_tokens_right(logits: Tensor, tokens: Tensor) -> Tensor:
    """The share of each sequence whose likeliest token is the right one."""
    return (logits.argmax(2) == tokens).to(torch.float32).mean(1)
