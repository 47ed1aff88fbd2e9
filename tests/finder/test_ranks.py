"""Two processes that train one model, over gloo on CPUs."""

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
    """{case: [answers of process 0, of process 1]}; a process that is stuck gives none of the cases after."""
    found, said = answers_in(tmp_path_factory.mktemp("ranks"))
    found = {case: [each[case] for each in found] for case in found[0].keys() & found[1].keys()}
    return {"said": [text[-3000:] for text in said], **found}


def answers_in(folder, *case):
    """([answers of each process], [what each has written to stderr])"""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(HERE / "rank_cases.py")]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder), *case], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=WITHIN)[1])
        except subprocess.TimeoutExpired:
            process.kill()
            said.append("stuck: " + process.communicate()[1])
    files = [folder / f"{rank}.json" for rank in (0, 1)]
    return [json.loads(file.read_text()) if file.exists() else {} for file in files], said


def of_both(answers, case):
    assert case in answers, answers["said"]
    first, second = answers[case]
    if "skipped" in first:
        pytest.skip(first["skipped"])
    assert first["went on"] == second["went on"] == 2
    return first, second


@pytest.mark.parametrize("case", ["plain", "means", "zero", "looked", "validated", "raising", "in_backward", "sharded"])
def test_all_processes_stop_together_and_return_the_same_result(answers, case):
    first, second = of_both(answers, case)
    for key in ("steps", "losses", "val", "reasons", "lr", "whole"):
        assert repr(first[key]) == repr(second[key])


@pytest.mark.parametrize("case", ["plain", "zero", "looked", "sharded"])
def test_model_and_optimizer_are_back_in_every_process(answers, case):
    first, second = of_both(answers, case)
    assert first["back"] and second["back"]


def test_a_distributed_sampler_gets_an_epoch_of_its_own_for_each_pass_and_its_own_back(answers):
    for each in of_both(answers, "plain"):
        assert each["epoch"] == 3
        assert len(each["seen"]) == len(set(each["seen"])) >= 4  # two sweeps of 32 batches a pass
        assert not np.array_equal(each["losses"][0][:20], each["losses"][1][:20])


def test_losses_are_the_means_over_the_processes(answers):
    first, _ = of_both(answers, "means")
    assert np.allclose(first["losses"][0][:40], first["alone"][0][:40], rtol=1e-4)


def test_validation_is_over_the_samples_of_all_processes(answers):
    first, _ = of_both(answers, "validated")
    assert first["weighted"] == [pytest.approx((10 * 10 + 5 * 5) / 15)]


def test_an_exception_of_one_process_comes_out_of_all(answers):
    first, second = of_both(answers, "raising")
    assert second["bug"] == "ValueError: mine" and first["bug"] == "RankError: process 1 raised ValueError: mine"
    assert first["back"] and second["back"] and first["back after"] and second["back after"]
    assert first["steps"][0] < 60 and "was raised at lr" in first["reasons"][0]


def test_an_exception_in_the_backward_pass_of_one_process_comes_out_of_all_and_they_go_on(answers):
    first, second = of_both(answers, "in_backward")
    assert second["bugs"] == ["ValueError: mine"] * 3
    assert first["bugs"] == ["RankError: process 1 raised ValueError: mine"] * 3
    assert first["steps"][0] < 60 and "was raised at lr" in first["reasons"][0]


def test_processes_that_wait_for_the_gradients_of_one_that_raised_end_at_their_timeout(tmp_path):
    pytest.importorskip("torch.distributed.fsdp", reason="shards")
    answers, said = answers_in(tmp_path, "stuck")
    if not all(answers):
        pytest.skip(f"this torch does not shard on CPUs: {said[0][-500:]}")
    first, second = (each["stuck"] for each in answers)
    assert second["said"] == "ValueError: mine" and "the others wait until it ends, or time out" in second["notes"][0]
    assert "everything is as it was before" in first["notes"][-1]
    assert first["back"] and second["back"]


def test_a_process_that_has_ended_is_said_to_give_no_answer(tmp_path):
    [answers, _], _ = answers_in(tmp_path, "ended")
    assert answers["ended"]["said"].startswith(
        "RankError: every process must take part in the range test, got no answer"
    )
