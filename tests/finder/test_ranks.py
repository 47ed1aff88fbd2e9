"""Two processes that train one model, over gloo on CPUs; rank_cases.py is what each of them does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
WITHIN = 240  # seconds, so that a deadlock fails


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """{case: [answers of process 0, of process 1]}"""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "rank_cases.py")]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=WITHIN)[1][-3000:])
        except subprocess.TimeoutExpired:
            process.kill()
            said.append("stuck: " + process.communicate()[1][-3000:])
    files = [folder / f"{rank}.json" for rank in (0, 1)]
    first, second = [json.loads(file.read_text()) if file.exists() else {} for file in files]
    return {"said": said, **{case: [first[case], second[case]] for case in first.keys() & second.keys()}}


def of_both(answers, case):
    assert case in answers, answers["said"]
    first, second = answers[case]
    if "skipped" in first:
        pytest.skip(first["skipped"])
    return first, second


@pytest.mark.parametrize("case", ["ddp", "refined", "means", "validated", "raising", "sharded", "in_buckets"])
def test_all_processes_return_the_same_result_and_everything_is_back_in_each(answers, case):
    first, second = of_both(answers, case)
    assert first.get("whole") == second.get("whole")
    assert first["back"] and second["back"]


def test_a_distributed_sampler_gets_an_epoch_of_its_own_for_each_pass_and_its_own_back(answers):
    for each in of_both(answers, "ddp"):
        assert each["epoch"] == 3
        assert len(each["seen"]) >= 4 and len(set(each["seen"])) >= 4  # two sweeps of 32 batches a pass
        assert not np.array_equal(each["losses"][0][:20], each["losses"][1][:20])


def test_losses_are_the_means_over_the_processes_and_validation_is_over_all_samples(answers):
    first, _ = of_both(answers, "means")
    assert np.allclose(first["losses"][0][:40], first["alone"][0][:40], rtol=1e-4)
    assert of_both(answers, "validated")[0]["weighted"] == [pytest.approx((10 * 10 + 5 * 5) / 15)] * 10


def test_an_exception_of_all_processes_comes_out_of_each(answers):
    first, second = of_both(answers, "raising")
    assert first["bug"] == second["bug"] == "ValueError: mine"
