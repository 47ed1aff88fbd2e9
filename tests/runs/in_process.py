"""Workers in this process, one task after the other: for tests of what is around them; and a pickle that runs code."""

import os
from concurrent.futures import Future

from lrlib.runs import trainer
from lrlib.runs.engine import receive_data, run_task


class InProcess:
    """As lrlib.runs.engine has them; `submitted` has the names in the order in which they were computed."""

    def __init__(self, data=None):
        self.submitted = []
        if data:
            receive_data(data)

    def count_slots(self):
        return 1

    def submit(self, name, task):
        self.submitted.append(name)
        result = Future()
        result.set_result(run_task(task))
        return result

    def close(self):
        pass


def train_in_process(monkeypatch):
    """Have `train` compute in this process."""
    monkeypatch.setattr("lrlib.runs.trainer.LocalWorkers", lambda n, data: InProcess(data))
    return trainer.train


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
