"""Workers in this process, one task after the other: for tests of what is around them."""

import heapq

from lrlib.runs import trainer
from lrlib.runs.engine import receive_data, run_task


class InProcess:
    """As lrlib.runs.engine.Workers; `submitted` has the names in the order in which they were computed."""

    def __init__(self, data=None):
        self.tasks, self.submitted = [], []
        if data:
            receive_data(data)

    def count_slots(self):
        return 2

    def submit(self, name, task, priority):
        heapq.heappush(self.tasks, (-priority, len(self.submitted), name, task))
        self.submitted.append(name)

    def wait(self):
        *_, name, task = heapq.heappop(self.tasks)
        return name, run_task(task)

    def close(self):
        pass


def train_in_process(monkeypatch):
    """Have `train` compute in this process."""
    monkeypatch.setattr("lrlib.runs.local.LocalWorkers", lambda n, data: InProcess(data))
    return trainer.train
