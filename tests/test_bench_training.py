"""The benchmark of training: its rows do the same work, and its ratios are formed within a round."""

import copy
import importlib.util
import sys

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from lrlib.training.epoch import epoch_order


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_training", ROOT / "bench" / "training.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_multiply_adds_are_half_of_torch_s_floating_point_operations(bench):
    with FlopCounterMode(display=False) as counter:
        loss = bench.build_plain_model()(torch.rand(1, 1, 32, 32)).sum()
        assert counter.get_total_flops() == 2 * bench.FORWARD
        loss.backward()
    assert counter.get_total_flops() == 2 * bench.BOTH


def test_jax_ends_in_the_parameters_of_the_plain_loop(bench):
    pytest.importorskip("jax", reason="the extra bench")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 32, 32), dtype=torch.uint8, generator=generator)
    data = images, torch.randint(0, 10, (300,), generator=generator)
    expected = bench.build_plain_model()
    found = copy.deepcopy(expected)
    bench.train_plain(expected, bench.split(*data, epoch_order(0, 1, 300)))
    bench.prepare_jax(found, data, data)()
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_ratios_are_formed_within_each_round(bench):
    found = {"GEMM bound": [1.0, 2.0, 4.0], "by hand": [9.0, 4.0, 12.0], "compiled": [3.0, 4.0, 4.0]}
    assert "| by hand | 9.00 | 3.00 | 3.00 |" in bench.describe("a step", "ms", found).splitlines()
