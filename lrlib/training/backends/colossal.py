"""Colossal-AI's Booster, in one process or in several that share each batch.

Importing Colossal-AI and joining torch.distributed change a whole process, so an epoch is trained in processes of its
own, the ranks (lrlib.training.backends.colossal_rank), also where there is only one. Since they take seconds to
start, they stay from one epoch to the next, and they end with the process that started them, in whatever way that ends.
`python -m lrlib.training.backends.colossal` starts one to see that all is installed.
"""

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing.connection
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import torch
from torch.distributed import TCPStore

from lrlib.training import epoch
from lrlib.training.backends import BackendError, plain

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
RANK_MODULE = "lrlib.training.backends.colossal_rank"
LOOPBACK = "127.0.0.1"
# How long after a first failure others are gathered: a rank that ends makes the others fail, perhaps before it is seen.
FAILURE_SECONDS = 1


@dataclass(frozen=True)
class ColossalAI:
    """A backend as lrlib.training.backends has it.

    plugin: a name of colossal_rank.PLUGINS. device: "cpu", or "cuda" for a device of its own for each process.
    """

    plugin: str
    device: str

    def check(self, processes, problem):
        """Raise ValueError where it cannot train that Problem; any number of processes can share a batch."""

    def describe(self, processes, optimizer="sgd"):
        """What stands in an epoch's name besides what is so for every backend.

        Raises BackendError where there are fewer devices than processes, or Colossal-AI is not installed.
        """
        about = plain.describe(processes, optimizer) | {"plugin": self.plugin}
        if self.device == "cuda":
            n_devices = torch.cuda.device_count()
            if n_devices < processes:
                raise BackendError(
                    f"{self.plugin} needs a CUDA device for each of {processes} processes, and {n_devices} are here; "
                    "take fewer processes, or the backend colossalai, which trains on a CPU"
                )
            about["device"] = torch.cuda.get_device_name()
            about["cuda"], about["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise BackendError(
                f"backend colossalai needs {missing[0]}, which is not installed here; type `make colossalai`"
            )
        return about | {"colossalai": importlib.metadata.version("colossalai")}

    def train_epoch(self, state, *, processes, inputs, targets, order, **settings):
        """lrlib.training.epoch.train_epoch, each batch shared by so many processes.

        Raises BackendError with the first error of a process, or the signal that ended it; none is left then.
        """
        ranks = _start_ranks(self, processes)
        ranks.send_data(inputs, targets)
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        arrays, losses = ranks.ask("train_epoch", state=arrays, order=order.numpy(), **settings)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, losses

    def evaluate(self, state, **settings):
        """lrlib.training.epoch.evaluate, in this process and on its CPU."""
        return epoch.evaluate(state, **settings)


torch_ddp = ColossalAI("TorchDDPPlugin", "cpu")
low_level_zero = ColossalAI("LowLevelZeroPlugin", "cuda")


class Ranks:
    """The processes that train together, and the connection to each; made ready by the constructor.

    Raises BackendError where they cannot be.
    """

    def __init__(self, backend, processes):
        self.backend, self.inputs, self.targets = backend, None, None
        # What they print; without a name, so that nothing of it can be left behind.
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (close does that)
        self.processes, self.connections = [], []
        # The ranks meet at a store in this process, as those of torchrun do; its port is taken before it is named.
        listener = socket.create_server((LOOPBACK, 0))
        port = listener.getsockname()[1]
        self.store = TCPStore(
            LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        environment = _rank_environment(port, processes)
        try:
            for rank in range(processes):
                self._start(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        except BaseException:
            self.close()
            raise
        self.ask("join", plugin=backend.plugin, device=backend.device)

    def _start(self, environment):
        ours, theirs = multiprocessing.connection.Pipe()
        self.connections.append(ours)
        with theirs:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", RANK_MODULE, str(theirs.fileno())],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=self.log,
                    stderr=self.log,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # so that a terminal's Ctrl-C goes past them, to those who end them
                )
            )

    def send_data(self, inputs, targets):
        """Give every rank the training split, unless it has these same tensors; they must not change afterwards."""
        if self.inputs is not inputs or self.targets is not targets:
            self.ask("take_data", inputs=inputs.numpy(), targets=targets.numpy())
            self.inputs, self.targets = inputs, targets

    def ask(self, method, **arguments):
        """Have every rank call a method of its Rank with these arguments, which travel without torch's tensors.

        Returns what the first rank's returns. Raises BackendError where a rank fails or ends; then all are ended.
        """
        try:
            for connection in self.connections:
                with contextlib.suppress(ConnectionError):  # of a rank that ended: found when its answer is read
                    connection.send((method, arguments))
            answers, errors, ended = self._gather_answers()
            if ended or errors:
                raise BackendError(self._explain(errors, ended))
        except BaseException:
            self.close()
            raise
        return answers[0]

    def _gather_answers(self):
        """Answers and errors by rank, and the ranks that ended, each in the order in which they came."""
        answers, errors, ended = {}, {}, []
        waiting = {connection: rank for rank, connection in enumerate(self.connections)}
        while waiting:
            seconds = FAILURE_SECONDS if errors or ended else None
            ready = multiprocessing.connection.wait(list(waiting), seconds)
            if not ready:
                break
            for connection in ready:
                rank = waiting.pop(connection)
                try:
                    is_error, answer = connection.recv()
                except (EOFError, ConnectionError):
                    ended.append(rank)
                else:
                    (errors if is_error else answers)[rank] = answer
        return answers, errors, ended

    def _explain(self, errors, ended):
        """One line on the first rank that ended, since others then fail for want of it, else the first that failed."""
        rank = next(iter(ended or errors))
        what = f"process {rank} of {len(self.processes)} of backend colossalai"
        if not ended:
            return f"{what} failed: {errors[rank]}"
        status = self.processes[rank].wait()
        if status < 0:
            return f"{what} was ended by signal {-status}"
        return f"{what} ended with status {status}: {self._read_last_line()}"

    def _read_last_line(self):
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def are_alive(self):
        return bool(self.processes) and all(process.poll() is None for process in self.processes)

    def close(self):
        """End every rank, wherever it is; what is closed stays so."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        for connection in self.connections:
            connection.close()
        self.processes, self.connections = [], []
        self.store = None
        self.log.close()


_last_ranks = None


def _start_ranks(backend, processes):
    """The ranks of this process, one set at a time, started anew where others are wanted or one of them ended."""
    global _last_ranks
    ranks = _last_ranks
    if ranks and ranks.are_alive() and (ranks.backend, len(ranks.processes)) == (backend, processes):
        return ranks
    close_ranks()
    _last_ranks = Ranks(backend, processes)
    return _last_ranks


def close_ranks():
    """End the ranks of this process, if there are any."""
    global _last_ranks
    if _last_ranks:
        _last_ranks.close()
    _last_ranks = None


def _rank_environment(port, processes):
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    return (
        os.environ
        | {
            # What this process can import, they can, from the same places.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "MASTER_ADDR": LOOPBACK,
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(processes),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not deterministic
        }
        | ({"GLOO_SOCKET_IFNAME": loopback} if loopback else {})
    )


if __name__ == "__main__":
    try:
        version = torch_ddp.describe(1)["colossalai"]
        Ranks(torch_ddp, 1).close()
    except BackendError as err:
        sys.exit(f"lrlib: {err}")
    print(f"Colossal-AI {version} is ready: make report BACKEND=colossalai")
