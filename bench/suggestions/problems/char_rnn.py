"""char_rnn: a recurrent network of two LSTM layers on the characters of Python's standard library, gradients clipped.

In size as the character models of Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks", with
128 units a layer. Torch's default initialisation.
"""

from functools import partial

from torch import Tensor, nn

from bench.suggestions.problems.text import CODE, N_CHARACTERS, load_text
from lrlib.problems.losses import are_next_tokens_right, next_token_losses
from lrlib.problems.problem import Problem

WIDTH, N_LAYERS = 128, 2


class CharRnn(nn.Module):
    """Characters uint8 (N, length) -> logits of the next (N, length, 128); 297,088 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_CHARACTERS, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, N_LAYERS, batch_first=True)
        self.head = nn.Linear(WIDTH, N_CHARACTERS)

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(characters.long()))[0])


def make_problem(name: str) -> Problem:
    return Problem(
        name=name,
        build_model=CharRnn,
        load_data=partial(load_text, CODE),
        losses=next_token_losses,
        hits=are_next_tokens_right,
        batch_size=32,
        optimizer="adam",
        steps_per_epoch=50,
        clip_norm=1.0,
    )


char_rnn = make_problem("char_rnn")
