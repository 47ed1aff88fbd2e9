"""Colossal-AI's Booster, in one process or in several that share each batch.

Importing Colossal-AI and joining torch.distributed change a whole process, so an epoch is trained in processes of its
own, the ranks. They take seconds to start, so they stay from one epoch to the next.
`python -m lrlib.training.backends.colossal` starts one to see that all is installed.
"""

import importlib.metadata
import importlib.util
import math
import os
import socket
import sys
import tempfile
from concurrent.futures import FIRST_EXCEPTION, wait

import numpy as np
from joblib.externals.loky.process_executor import BrokenProcessPool
from torch import distributed

from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.backends import BackendError, plain
from lrlib.training.epoch import capture, evaluate, restore
from lrlib.training.numerics import fixed_numerics
from lrlib.training.optimizers import set_rates
from lrlib.training.processes import block_sigint, describe_death, start_pool

__all__ = ["describe", "evaluate", "train_epoch"]

FAILURE_SECONDS = 1  # the others may fail before the death of one is noticed
_last_ranks = None
_booster = None  # of a rank


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend. Raises BackendError if Colossal-AI is not installed."""
    if importlib.util.find_spec("colossalai") is None:
        raise BackendError("backend colossalai requires colossalai: type `make colossalai`")
    version = importlib.metadata.version("colossalai")
    return plain.describe(processes, optimizer) | {"plugin": "TorchDDPPlugin", "colossalai": version}


def train_epoch(state, *, processes, **settings):
    """`lrlib.training.epoch.train_epoch`, each batch shared by the processes; repeated once if one of them dies.

    Raises:
        BackendError: A process failed, or one died again; all are ended.
    """
    for is_last in (False, True):
        try:
            return _find_ranks(processes).ask(_train, state, **settings)
        except BrokenProcessPool as err:
            if is_last:
                raise BackendError(f"a process of backend colossalai died: {describe_death(err)}") from err


def _find_ranks(processes):
    """The ranks of this process, one set at a time."""
    global _last_ranks
    if _last_ranks is None or _last_ranks.n != processes:
        close_ranks()
        _last_ranks = Ranks(processes)
    return _last_ranks


class Ranks:
    """The processes that train together. Raises BackendError if they cannot."""

    def __init__(self, processes):
        self.n = processes
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
        self.pool = start_pool(processes, {"GLOO_SOCKET_IFNAME": loopback} if loopback else {})
        self.folder = tempfile.TemporaryDirectory(prefix="lrlib-")  # where they find each other
        self.ask(_join, f"file://{self.folder.name}/ranks", processes)

    def ask(self, function, *arguments, **settings):
        """Have every rank call a function, in which each waits for the others; return what one of them returns.

        The function gets the number of the call first. If a rank dies (BrokenProcessPool) or fails (BackendError), all
        are ended.
        """
        try:
            with block_sigint():
                futures = [self.pool.submit(function, n, *arguments, **settings) for n in range(self.n)]
            wait(futures, return_when=FIRST_EXCEPTION)
            wait(futures, timeout=FAILURE_SECONDS)
            errors = [error for future in futures if future.done() and (error := future.exception())]
            for error in errors:
                if isinstance(error, BrokenProcessPool):  # which made the others fail
                    raise error
            if errors:
                first_line = (str(errors[0]).strip().splitlines() or [""])[0]
                raise BackendError(f"a process of backend colossalai failed: {type(errors[0]).__name__}: {first_line}")
        except BaseException:
            self.close()
            raise
        return futures[0].result()

    def close(self):
        """End every rank, wherever it is."""
        self.n = 0  # none is left to be asked
        self.pool.shutdown(wait=True, kill_workers=True)
        self.folder.cleanup()


def close_ranks():
    """End the ranks of this process, if there are any."""
    if _last_ranks is not None:
        _last_ranks.close()


def _join(rank, address, world_size):
    """Import Colossal-AI and join the other ranks; what it prints is dropped."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    global _booster
    import colossalai.accelerator
    from colossalai.booster import Booster
    from colossalai.booster.plugin import TorchDDPPlugin

    colossalai.accelerator.set_accelerator("cpu")  # it would take CUDA wherever there is a device
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    _booster = Booster(plugin=TorchDDPPlugin())


@fixed_numerics()
def _train(
    _, state, *, lr, momentum, inputs, targets, order, batch_size, optimizer, weight_decay, problem=DEFAULT,
):  # fmt: skip
    """`lrlib.training.epoch.train_epoch` on this rank's part of every batch; all ranks return the same."""
    world_size, find_losses = distributed.get_world_size(), load_problem(problem).losses
    model, torch_optimizer = restore(state, problem, optimizer, weight_decay, "cpu")
    boosted_model, boosted_optimizer, *_ = _booster.boost(model, torch_optimizer)
    losses = np.full(len(lr), np.nan)
    for step, batch in enumerate(order.split(batch_size)):
        set_rates(torch_optimizer, float(lr[step]), float(momentum[step]))
        part = batch.tensor_split(world_size)[distributed.get_rank()]
        # Each rank's loss is weighted by its part, so that their average is the mean over the batch.
        loss = find_losses(boosted_model(inputs[part]), targets[part]).sum() / (len(batch) / world_size)
        total = loss.detach().double()
        distributed.all_reduce(total)
        losses[step] = total.item() / world_size
        if not math.isfinite(losses[step]):
            break
        boosted_optimizer.zero_grad()
        _booster.backward(loss, boosted_optimizer)
        boosted_optimizer.step()
    return capture(model, torch_optimizer), losses


if __name__ == "__main__":
    try:
        version = describe(1, "sgd")["colossalai"]
        Ranks(1).close()
    except (BackendError, BrokenProcessPool) as err:
        sys.exit(f"lrlib: {err}")
    print(f"Colossal-AI {version} is ready: make report BACKEND=colossalai")
