"""One of the processes that train through Colossal-AI's Booster, which lrlib.training.backends.colossal starts and
asks.

It answers over the connection whose file descriptor is its argument, and ends when that does, in the middle of an epoch
too. What Colossal-AI prints goes where stdout and stderr go.
This file's code is part of the name of every epoch that it trains.
"""

import os
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection

import torch
import torch.distributed

from lrlib.training.epoch import PlainTorch, train_epoch
from lrlib.training.numerics import fix_numerics

# The plugins that keep the model's parameters whole and can do SGD, and their settings where the defaults will not do:
# LowLevelZeroPlugin's is half precision.
PLUGINS = {
    "TorchDDPPlugin": {},
    "LowLevelZeroPlugin": {"stage": 1, "precision": "fp32", "overlap_communication": False},
}


class BoostedTorch(PlainTorch):
    """A Booster in place of plain PyTorch, in one process or several: each takes its part of every batch."""

    def __init__(self, booster, *, rank, world_size, device):
        self.booster, self.rank, self.world_size, self.device = booster, rank, world_size, device
        self.model = self.optimizer = None

    def boost(self, model, optimizer):
        # A plugin may give the optimizer other tensors in the parameters' place, so its buffers go in by the plugin.
        buffers = optimizer.state_dict()
        optimizer.state.clear()
        self.model = model
        boosted_model, self.optimizer, *_ = self.booster.boost(model, optimizer)
        self.optimizer.load_state_dict(buffers)
        return boosted_model, self.optimizer

    def share(self, batch):
        return batch.tensor_split(self.world_size)[self.rank].to(self.device)

    def backward(self, loss, optimizer):
        self.booster.backward(loss, optimizer)

    def average(self, loss):
        total = loss.detach().double()
        torch.distributed.all_reduce(total)
        return total.item() / self.world_size

    def capture_optimizer(self):
        """The optimizer's buffers after an epoch, whole in every process, named as in a state of lrlib.training.epoch."""
        names = [name for name, _ in self.model.named_parameters()]
        return {
            f"optimizer.{names[place]}.{key}": torch.as_tensor(value).detach().cpu().contiguous()
            for place, buffers in self.optimizer.state_dict()["state"].items()
            for key, value in buffers.items()
            if value is not None
        }


class Rank:
    """What a rank can be asked, in this order. Tensors come and go as arrays."""

    def join(self, *, plugin, device):
        """Import Colossal-AI and join the other ranks. plugin: a name of PLUGINS; device: "cpu" or "cuda"."""
        import colossalai.accelerator
        import colossalai.booster.plugin

        colossalai.accelerator.set_accelerator(device)  # it would take CUDA wherever there is a device
        colossalai.launch_from_torch(verbose=False)
        fix_numerics()
        torch.backends.cudnn.allow_tf32 = False
        self.backend = BoostedTorch(
            colossalai.booster.Booster(plugin=getattr(colossalai.booster.plugin, plugin)(**PLUGINS[plugin])),
            rank=torch.distributed.get_rank(),
            world_size=torch.distributed.get_world_size(),
            device=colossalai.accelerator.get_accelerator().get_current_device(),
        )

    def take_data(self, *, inputs, targets):
        """Keep the training split: arrays (N, ...)."""
        self.inputs, self.targets = (torch.from_numpy(array).to(self.backend.device) for array in (inputs, targets))

    def train_epoch(self, *, state, order, **settings):
        """lrlib.training.epoch.train_epoch on this rank's part of every batch; all ranks return the same."""
        after, losses = train_epoch(
            {name: torch.from_numpy(array) for name, array in state.items()},
            inputs=self.inputs,
            targets=self.targets,
            order=torch.from_numpy(order),
            backend=self.backend,
            **settings,
        )
        return {name: tensor.numpy() for name, tensor in (after | self.backend.capture_optimizer()).items()}, losses


def serve(connection):
    """Answer each (method of Rank, arguments) with (False, what it returns) or (True, its error in a line)."""
    tasks = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    rank = Rank()
    while True:
        method, arguments = tasks.get()
        try:
            answer = False, getattr(rank, method)(**arguments)
        except Exception as err:
            traceback.print_exc()
            # torch's errors have their place in its own code below the first line.
            answer = True, f"{type(err).__name__}: {str(err).split(chr(10))[0]}"
        connection.send(answer)


def _receive(connection, tasks):
    """Put what comes into the tasks, and end the process when whoever started it is gone."""
    try:
        while True:
            tasks.put(connection.recv())
    except Exception:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
