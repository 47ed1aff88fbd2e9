"""Batches of any kind, and loaders that begin again."""

import collections
from typing import NamedTuple

import pytest
import torch
from torch import nn
from trainings import batches, build, sweep

from lrlib.finder.batches import n_samples, on_device


def packed(n):
    return nn.utils.rnn.pack_sequence([torch.zeros(n + 1 - i, 6) for i in range(n)])


class Recurrent(nn.GRU):
    def forward(self, sequences):
        assert isinstance(sequences, nn.utils.rnn.PackedSequence)
        return super().forward(sequences)[1][0]


@pytest.mark.parametrize("kind", ["tuple", "dict", "PackedSequence"])
def test_several_inputs_are_spread_over_the_models_arguments_and_what_moves_itself_is_one(kind):
    two = (torch.ones(4, 2), torch.ones(4, 4))
    inputs = {"tuple": two, "dict": {"input1": two[0], "input2": two[1]}, "PackedSequence": packed(4)}[kind]
    model = Recurrent(6, 3) if kind == "PackedSequence" else nn.Bilinear(2, 4, 3)
    batches, optimizer = [(inputs, torch.tensor([0, 1, 2, 0]))], torch.optim.SGD(model.parameters(), lr=0.1)
    [swept] = sweep(model, optimizer, batches, val_loader=batches, val_metric="accuracy", num_iter=10).sweeps
    assert len(swept.loss) == 10 and swept.val[-1] in (0, 0.25, 0.5, 0.75, 1)


# Counting and moving


def images(n):
    return [torch.zeros(3, 8 + i, 9) for i in range(n)]


class Moves:
    """Moves by a `to` of its own, as a batch of PyTorch Geometric does."""

    device = "cpu"

    def to(self, device):
        self.device = device
        return self


class Pair(NamedTuple):
    features: torch.Tensor
    label: torch.Tensor


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(5, 6),
        [torch.zeros(5, 6), torch.zeros(5)],
        (torch.zeros(5, 2), torch.zeros(5, 3), torch.zeros(5)),
        ([torch.zeros(5, 2), torch.zeros(5, 3)], torch.zeros(5)),
        (images(5), torch.zeros(5)),
        (images(5), [{"boxes": torch.zeros(2, 4)} for _ in range(5)]),
        {"longest": torch.tensor(9), "input_ids": torch.zeros(5, 9), "labels": torch.zeros(5, 9)},
        {"text": ["a"] * 5, "label": torch.zeros(5)},
        collections.UserDict(input_ids=torch.zeros(5, 9), labels=torch.zeros(5)),
        (packed(5), torch.zeros(5)),
        (Moves(), torch.zeros(5)),
        Pair(torch.zeros(5, 6), torch.zeros(5)),
    ],
)
def test_samples_are_counted_by_the_targets(batch):
    assert n_samples(batch) == 5


def test_means_of_validation_weigh_batches_by_their_samples():
    val = [(images(6), torch.zeros(6)), (images(2), torch.zeros(2))]
    result = sweep(*build(), val_loader=val, val_metric=n_samples, num_iter=10)
    assert result.sweeps[0].val[0] == (6 * 6 + 2 * 2) / 8


def test_what_moves_by_its_own_to_is_moved_by_it_and_the_rest_keeps_its_kind():
    class Odd(dict):
        note = "mine"

    meta, here = torch.device("meta"), torch.zeros(2)
    moved = on_device({"packed": packed(3), "odd": Odd(a=here), "pair": Pair(here, here), "own": (Moves(), 1)}, meta)
    assert type(moved["packed"]) is nn.utils.rnn.PackedSequence and moved["packed"].data.device == meta
    assert type(moved["odd"]) is Odd and moved["odd"]["a"].device == meta
    assert type(moved["pair"]) is Pair and moved["pair"].label.device == meta
    assert moved["own"][0].device == meta and moved["own"][1] == 1
    assert on_device({"a": here}, torch.device("cpu"))["a"] is here


# Loaders that begin again


class Rewinding:
    """Returns itself, and begins again in __iter__, in reset or never."""

    def __init__(self, where="__iter__"):
        self.batches, self.i, self.where = batches(), 0, where
        if where == "reset":
            self.reset = self.begin

    def begin(self):
        self.i = 0

    def __iter__(self):
        if self.where == "__iter__":
            self.begin()
        return self

    def __next__(self):
        if self.i == len(self.batches):
            raise StopIteration
        self.i += 1
        return self.batches[self.i - 1]


@pytest.mark.parametrize("where", ["__iter__", "reset"])
def test_a_loader_that_begins_again_and_returns_itself_is_as_good_as_a_list(where):
    curves = []
    for loader in (Rewinding(where), Rewinding().batches):
        result = sweep(*build()[:2], loader, num_iter=30, repeats=2, end_lr=0.1)
        curves.append([swept.loss.tolist() for swept in result.sweeps])
        assert getattr(loader, "i", 0) == 0
    assert curves[0] == curves[1]


def test_a_loader_whose_second_pass_is_empty_is_said_to_be_one_shot():
    with pytest.raises(TypeError, match="re-iterable, got a Rewinding whose second pass was empty"):
        sweep(*build()[:2], Rewinding("never"), num_iter=30)
