"""This machine's own cluster, whatever Dask and the environment have been set to for other work."""

import os
import subprocess
import sys

import dask
import pytest
from conftest import ROOT
from distributed import LocalCluster

from lrlib.runs.cluster import WORKER_ENVIRONMENT, open_client

# A person's script, whose Dask is configured by their files.
SCRIPT = """
import os, dask
from lrlib.runs.cluster import open_client


def settings():
    return {name: value for name, value in os.environ.items() if name != "__DASK_PARENT_PID"}


if __name__ == "__main__":
    environment, configuration = settings(), dask.config.get("distributed.worker.preload")
    with open_client(1) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        [(threads, home)] = client.run(lambda: (os.environ["OMP_NUM_THREADS"], os.environ["HOME"])).values()
        client.restart_workers(list(client.nthreads()))
        assert client.submit(sum, [2, 2]).result() == 4
    assert (threads, home) == ("1", environment["HOME"]), (threads, home)
    assert settings() == environment, set(settings().items()) ^ set(environment.items())
    assert dask.config.get("distributed.worker.preload") == configuration == ["no_such_module"]
"""
CONFIGURATION = """
temporary-directory: /dev/null/x
distributed:
  comm: {require-encryption: true, tls: {ca-file: /no/ca.pem}}
  worker: {preload: [no_such_module], lifetime: {duration: 1s}}
  nanny: {environ: {OMP_NUM_THREADS: "7"}, preload: [no_such_module]}
  scheduler: {preload: [no_such_module]}
"""


def test_a_user_s_configuration_touches_neither_the_local_cluster_nor_is_touched_by_it(tmp_path):
    (tmp_path / ".config" / "dask").mkdir(parents=True)
    (tmp_path / ".config" / "dask" / "mine.yaml").write_text(CONFIGURATION)
    (tmp_path / "script.py").write_text(SCRIPT)
    mine = {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "7",
        "DASK_DISTRIBUTED__COMM__OFFLOAD": "1 MiB",
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=os.environ | mine, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_local_cluster_leaves_the_caller_s_environment_and_configuration_as_they_were(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    environment = {name: value for name, value in os.environ.items() if name != "__DASK_PARENT_PID"}
    configuration = dask.config.get("distributed.nanny")
    with open_client(1) as client:
        [found] = client.run(lambda: dict(os.environ)).values()
    assert found.items() >= WORKER_ENVIRONMENT.items()
    assert {name: value for name, value in os.environ.items() if name != "__DASK_PARENT_PID"} == environment
    assert dask.config.get("distributed.nanny") == configuration


def test_dask_s_last_look_at_a_worker_that_was_lost_does_not_end_a_run(monkeypatch):
    close = LocalCluster.__exit__

    def close_and_look(self, *error):
        close(self, *error)
        raise KeyError("tcp://127.0.0.1:1")

    monkeypatch.setattr(LocalCluster, "__exit__", close_and_look)
    with open_client(1) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    with pytest.raises(KeyError, match="own"), open_client(1):
        raise KeyError("own")
