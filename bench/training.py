"""How fast training LeNet-5 is: a step, an epoch and a report, side by side in one run.

    python bench/training.py [--repeats 9] [--publish]

Steps and epochs are timed on one core by processor time, which other work on the machine disturbs least. The rows of a
table take turns in one process, after a round that warms up; a ratio is formed within a round, and medians are shown.
Rows, for MNIST at batch 128 with SGD:

- GEMM bound: the layers' multiply-adds at the rate of the fastest of ten products of 1024 x 1024 float32 matrices.
- plain layers: torch's Conv2d, Tanh and AvgPool2d in a loop as one writes it by hand, images in memory as uint8.
- compiled: lrlib's backend of that name. Steps are timed once for each instruction set, to which all rows are held.
- JAX: the plain layers jitted, a whole step at once, images in memory.
- the author's kind of loop: torchvision's dataset with PIL's resize for every image, and a DataLoader.

The wall time of a report of one seed from an empty cache, with the first compilation, comes last; it replaces
report/build. --publish puts the tables into bench/README.md. A quarter of an hour on two quiet cores.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from lrlib.problems.data import load_dataset
from lrlib.project import data_folders, project_folder
from lrlib.report.provenance import describe_hardware, read_origin
from lrlib.report.publish import fill_block
from lrlib.runs.store import write_whole
from lrlib.training.backends import compiled
from lrlib.training.epoch import epoch_order, initial_state

DATASET, BATCH_SIZE, LR, MOMENTUM, WEIGHT_DECAY = "mnist", 128, 0.05, 0.9, 5e-4
STEPS, GEMM_SIZE, N_PRODUCTS = 20, 1024, 10  # of a round
FORWARD, BOTH = 416_520, 1_131_960  # multiply-adds of an image; no gradient of the images is needed
# As lrlib's workers allocate, on one core.
ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25), "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1", "NPROC": "1", "JAX_PLATFORMS": "cpu",
}  # fmt: skip
AVX2 = {
    "NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": "", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}  # fmt: skip


def build_plain_model():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def train_plain(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def test_plain(model, batches):
    with torch.inference_mode():
        for images, labels in batches:
            F.cross_entropy(model(images), labels).item()


def split(images, labels, order=None):
    order = torch.arange(len(images)) if order is None else order
    return ((images[batch] / 255, labels[batch]) for batch in order.split(BATCH_SIZE))


def train_compiled(images, labels, order):
    n_steps = -(-len(order) // BATCH_SIZE)
    return compiled.train_epoch(
        initial_state(0), processes=1, lr=np.full(n_steps, LR), momentum=np.full(n_steps, MOMENTUM), inputs=images,
        targets=labels, order=order, batch_size=BATCH_SIZE, optimizer="sgd", weight_decay=WEIGHT_DECAY,
    )[0]  # fmt: skip


def test_compiled(state, images, labels):
    compiled.evaluate(state, inputs=images, targets=labels, batch_size=BATCH_SIZE)


def prepare_jax(model, train, test):
    """run() for an epoch of a model's layers in JAX, a jitted function a step; it sets the model's parameters."""
    import jax

    images, labels, test_images, test_labels = (jax.numpy.asarray(each.numpy()) for each in (*train, *test))

    def convolve_pool(x, weight, bias):
        x = jax.numpy.tanh(jax.lax.conv(x, weight, (1, 1), "VALID") + bias[:, None, None])
        n, channels, height, width = x.shape
        return x.reshape(n, channels, height // 2, 2, width // 2, 2).mean((3, 5))

    def compute_loss(parameters, images, labels):
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        x = convolve_pool(convolve_pool(images / 255.0, w1, b1), w2, b2)
        x = jax.numpy.tanh(x.reshape(len(x), -1) @ w3.reshape(len(w3), -1).T + b3)
        logits = jax.numpy.tanh(x @ w4.T + b4) @ w5.T + b5
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    @jax.jit
    def step(parameters, buffers, images, labels, batch):
        loss, gradients = jax.value_and_grad(compute_loss)(parameters, images[batch], labels[batch])
        buffers = [MOMENTUM * b + g + WEIGHT_DECAY * p for p, b, g in zip(parameters, buffers, gradients, strict=True)]
        return [p - LR * b for p, b in zip(parameters, buffers, strict=True)], buffers, loss

    evaluate = jax.jit(compute_loss)

    def run():
        parameters = [jax.numpy.array(parameter.detach().numpy()) for parameter in model.parameters()]
        buffers = [jax.numpy.zeros_like(parameter) for parameter in parameters]
        for batch in epoch_order(0, 1, len(labels)).split(BATCH_SIZE):
            parameters, buffers, loss = step(parameters, buffers, images, labels, batch.numpy())
        for first in range(0, len(test_labels), BATCH_SIZE):
            part = slice(first, first + BATCH_SIZE)
            loss = evaluate(parameters, test_images[part], test_labels[part])
        jax.block_until_ready((parameters, loss))
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), parameters, strict=True):
                parameter.copy_(torch.from_numpy(np.array(value)))

    return run


def run_author_s_loop(model):
    root = next(folder for folder in data_folders() if (folder / "MNIST" / "raw").is_dir())
    pipeline = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    for run, is_train in ((train_plain, True), (test_plain, False)):
        images = datasets.MNIST(root, train=is_train, transform=pipeline)
        run(model, DataLoader(images, batch_size=BATCH_SIZE, shuffle=is_train))


def measure_processor(run):
    start = time.process_time()
    run()
    return time.process_time() - start


def measure_bound(n_multiply_adds):
    """Seconds that so many multiply-adds take at the rate of the fastest of N_PRODUCTS large products."""
    a, b, out = torch.rand(3, GEMM_SIZE, GEMM_SIZE)
    seconds = min(measure_processor(lambda: torch.mm(a, b, out=out)) for _ in range(N_PRODUCTS))
    return n_multiply_adds * seconds / GEMM_SIZE**3


def measure_rows(rows, n_multiply_adds, repeats, scale):
    """Name -> scaled seconds of each round; rows: name -> run(), the GEMM bound comes first by itself."""
    rounds = []
    for _ in range(repeats + 1):
        rounds.append([measure_bound(n_multiply_adds), *map(measure_processor, rows.values())])
    values = zip(*rounds[1:], strict=True)
    return {name: [scale * value for value in each] for name, each in zip(("GEMM bound", *rows), values, strict=True)}


def measure_steps(train, test, repeats):
    """Milliseconds of a training step, and of testing a batch."""
    order, model, state = epoch_order(0, 1, len(train[0]))[: STEPS * BATCH_SIZE], build_plain_model(), initial_state(0)
    test = [each[: len(order)] for each in test]
    rows = {
        "plain layers": lambda: train_plain(model, split(*train, order)),
        "compiled": lambda: train_compiled(*train, order),
    }
    tests = {"plain layers": lambda: test_plain(model, split(*test)), "compiled": lambda: test_compiled(state, *test)}
    return {
        "a training step": measure_rows(rows, BOTH * len(order), repeats, 1e3 / STEPS),
        "testing a batch": measure_rows(tests, FORWARD * len(order), repeats, 1e3 / STEPS),
    }


def measure_epochs(train, test, repeats):
    """Seconds of an epoch with its test."""
    order, model = epoch_order(0, 1, len(train[0])), build_plain_model()
    rows = {
        "plain layers": lambda: (train_plain(model, split(*train, order)), test_plain(model, split(*test))),
        "compiled": lambda: test_compiled(train_compiled(*train, order), *test),
        "the author's kind of loop": lambda: run_author_s_loop(model),
    }
    if importlib.util.find_spec("jax"):
        rows["JAX"] = prepare_jax(build_plain_model(), train, test)
    return {"an epoch, with its test": measure_rows(rows, BOTH * len(train[0]) + FORWARD * len(test[0]), repeats, 1.0)}


def describe(title, unit, found):
    """A Markdown table of the rows of `measure_rows`: medians, and medians of the ratios within a round."""
    lines = [f"| {title} | {unit} | times the bound | times as long as compiled |", "|---|--:|--:|--:|"]
    for name, values in found.items():
        cells = [np.median(values)]
        for other in ("GEMM bound", "compiled"):
            cells.append(np.median([value / by for value, by in zip(values, found[other], strict=True)]))
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--publish", action="store_true", help="put the tables into bench/README.md")
    parser.add_argument("--part", choices=("steps", "epochs"), help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.part:
        data, measure = load_dataset(DATASET), {"steps": measure_steps, "epochs": measure_epochs}[options.part]
        train, test = data.train, data.test
        print(json.dumps(measure(train, test, options.repeats)))
        return

    def measure_apart(part, repeats, **environment):
        command = [sys.executable, __file__, "--part", part, "--repeats", str(repeats)]
        done = subprocess.run(command, env=os.environ | ENVIRONMENT | environment, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout.splitlines()[-1]).items()

    capability = torch.backends.cpu.get_cpu_capability()
    parts = [
        f"{describe_hardware()}, {capability}; torch {torch.__version__}, commit {read_origin().describe(digits=12)}.\n"
        f"Processor time on one core, medians of {options.repeats} rounds, for epochs of 3."
    ]
    for name, environment in {"AVX512": {}, "AVX2": AVX2}.items():
        if name == "AVX2" or name == capability:
            for title, found in measure_apart("steps", options.repeats, **environment):
                parts.append(describe(f"{title} of {BATCH_SIZE} images, {name} code", "ms", found))
    for title, found in measure_apart("epochs", min(options.repeats, 3)):
        parts.append(describe(title, "s", found))
    with tempfile.TemporaryDirectory() as folder:
        start, environment = time.perf_counter(), os.environ | {"LRLIB_STORE": folder}
        command = [sys.executable, "-m", "lrlib", "report", "--seeds", "1", "--dataset", DATASET]
        subprocess.run(command, cwd=project_folder(), env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
    parts.append(f"A report of one seed from an empty cache: {seconds:.0f} s on {os.cpu_count()} cores.")
    text = "\n\n".join(parts) + "\n"
    print(text, end="")
    if options.publish:
        readme = project_folder() / "bench" / "README.md"
        write_whole(readme, fill_block(readme.read_text(encoding="utf-8"), "bench", text).encode())


if __name__ == "__main__":
    main()
