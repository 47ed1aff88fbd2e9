"""What a sweep costs: range_test beside the same steps in a bare loop and in torch-lr-finder.

    python bench/range_test_cost.py [--steps 100] [--rounds 9]

LeNet-5, batch 128, SGD with momentum, one thread, random images in memory (the loader costs all three the same). The
three take turns within each round, in an order that rotates, and a ratio is formed within each round. Times are the
process's CPU seconds, which other programs on the machine disturb less than the clock's. Keeping and putting back the
state is timed apart. Memory is that of the tensors alive in a sweep above the bare loop's, in copies of model
and optimizer state; gradients that a user has left on the model are one more thing that lrlib alone keeps.
Writes bench/build/range_test_cost.json and prints Markdown tables.
"""

import argparse
import contextlib
import copy
import gc
import io
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrlib.finder.restore import Snapshot
from lrlib.finder.sweeps import range_test
from lrlib.problems.lenet import LeNet5

BUILD = Path(__file__).parent / "build"
START_LR, END_LR = 1e-6, 1e-2  # nothing diverges: every tool does all the steps


def build():
    torch.manual_seed(0)
    model = LeNet5()
    optimizer = torch.optim.SGD(model.parameters(), lr=START_LR, momentum=0.9)
    images, labels = torch.rand(12800, 1, 32, 32), torch.randint(0, 10, (12800,))
    return model, optimizer, DataLoader(TensorDataset(images, labels), batch_size=128, shuffle=True)


def bare_loop(model, optimizer, loader, n_steps):
    """CPU seconds of a loop that a person would write, its losses read for a curve, and of keeping state: none."""
    losses = []
    began = time.process_time()
    while len(losses) < n_steps:
        for images, labels in loader:
            optimizer.param_groups[0]["lr"] = START_LR * (END_LR / START_LR) ** (len(losses) / (n_steps - 1))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == n_steps:
                break
    return time.process_time() - began, 0.0


def lrlib_sweep(model, optimizer, loader, n_steps):
    began = time.process_time()
    with Snapshot(model, optimizer, loaders=[loader]):
        pass
    state = time.process_time() - began
    began = time.process_time()
    result = range_test(
        model,
        optimizer,
        nn.functional.cross_entropy,
        loader,
        start_lr=START_LR,
        end_lr=END_LR,
        num_iter=n_steps,
        repeats=1,
    )
    assert len(result.sweeps[0].loss) == n_steps
    return time.process_time() - began - state, state


def torch_lr_finder_sweep(model, optimizer, loader, n_steps):
    """Its sweep, and apart: keeping the state, which its constructor does, and putting it back, which reset does."""
    from torch_lr_finder import LRFinder

    began = time.process_time()
    finder = LRFinder(model, optimizer, nn.functional.cross_entropy, device="cpu", cache_dir=None)
    made = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        finder.range_test(loader, start_lr=START_LR, end_lr=END_LR, num_iter=n_steps)
    swept = time.process_time()
    finder.reset()
    assert len(finder.history["loss"]) == n_steps
    return swept - made, made - began + time.process_time() - swept


def measure_time(n_steps, n_rounds):
    """{tool: ([seconds of the steps a round], [seconds of the state a round])}"""
    tools = {"bare loop": bare_loop, "lrlib": lrlib_sweep}
    with contextlib.suppress(ImportError):
        import torch_lr_finder  # noqa: F401

        tools["torch-lr-finder"] = torch_lr_finder_sweep
    model, optimizer, loader = build()
    start = copy.deepcopy(model.state_dict())
    seconds = {tool: ([], []) for tool in tools}
    names = list(tools)
    for round_ in range(n_rounds + 1):
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            model.load_state_dict(start)
            optimizer.state.clear()
            gc.collect()
            with contextlib.redirect_stderr(io.StringIO()):  # both tools show a progress bar
                steps, state = tools[name](model, optimizer, loader, n_steps)
            if round_ > 0:  # the first round warms up
                seconds[name][0].append(steps)
                seconds[name][1].append(state)
    return seconds


def tensor_bytes():
    """Bytes of the distinct storages of all tensors alive."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def measure_memory():
    """{tool: bytes of tensors alive in the middle of its sweep}, and the bytes of model and optimizer state."""
    alive = {}
    sweeps = {
        "bare loop": bare_loop,
        "lrlib": lrlib_sweep,
        "torch-lr-finder": torch_lr_finder_sweep,
    }
    for name, sweep in sweeps.items():
        model, optimizer, loader = build()
        bare_loop(model, optimizer, loader, 3)  # the optimizer has its state
        optimizer.zero_grad()
        seen = []
        hook = model.register_forward_pre_hook(lambda *_, seen=seen: seen.append(tensor_bytes()))
        with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):
            sweep(model, optimizer, loader, 12)
            alive[name] = seen[-1]
        hook.remove()
    tensors = [*model.state_dict().values(), *(s["momentum_buffer"] for s in optimizer.state.values())]
    state_bytes = sum(t.numel() * t.element_size() for t in tensors)
    return alive, state_bytes


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure_time(arguments.steps, arguments.rounds)
    alive, state_bytes = measure_memory()

    bare = seconds["bare loop"][0]
    lines = [
        f"{arguments.steps} steps, {arguments.rounds} rounds, torch {torch.__version__}",
        "",
        "| tool | time of the steps over the bare loop's: median (least to greatest) | ms a step | ms for the state |",
        "|---|---|---|---|",
    ]
    for name, (steps, state) in seconds.items():
        ratios = [one / other for one, other in zip(steps, bare, strict=True)]
        ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        each = 1000 * statistics.median(steps) / arguments.steps
        lines.append(f"| {name} | {ratio} | {each:.2f} | {1000 * statistics.median(state):.1f} |")
    lines += [
        "",
        "| tool | tensors alive in a sweep, above the bare loop, in copies of model and optimizer state |",
        "|---|---|",
    ]
    for name, n_bytes in alive.items():
        lines.append(f"| {name} | {(n_bytes - alive['bare loop']) / state_bytes:.2f} |")

    BUILD.mkdir(parents=True, exist_ok=True)
    found = {"seconds": seconds, "bytes_alive": alive, "state_bytes": state_bytes, **vars(arguments)}
    (BUILD / "range_test_cost.json").write_text(json.dumps(found, indent=1))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
