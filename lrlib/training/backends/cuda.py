"""CUDA: a training step as a CUDA graph, with data, learning rates and losses on the device.

A step's kernels are shorter than Python's way from one to the next. So one step, from the choice of its images to the
update of the parameters, is captured once and replayed for every batch; what differs between steps it reads on the
device, from tables that are filled once an epoch. Within an epoch the host never waits for the device.
One process drives the device. Several runs at once are threads of it, each with a graph and a stream of its own, so
that their kernels, which are too small to fill a device, run side by side; what runs beside changes no bit.

This file's code and that of thin_conv.py are part of the name of every epoch that it trains; so are the device and its
libraries' versions.
"""

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training.backends import BackendError
from lrlib.training.backends.thin_conv import make_thin
from lrlib.training.optimizers import OPTIMIZERS

WARM_UP_STEPS = 3  # before a capture, so that libraries have chosen their kernels and made their workspaces
EVALUATED_AT_ONCE = 2500  # images; a compromise between launches and memory

# Read when CUDA starts, which importing torch does not do. Without the first cuBLAS is not deterministic; with the 8
# queues that CUDA has by default, more than 8 threads would wait for each other.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")

_preparing = threading.Lock()  # torch allows a process one capture at a time, and data is copied once
_on_device = WeakTensorKeyDictionary()  # a tensor of the host -> its copy on the device


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend cuda, got {processes}; one epoch is trained on one device")
    with torch.device("meta"):
        has_buffers = bool(list(problem.build_model().buffers()))
    if has_buffers:
        raise ValueError(f"problem {problem.name!r} has buffers; backend cuda does not support them, use 'torch'")


def describe(processes, optimizer="sgd"):
    """What stands in an epoch's name besides what is so for every backend.

    Raises BackendError where there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise BackendError(
            f"backend cuda needs a CUDA device, and torch {torch.__version__} finds none here; "
            "install its driver, or take the backend torch"
        )
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
    }


def train_epoch(
    state,
    *,
    processes,
    lr,
    momentum,
    inputs,
    targets,
    order,
    batch_size,
    optimizer,
    weight_decay,
    problem=DEFAULT,
):
    """lrlib.training.epoch.train_epoch on the device; state, inputs, targets and order are tensors of the host, as
    there.

    Raises ValueError for an optimizer that has no update here, or if lr or momentum is not one value a step.
    """
    n_steps = math.ceil(len(order) / batch_size)
    if len(lr) != n_steps or len(momentum) != n_steps:
        raise ValueError(
            f"lr and momentum must have one value for each of {n_steps} steps, got {len(lr)} and {len(momentum)}"
        )
    if optimizer not in UPDATES:
        raise ValueError(
            f"optimizer must be one of {', '.join(UPDATES)} for backend cuda, got {optimizer!r}; take the backend torch"
        )
    _fix_numerics()
    data = _copy_to_device(inputs), _copy_to_device(targets)
    step = _capture_step(*data, len(order), batch_size, optimizer, weight_decay, problem, threading.get_ident())
    return run_epoch(step, state, lr=lr, momentum=momentum, order=order)


def evaluate(state, *, inputs, targets, batch_size, problem=DEFAULT):
    """lrlib.training.epoch.evaluate on the device: the mean of the batch means, and the number of right answers."""
    _fix_numerics()
    inputs, targets = _copy_to_device(inputs), _copy_to_device(targets)
    model, losses, n_correct = _build_to_evaluate(problem, inputs.device, threading.get_ident()), [], 0
    problem = load_problem(problem)
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    with torch.inference_mode():
        for part, right in zip(inputs.split(EVALUATED_AT_ONCE), targets.split(EVALUATED_AT_ONCE)):
            outputs = model(part)
            losses.append(problem.losses(outputs, right))
            if problem.hits is not None:
                n_correct = n_correct + problem.hits(outputs, right).sum()
        losses = torch.cat(losses).double().cpu()
    loss = float(torch.stack([batch.mean() for batch in losses.split(batch_size)]).mean())
    return loss, None if problem.hits is None else n_correct.item()


def run_epoch(step, state, *, lr, momentum, order):
    """An epoch from a state to the next, by a TrainingStep for as many images and this batch size.

    Arguments and results as of lrlib.training.epoch.train_epoch.
    """
    with torch.cuda.stream(step.stream):
        after, losses = step.repeat(state, lr=lr, momentum=momentum, order=order)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            # The device went on, so the steps before the bad one are taken again, to the same bits.
            losses[bad[0] + 1 :] = np.nan
            before = slice(0, bad[0])
            order = order[: bad[0] * step.batch_size]
            after, _ = step.repeat(state, lr=lr[before], momentum=momentum[before], order=order)
    return after, losses


class TrainingStep:
    """One training step in tensors that stay where they are, so that a CUDA graph can hold it.

    inputs, targets: (N, ...), both on the device that is to train.
    n_samples: how many of them an epoch sees. optimizer: a name of UPDATES.
    Until `capture` is called, and on a CPU, the same step runs by itself, uncaptured.
    """

    def __init__(self, inputs, targets, *, n_samples, batch_size, optimizer, weight_decay, problem=DEFAULT):
        device = inputs.device
        self.inputs, self.targets, self.problem = inputs, targets, load_problem(problem)
        self.n_samples, self.batch_size = n_samples, batch_size
        self.update, self.weight_decay = UPDATES[optimizer], weight_decay
        n_steps = math.ceil(n_samples / batch_size)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.graphs = {}
        self.model = _build_model(self.problem, device)
        make_thin(self.model)
        self.names, self.weights = zip(*self.model.named_parameters())
        # All parameters in one tensor, of which the model's are views: an update is then a few kernels for all of them.
        self.parameters = torch.zeros(sum(weight.numel() for weight in self.weights), device=device)
        for weight, part in zip(self.weights, self._split(self.parameters)):
            weight.data = part
        self.buffers = {name: torch.zeros_like(self.parameters) for name in self.update.buffers}
        self.table = torch.ones(n_steps, self.update.n_columns, device=device)
        self.batches = torch.zeros(n_steps, batch_size, dtype=torch.int64, device=device)
        self.losses = torch.zeros(n_steps, device=device)
        self.steps = torch.arange(n_steps, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream(device))  # on which all of this was made

    def take(self, size):
        """Take the step that `self.step` says, on the first `size` samples of its batch; then the next one is due."""
        batch = self.batches.index_select(0, self.step)[0, :size]
        outputs = self.model(self.inputs.index_select(0, batch))
        loss = self.problem.losses(outputs, self.targets.index_select(0, batch)).mean()
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, self.weights)])
        with torch.no_grad():
            if self.weight_decay:
                gradient.add_(self.parameters, alpha=self.weight_decay)
            row = self.table.index_select(0, self.step)[0]
            self.update.apply(self.parameters, gradient, *self.buffers.values(), *row)
            torch.where(self.steps == self.step, loss, self.losses, out=self.losses)
            self.step.add_(1)

    def capture(self):
        """Capture the step in CUDA graphs, one for full batches and one for a short last batch."""
        last = self.n_samples - (len(self.steps) - 1) * self.batch_size
        with torch.cuda.stream(self.stream):
            for size in {min(self.batch_size, self.n_samples), last}:
                for _ in range(WARM_UP_STEPS):
                    self.step.zero_()
                    self.take(size)
                # Not by torch.cuda.graph, which has the device come to rest and hand its free memory back first.
                # thread_local: other threads of a worker may go on using the device meanwhile.
                graph = torch.cuda.CUDAGraph()
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self.take(size)
                finally:
                    graph.capture_end()
                self.graphs[size] = graph

    def repeat(self, state, *, lr, momentum, order):
        """Take len(lr) steps from a state; order may be shorter than n_samples.

        Returns state, losses as lrlib.training.epoch.train_epoch does, whatever the losses are.
        """
        n_before = self._load(state)
        table = self.update.tabulate(np.asarray(lr, float), np.asarray(momentum, float), n_before)
        self.table[: len(lr)].copy_(torch.from_numpy(table))
        self.batches.view(-1)[: len(order)].copy_(order)
        self.step.zero_()
        for first in range(0, len(order), self.batch_size):
            size = min(self.batch_size, len(order) - first)
            if size in self.graphs:
                self.graphs[size].replay()
            else:
                self.take(size)
        losses = self.losses[: len(lr)].double().cpu().numpy()
        has_buffers = self._has_buffers(state) or self.update.fills_buffers(momentum)
        return self._save(n_before + len(lr), has_buffers), losses

    def _load(self, state):
        """Put a state into the tensors. Returns the number of steps that its optimizer counts before."""
        self.parameters.copy_(torch.cat([state[f"model.{name}"].flatten() for name in self.names]))
        for key, buffer in self.buffers.items():
            if self._has_buffers(state):
                buffer.copy_(torch.cat([state[f"optimizer.{name}.{key}"].flatten() for name in self.names]))
            else:
                buffer.zero_()
        return int(state.get(f"optimizer.{self.names[0]}.step", 0))

    def _save(self, n_steps, has_buffers):
        state = {f"model.{name}": part for name, part in zip(self.names, self._split(self.parameters.cpu()))}
        if has_buffers:
            for key, buffer in self.buffers.items():
                parts = self._split(buffer.cpu())
                state.update({f"optimizer.{name}.{key}": part for name, part in zip(self.names, parts)})
            if self.update.counts_steps:
                state.update({f"optimizer.{name}.step": torch.tensor(float(n_steps)) for name in self.names})
        return {name: part.clone() for name, part in state.items()}

    def _has_buffers(self, state):
        return f"optimizer.{self.names[0]}.{self.update.buffers[0]}" in state

    def _split(self, flat):
        """A tensor (number of parameters,) as views in the parameters' shapes."""
        parts = flat.split([weight.numel() for weight in self.weights])
        return [part.view(weight.shape) for part, weight in zip(parts, self.weights)]


@dataclass(frozen=True)
class Update:
    """An optimizer's update as torch.optim has it, in operations that a graph can hold.

    buffers: the names of its buffers in a state. counts_steps: whether a state also has the number of steps so far.
    tabulate(lr, momentum, n_before): what each step needs, float64 (n_steps, n_columns); n_before: steps before these.
    apply(parameters, gradient, *buffers, *row): change parameters and buffers in place; row: the step's, 0-d tensors.
    fills_buffers(momentum): whether these steps leave something in the buffers.
    """

    buffers: tuple
    counts_steps: bool
    n_columns: int
    tabulate: Callable
    apply: Callable
    fills_buffers: Callable


def _tabulate_sgd(lr, momentum, n_before):
    return np.stack([lr, momentum], axis=1)


def _apply_sgd(parameters, gradient, momentum_buffer, lr, momentum):
    direction = torch.addcmul(gradient, momentum_buffer, momentum)
    # torch leaves the buffer as it is at a step without momentum.
    torch.where(momentum != 0, direction, momentum_buffer, out=momentum_buffer)
    parameters.addcmul_(direction, lr, value=-1)


def _tabulate_adam(lr, momentum, n_before):
    """Columns: the step size, 1 - beta1, and the root of the second moment's bias correction (Kingma & Ba 2015)."""
    step = n_before + 1 + np.arange(len(lr))
    root = np.sqrt(1 - OPTIMIZERS["adam"]["beta2"] ** step)
    return np.stack([lr / (1 - momentum**step), 1 - momentum, root], axis=1)


def _apply_adam(parameters, gradient, exp_avg, exp_avg_sq, step_size, one_minus_beta1, root):
    beta2, eps = OPTIMIZERS["adam"]["beta2"], OPTIMIZERS["adam"]["eps"]
    exp_avg.lerp_(gradient, one_minus_beta1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    parameters.addcdiv_(exp_avg * step_size, exp_avg_sq.sqrt().div_(root).add_(eps), value=-1)


UPDATES = {
    "sgd": Update(
        buffers=("momentum_buffer",),
        counts_steps=False,
        n_columns=2,
        tabulate=_tabulate_sgd,
        apply=_apply_sgd,
        fills_buffers=lambda momentum: bool(np.any(momentum)),
    ),
    "adam": Update(
        buffers=("exp_avg", "exp_avg_sq"),
        counts_steps=True,
        n_columns=3,
        tabulate=_tabulate_adam,
        apply=_apply_adam,
        fills_buffers=lambda momentum: len(momentum) > 0,
    ),
}


@lru_cache(maxsize=64)
def _capture_step(inputs, targets, n_samples, batch_size, optimizer, weight_decay, problem, thread):
    """The captured TrainingStep of these settings; one for each thread, since a step's tensors are its state."""
    with _preparing:
        step = TrainingStep(
            inputs,
            targets,
            n_samples=n_samples,
            batch_size=batch_size,
            optimizer=optimizer,
            weight_decay=weight_decay,
            problem=problem,
        )
        step.capture()
    return step


@lru_cache(maxsize=64)
def _build_to_evaluate(problem, device, thread):
    """A model for states to be loaded into; one for each thread, as of `_capture_step`."""
    return _build_model(load_problem(problem), device).eval()


def _build_model(problem, device):
    """A problem's model with parameters yet to be filled, so that threads need not take turns at drawing them."""
    with torch.device("meta"):
        model = problem.build_model()
    return model.to_empty(device=device)


def _copy_to_device(tensor):
    """The copy of a tensor on the current device, made once for as long as the tensor lives, which must not change."""
    with _preparing:
        if tensor not in _on_device:
            _on_device[tensor] = tensor.cuda()
        return _on_device[tensor]


def _fix_numerics():
    """Have this process compute in float32 throughout, with kernels that are always the same."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
