"""Colossal-AI's Booster, in one process or in several that share each batch.

Importing Colossal-AI and joining torch.distributed change a whole process, so an epoch is trained in processes of its
own, the ranks. They take seconds to start, so they stay from one epoch to the next.
`python -m lrlib.training.backends.colossal` starts one to see that all is installed.
"""

import importlib.metadata
import importlib.util
import os
import socket
import sys
from concurrent.futures import FIRST_EXCEPTION, wait

import torch
from joblib.externals.loky.process_executor import BrokenProcessPool
from torch.distributed import TCPStore

from lrlib.training.backends import BackendError, plain
from lrlib.training.epoch import PlainTorch, evaluate
from lrlib.training.epoch import train_epoch as train_on_rank
from lrlib.training.numerics import fix_numerics
from lrlib.training.processes import block_sigint, describe_death, start_pool

__all__ = ["check", "describe", "evaluate", "train_epoch"]

# What importing Colossal-AI needs besides the packages of lrlib itself; colossalai.lock has their versions.
PACKAGES = (
    "colossalai",
    "accelerate",
    "bitsandbytes",
    "einops",
    "galore_torch",
    "huggingface_hub",
    "peft",
    "regex",
    "tokenizers",
    "transformers",
)
LOOPBACK = "127.0.0.1"
FAILURE_SECONDS = 1  # a rank that dies makes the others fail, perhaps before its death is noticed
_last_ranks = None
_rank: dict = {}  # in a rank: its Booster as a backend, and the data


def check(processes, problem):
    """Any number of processes can train any Problem."""


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend. Raises BackendError if Colossal-AI is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(f"backend colossalai requires {missing[0]}: type `make colossalai`")
    version = importlib.metadata.version("colossalai")
    return plain.describe(processes, optimizer) | {"plugin": "TorchDDPPlugin", "colossalai": version}


def train_epoch(state, *, processes, inputs, targets, order, **settings):
    """`lrlib.training.epoch.train_epoch`, each batch shared by so many processes.

    Raises:
        BackendError: A process failed or died; all are ended.
    """
    task = {name: tensor.numpy() for name, tensor in state.items()}, order.numpy(), settings
    try:
        arrays, losses = _find_ranks(processes, inputs, targets).ask(_train, *task)
    except BrokenProcessPool:  # one died since the last epoch
        close_ranks()
        arrays, losses = _find_ranks(processes, inputs, targets).ask(_train, *task)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, losses


class Ranks:
    """The processes that train together. Raises BackendError if they cannot."""

    def __init__(self, processes):
        self.n, self.data = processes, (None, None)
        # The ranks meet at a store in this process, as those of torchrun do; its port is taken before it is named.
        listener = socket.create_server((LOOPBACK, 0))
        port = listener.getsockname()[1]
        self.store = TCPStore(
            LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        shared = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
        shared |= {"GLOO_SOCKET_IFNAME": loopback} if loopback else {}
        self.pools = [start_pool(1, shared | {"RANK": str(n), "LOCAL_RANK": str(n)}) for n in range(processes)]
        self.ask(_join)

    def ask(self, function, *arguments):
        """Have every rank call a function; return what the first rank's returns.

        Raises:
            BrokenProcessPool: A rank had died before.
            BackendError: A rank fails or dies; then all are ended.
        """
        with block_sigint():
            futures = [pool.submit(function, *arguments) for pool in self.pools]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in futures):
                wait(futures, timeout=FAILURE_SECONDS)
                raise BackendError(self._explain({n: f.exception() for n, f in enumerate(futures) if f.done()}))
        except BaseException:
            self.close()
            raise
        return futures[0].result()

    def _explain(self, errors):
        """A sentence on the first rank that died, since others then fail, otherwise on the first that failed."""
        failed = {n: error for n, error in errors.items() if error}
        died = {n: error for n, error in failed.items() if isinstance(error, BrokenProcessPool)}
        rank, error = next(iter((died or failed).items()))
        first_line = (str(error).strip().splitlines() or [""])[0]
        what = f"died: {describe_death(error)}" if died else f"failed: {type(error).__name__}: {first_line}"
        return f"process {rank} of {self.n} of backend colossalai {what}"

    def close(self):
        """End every rank, wherever it is."""
        for pool in self.pools:
            pool.shutdown(wait=True, kill_workers=True)
        self.pools = []


def _find_ranks(processes, *data):
    """The ranks of this process, one set at a time, with the training split; its tensors must not change afterwards."""
    global _last_ranks
    if _last_ranks is None or len(_last_ranks.pools) != processes:
        close_ranks()
        _last_ranks = Ranks(processes)
    if not all(ours is theirs for ours, theirs in zip(_last_ranks.data, data, strict=True)):
        _last_ranks.ask(_take_data, *(tensor.numpy() for tensor in data))
        _last_ranks.data = data
    return _last_ranks


def close_ranks():
    """End the ranks of this process, if there are any."""
    global _last_ranks
    if _last_ranks is not None:
        _last_ranks.close()
    _last_ranks = None


class BoostedTorch(PlainTorch):
    """A Booster in place of plain PyTorch: this rank takes its part of every batch."""

    def __init__(self, booster, *, rank, world_size):
        self.booster, self.rank, self.world_size = booster, rank, world_size

    def boost(self, model, optimizer):
        boosted_model, boosted_optimizer, *_ = self.booster.boost(model, optimizer)
        return boosted_model, boosted_optimizer

    def share(self, batch):
        return batch.tensor_split(self.world_size)[self.rank]

    def backward(self, loss, optimizer):
        self.booster.backward(loss, optimizer)

    def average(self, loss):
        total = loss.detach().double()
        torch.distributed.all_reduce(total)
        return total.item() / self.world_size


def _join():
    """Import Colossal-AI and join the other ranks; what it prints is dropped."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    import colossalai.accelerator
    from colossalai.booster import Booster
    from colossalai.booster.plugin import TorchDDPPlugin

    colossalai.accelerator.set_accelerator("cpu")  # it would take CUDA wherever there is a device
    colossalai.launch_from_torch(verbose=False)
    fix_numerics()
    world_size = torch.distributed.get_world_size()
    _rank["backend"] = BoostedTorch(
        Booster(plugin=TorchDDPPlugin()), rank=torch.distributed.get_rank(), world_size=world_size
    )


def _take_data(inputs, targets):
    _rank["data"] = {"inputs": torch.from_numpy(inputs), "targets": torch.from_numpy(targets)}


def _train(state, order, settings):
    """`train_epoch` on this rank's part of every batch, from and to arrays; all ranks return the same."""
    state = {name: torch.from_numpy(array) for name, array in state.items()}
    after, losses = train_on_rank(
        state, order=torch.from_numpy(order), backend=_rank["backend"], **_rank["data"], **settings
    )
    return {name: tensor.numpy() for name, tensor in after.items()}, losses


if __name__ == "__main__":
    try:
        version = describe(1, "sgd")["colossalai"]
        Ranks(1).close()
    except BackendError as err:
        sys.exit(f"lrlib: {err}")
    print(f"Colossal-AI {version} is ready: make report BACKEND=colossalai")
