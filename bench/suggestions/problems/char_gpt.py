"""char_gpt: a small transformer on the characters of Python's standard library, and char_gpt_finetune: the same on
other text.

Pre-norm blocks and initialisation as of GPT-2 (Radford et al. 2019, section 2.3): normal with 0.02, what writes into
the residual stream divided by the square root of twice the number of blocks. What is fine-tuned was trained before on
the library's code, always with the same seed, and goes on on its documentation.
"""

import math
from dataclasses import replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.suggestions.problems.text import CODE, LENGTH, N_CHARACTERS, PROSE, load_text
from lrlib.problems.losses import are_next_tokens_right, next_token_losses
from lrlib.problems.problem import Data, Problem

WIDTH, N_BLOCKS, N_HEADS, STD = 96, 2, 4, 0.02
BATCH_SIZE = 32
# How the model that is fine-tuned was trained: AdamW, a linear rise and fall of the learning rate.
STEPS_BEFORE, LR_BEFORE, RISE_BEFORE = 400, 3e-3, 40


class Block(nn.Module):
    """Attention to what came before, then two linear layers, each on normalised inputs and added: (N, T, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend_in, self.attend_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        query, key, value = self.attend_in(self.norm1(x)).view(n, length, 3, N_HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # -> (N, heads, T, width / heads)
        x = x + self.attend_out(seen.transpose(1, 2).reshape(n, length, WIDTH))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class CharGpt(nn.Module):
    """Characters uint8 (N, length) -> logits of the next (N, length, 128); 254,592 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_CHARACTERS, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(N_BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, N_CHARACTERS, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                writes = name.endswith(("attend_out", "narrow"))
                nn.init.normal_(module.weight, std=STD / math.sqrt(2 * N_BLOCKS) if writes else STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embedding(characters.long()) + self.positions.weight[: characters.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def make_problem(name: str) -> Problem:
    problem = Problem(
        name=name,
        build_model=CharGpt,
        load_data=partial(load_text, CODE),
        losses=next_token_losses,
        hits=are_next_tokens_right,
        batch_size=BATCH_SIZE,
        optimizer="adamw",
        steps_per_epoch=50,
    )
    if name == "char_gpt":
        return problem
    return replace(problem, load_data=partial(load_text, PROSE, before=CODE), initialize=_copy_pretrained)


def _copy_pretrained(data: Data) -> nn.Module:
    """The model that is fine-tuned; nothing of it is drawn from torch's random generator as it stands."""
    model = CharGpt()
    model.load_state_dict(_pretrain(data))
    return model


@lru_cache(maxsize=1)
def _pretrain(data: Data) -> dict[str, Tensor]:
    """The weights after training on what `data` has from before: half a minute, once a process."""
    assert data.before is not None
    inputs, targets = data.before
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(0)
        model = CharGpt()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for step in range(STEPS_BEFORE):
            rise, fall = (step + 1) / RISE_BEFORE, (STEPS_BEFORE - step) / (STEPS_BEFORE - RISE_BEFORE)
            optimizer.param_groups[0]["lr"] = LR_BEFORE * min(rise, fall)
            batch = torch.randint(len(inputs), (BATCH_SIZE,))
            loss = next_token_losses(model(inputs[batch]), targets[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


char_gpt = make_problem("char_gpt")
char_gpt_finetune = make_problem("char_gpt_finetune")
