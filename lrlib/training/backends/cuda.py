"""CUDA: the plain training step as a CUDA graph, which spares Python the launch of each of its short kernels.

A graph holds a step on a full batch, with the samples' indices and the optimizer's rates in tensors that stay in place;
a short last batch runs without it.
"""

import os
from functools import lru_cache

import numpy as np
import torch

from lrlib.problems.registry import DEFAULT, load_problem
from lrlib.training import epoch
from lrlib.training.backends import BackendError
from lrlib.training.epoch import check_steps, load_model
from lrlib.training.optimizers import OPTIMIZERS

WARM_UP_STEPS = 3  # before a capture, so that libraries have chosen their kernels
BUFFERS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq")}
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it cuBLAS varies


def check(processes, problem):
    """Raise ValueError unless it can train that Problem in so many processes."""
    if processes != 1:
        raise ValueError(f"processes must be 1 for backend cuda, got {processes}; one epoch is trained on one device")
    with torch.device("meta"):
        has_buffers = bool(list(problem.build_model().buffers()))
    if has_buffers:
        raise ValueError(f"backend cuda cannot train {problem.name!r}, which has buffers; use backend='torch'")


def describe(processes, optimizer):
    """Return what an epoch's name holds of this backend. Raises BackendError if there is no CUDA device."""
    if not torch.cuda.is_available():
        raise BackendError(
            f"backend cuda requires a CUDA device, and torch {torch.__version__} finds none; install its driver, or "
            "use backend='torch'"
        )
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
    }


def train_epoch(
    state, *, processes, lr, momentum, inputs, targets, order, batch_size, optimizer, weight_decay, problem=DEFAULT,
):  # fmt: skip
    """`lrlib.training.epoch.train_epoch` on the device, from and to tensors of the host; BUFFERS has its optimizers."""
    check_steps(lr, momentum, order, batch_size)
    if optimizer not in BUFFERS:
        raise ValueError(f"optimizer must be one of {', '.join(BUFFERS)} for backend cuda, got {optimizer!r}")
    _fix_numerics()
    data = _copy_to_device(inputs), _copy_to_device(targets)
    step = _capture_step(*data, min(batch_size, len(order)), optimizer, weight_decay, problem)
    return step.run_epoch(state, np.asarray(lr, float), np.asarray(momentum, float), order)


def evaluate(state, *, inputs, targets, **settings):
    """`lrlib.training.epoch.evaluate` on the device."""
    _fix_numerics()
    return epoch.evaluate(state, inputs=_copy_to_device(inputs), targets=_copy_to_device(targets), **settings)


class TrainingStep:
    """One training step in tensors that stay where they are; without `capture`, as on a CPU, it runs by itself."""

    def __init__(self, inputs, targets, batch_size, optimizer, weight_decay, problem):
        device = inputs.device
        self.inputs, self.targets, self.losses = inputs, targets, load_problem(problem).losses
        self.optimizer, self.weight_decay, self.graph = optimizer, weight_decay, None
        self.model = load_model(epoch.initial_state(0, problem), problem).train().to(device)
        self.names, self.weights = map(list, zip(*self.model.named_parameters(), strict=True))
        self.buffers = {key: [torch.zeros_like(weight) for weight in self.weights] for key in BUFFERS[optimizer]}
        self.batch = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.rates, self.loss = torch.ones(3, device=device), torch.zeros((), device=device)

    def capture(self):
        """Capture the step on a full batch as a graph."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self.take(self.batch)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.take(self.batch)

    def take(self, batch):
        """Take a step on a batch, at `self.rates`; the loss before it goes to `self.loss`."""
        outputs = self.model(self.inputs.index_select(0, batch))
        loss = self.losses(outputs, self.targets.index_select(0, batch)).mean()
        gradients = torch.autograd.grad(loss, self.weights)
        with torch.no_grad():
            self.loss.copy_(loss)
            if self.weight_decay:
                gradients = torch._foreach_add(gradients, self.weights, alpha=self.weight_decay)
            torch._foreach_sub_(self.weights, getattr(self, f"_update_{self.optimizer}")(gradients))

    def _update_sgd(self, gradients):
        lr, momentum, _ = self.rates.unbind()
        [buffers] = self.buffers.values()
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        return torch._foreach_mul(buffers, lr)

    def _update_adam(self, gradients):
        step_size, beta1, root = self.rates.unbind()
        beta2, eps = OPTIMIZERS["adam"]["beta2"], OPTIMIZERS["adam"]["eps"]
        mean, square = self.buffers.values()
        torch._foreach_mul_(mean, beta1)
        torch._foreach_add_(mean, torch._foreach_mul(gradients, 1 - beta1))
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(square)
        torch._foreach_div_(scale, root)
        torch._foreach_add_(scale, eps)
        update = torch._foreach_div(mean, scale)
        torch._foreach_mul_(update, step_size)
        return update

    def run_epoch(self, state, lr, momentum, order):
        """`lrlib.training.epoch.train_epoch` for an order whose batches are as this step's; the last may be short."""
        after, losses = self._run(state, lr, momentum, order)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):  # the device ran on: take the steps before the bad one again
            losses[bad[0] + 1 :] = np.nan
            before = slice(0, bad[0])
            after, _ = self._run(state, lr[before], momentum[before], order[: bad[0] * len(self.batch)])
        return after, losses

    def _run(self, state, lr, momentum, order):
        n_before = self._load(state)
        device, size = self.batch.device, len(self.batch)
        rates = torch.from_numpy(self._tabulate(lr, momentum, n_before)).float().to(device)
        order, losses = order.to(device), torch.zeros(len(lr), device=device)
        for number, batch in enumerate(order.split(size) if len(lr) else ()):
            self.rates.copy_(rates[number])
            if self.graph is not None and len(batch) == size:
                self.batch.copy_(batch)
                self.graph.replay()
            else:
                self.take(batch)
            losses[number].copy_(self.loss)
        return self._save(n_before + len(lr), momentum.any()), losses.double().cpu().numpy()

    def _tabulate(self, lr, momentum, n_before):
        """The rates of each step: lr, momentum; or Adam's step size, beta1 and root of the second bias correction."""
        if self.optimizer == "sgd":
            return np.stack([lr, momentum, lr], axis=1)
        number = n_before + 1 + np.arange(len(lr))
        root = np.sqrt(1 - OPTIMIZERS["adam"]["beta2"] ** number)
        return np.stack([lr / (1 - momentum**number), momentum, root], axis=1)

    def _load(self, state):
        """Put a state into the tensors. Returns how many steps its optimizer counts."""
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
        for key, buffers in self.buffers.items():
            for name, buffer in zip(self.names, buffers, strict=True):
                buffer.copy_(state.get(f"optimizer.{name}.{key}", torch.zeros(())))
        return int(state.get(f"optimizer.{self.names[0]}.step", 0))

    def _save(self, n_steps, has_momentum):
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if has_momentum or self.optimizer == "adam":
            for key, buffers in self.buffers.items():
                state |= {f"optimizer.{name}.{key}": b for name, b in zip(self.names, buffers, strict=True)}
        if self.optimizer == "adam":
            state |= {f"optimizer.{name}.step": torch.tensor(float(n_steps)) for name in self.names}
        return {name: value.detach().cpu().clone() for name, value in state.items()}


@lru_cache(maxsize=8)
def _capture_step(*settings):
    step = TrainingStep(*settings)
    step.capture()
    return step


@lru_cache(maxsize=8)
def _copy_to_device(tensor):
    """The copy of a tensor, which must not change, on the current device."""
    return tensor.cuda()


def _fix_numerics():
    """Compute in float32 throughout, by kernels that are always the same."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
