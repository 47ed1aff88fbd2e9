"""The benchmark of training: what it counts and says, and that its rows do the same work."""

import importlib.util
import sys

import nbformat
import pytest
import torch
from conftest import ROOT
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lrlib.problems.data import Dataset, DatasetInfo
from lrlib.training.epoch import epoch_order


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_training", ROOT / "bench" / "training.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (300,), generator=generator)
    return Dataset(DatasetInfo("sample", "made up", 300, 300, "test"), images, labels, images, labels)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_model(bench):
    torch.manual_seed(0)
    return bench.build_plain_model()


def test_multiply_adds_are_half_of_torch_s_floating_point_operations(bench):
    model, image = bench.build_plain_model(), torch.rand(1, 1, 32, 32)
    forward, both = bench.count_multiply_adds(model, image)
    assert (forward, both) == (416_520, 1_131_960)
    with FlopCounterMode(display=False) as counter:
        loss = model(image).sum()
        assert counter.get_total_flops() == 2 * forward
        loss.backward()
    assert counter.get_total_flops() == 2 * both


@pytest.mark.parametrize(("n_cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_scaling_is_measured_over_powers_of_two_and_all_cores(bench, n_cores, counts):
    assert bench.count_workers(n_cores) == counts


def test_the_loop_in_memory_is_the_loop_over_the_same_batches(bench, data):
    ours, theirs = build_model(bench), build_model(bench)
    assert bench.time_in_memory(ours, data, 1) > 0
    order = epoch_order(0, 2, 300).split(bench.BATCH_SIZE)
    batches = [(data.train_images[batch] / 255, data.train_labels[batch]) for batch in order]
    bench.time_loop(theirs, batches, [])
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters()))
    assert not torch.equal(next(ours.parameters()), next(build_model(bench).parameters()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prepare", ["prepare_lightning", "prepare_fastai"])
def test_frameworks_end_in_the_parameters_of_the_plain_loop(bench, data, prepare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a framework would leave its files
    loaders = [DataLoader(TensorDataset(data.train_images / 255, data.train_labels), batch_size=100)] * 2
    expected, found = build_model(bench), build_model(bench)
    bench.time_loop(expected, *loaders)
    try:
        run = getattr(bench, prepare)(found, loaders)
    except bench.NotInstalledError as err:
        pytest.skip(f"{err} (the bench extra)")
    assert run(1) > 0
    for one, other in zip(found.parameters(), expected.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert list(tmp_path.iterdir()) == []


def test_jax_ends_in_the_parameters_of_the_plain_loop(bench, data):
    expected, found = build_model(bench), build_model(bench)
    bench.time_in_memory(expected, data, 1)
    try:
        run = bench.prepare_jax(found, data)
    except bench.NotInstalledError as err:
        pytest.skip(f"{err} (the bench extra)")
    assert run(1) > 0
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


FOUND = {
    "machine": "a processor, 2 cores, 16 GiB", "torch": "2.15.0", "commit": "abc, clean", "repeats": 3,
    "rows": [
        {"name": "by hand", "threads": 1, "seconds": [4.0, 9.0, 6.0]},
        {"name": "lrlib's worker", "threads": 1, "seconds": [2.0, 3.0, 6.0]},
        {"name": "the author's kind of loop: PIL and a DataLoader", "threads": 2, "seconds": [30.0, 31.0, 36.0]},
        {"name": "Lightning", "threads": 1, "seconds": []},
    ],
    "scaling": {1: [0.25, 0.2, 0.3], 2: [0.5, 0.3, 0.6]},
    "report": {"wall_seconds": 150.0, "bare_seconds": 120.0, "n_epochs": 180, "provenance": "149 s up to this table"},
}  # fmt: skip


def test_ratios_are_formed_within_each_repeat_and_what_is_missing_is_said(bench):
    lines = bench.describe(FOUND).splitlines()
    assert lines[0] == "a processor, 2 cores, 16 GiB; torch 2.15.0, commit abc, clean; 3 repeats."
    assert "| by hand | 1 | 6.00 | 4.00 | 9.00 | 2.00 (1.00 to 3.00) |" in lines
    assert "| lrlib's worker | 1 | 3.00 | 2.00 | 6.00 | 1.00 (1.00 to 1.00) |" in lines
    assert "| Lightning | 1 | not installed | | | |" in lines
    assert "| 2 | 0.50 (0.30 to 0.60) | 2.00 (1.50 to 2.00) |" in lines
    text = " ".join(lines)
    assert "250 epochs the author's way take 21.5 times as long as the 180" in text  # 250 * 31 / (180 / 0.5)
    assert "150 s, of which 120 s are the bare training of its 180 epochs on 2 workers; all the rest is 25 %" in text
    assert text.endswith("It says of itself: 149 s up to this table.")
    assert "report" not in bench.describe({**FOUND, "report": None})


def test_a_report_s_own_time_is_read_from_its_table_of_provenance(bench, tmp_path):
    table = 'item,value\ncommand,`make report`\ntime,"150 s up to this table; bare training, 120 s"\n'
    outputs = [
        nbformat.v4.new_output("display_data", {"text/csv": csv}, metadata={"report": {"label": label}})
        for label, csv in (("accuracies", "item,value\n"), ("provenance", table))
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    nbformat.write(notebook, tmp_path / "2-4.ipynb")
    assert bench.read_provenance(tmp_path) == "150 s up to this table; bare training, 120 s"
