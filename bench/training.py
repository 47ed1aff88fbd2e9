"""How fast training is: an epoch of lrlib's beside other ways, over several workers, and inside a report.

    python bench/training.py [--repeats 5] [--report] [--publish]

Every row trains and tests LeNet-5 for one epoch of MNIST at batch 128 with SGD. The rows take turns within each repeat,
in an order that rotates, after a round that warms up; a ratio is formed within each repeat. Seconds are median, least
and most.

- plain layers: torch's Conv2d, Tanh and AvgPool2d in a loop as one writes it by hand, images in memory as uint8;
- lrlib's model in that same loop; lrlib's worker: an epoch of `lrlib.train` as its worker times it;
- the author's kind of loop: torchvision's dataset with PIL's resize for every image and a DataLoader, on torch's own
  choice of threads and on one core;
- Lightning and fastai with the plain layers, and the plain loop again, on the same DataLoader of scaled images in
  memory: what the loader takes apart from what a framework adds. Loggers, checkpoints and progress bars are off;
- JAX with the plain layers jitted, a whole step at once, images in memory;
- Colossal-AI as lrlib's backend of that name, in one process, as its worker times it;
- the GEMM bound: the multiply-adds of the layers (60,000 images forward and backward, 10,000 forward) at the rate of
  the fastest product of 1024 x 1024 float32 matrices on one core in that repeat. Nothing but the products is in it.

All processes allocate as lrlib's workers do (cluster.WORKER_ENVIRONMENT); for that the script starts itself again.
Then: epochs a second of `lrlib.train` over 1, 2, 4 ... workers, scheduling and storing included, the cluster's start
not; with --report, the whole of `python -m lrlib report` for one seed from an empty store (it replaces what is in
report/build) over the bare training of its epochs. Writes bench/build/training.json and training.md, prints the latter,
and with --publish puts it between the lines <!-- bench --> and <!-- /bench --> of bench/README.md. Half an hour on
two cores.

What was tried for speed on a CPU, in ms a training step of 128 images (quiet core of a Xeon with AVX-512, torch 2.15):

| model | ms |
|---|--:|
| plain layers, eager | 11.3 |
| plain layers, torch.compile | 10.7 |
| pooling as the mean of four slices, torch.compile | 15.3 |
| channels last, conv3 as a linear layer | 8.0 to 8.4 |
| the same, torch.compile | 8.9 |
| products with banded matrices over whole layers of 14 and 5 pooled columns | 7.1 |
| the same by blocks of 2 columns | 5.7 to 5.9 |
| the same in micro-batches of 64 | 7.6 |
| the same in micro-batches of 32 | 10.4 |
| the GEMM bound, at 193 GFLOP/s | 1.5 |

And on an EPYC (Zen 4), as processor time of a step over the GEMM bound in the same round, medians of 11 to 21 rounds
that took turns on a busy machine, where two runs of one row differ by 0.1:

| model | times the bound |
|---|--:|
| plain layers, eager | 5.1 to 5.4 |
| blocks of 2 columns with torch's tanh, as above | 4.0 to 4.1 |
| the same with a sigmoid in tanh's place, the 2s and the 1 folded into kernels and pooling | 3.4 |
| the same, blocks of 4 columns in the backward pass, or in both | 3.3 |
| one batched product for the blocks of a layer, one pass for each elementwise operation | 3.1 to 3.2 |
| the same, and conv1 by tiles of 2 x 2 (lrlib/problems/banded.py) | 3.1 |

Of a layer alone, forward and backward, over the bound: conv1 1.04 by blocks and 0.87 by tiles; conv2 1.39 by blocks,
1.57 by tiles, 1.5 in batches of 64 and 1.8 of 32; conv1 as above in groups of 1, 2, 4, 7 and 14 blocks 1.58, 1.36,
1.29, 1.15 and 1.18 (14 are 2.4 MB, which a slower cache than this one's would feel, so 7 are taken). No gain: windows
that are never written out (conv2's products by row of the kernel: forward 0.32 in place of 0.43, weights' gradient
0.41 in place of 0.32); unfolding without a band (half the rate: the products are too thin); the gradient of x as one
convolution of padded gradients (0.61 in place of 0.33); a sigmoid for the 204 values of an image that pass through
tanh elsewhere (calling it costs what it saves); conv3 and fc1 on transposed operands.

What keeps it from the bound, in parts of the bound on that machine: the products 1.6, a sixth to a third of which
multiply the band's zeros, the elementwise passes 0.5, the layers from conv3 on 0.5, the rest of the loop 0.2; the
remainder is some 250 calls from Python.
"""

import argparse
import importlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from dask.system import CPU_COUNT
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

import lrlib
from lrlib.problems.data import find_dataset, load_dataset
from lrlib.project import build_folder, project_folder
from lrlib.report.provenance import describe_hardware
from lrlib.report.publish import PublishError, fill_block
from lrlib.report.provenance import read_origin
from lrlib.runs.cluster import WORKER_ENVIRONMENT, open_client
from lrlib.runs.store import Store, write_whole
from lrlib.schedules import Constant
from lrlib.training.backends import BackendError
from lrlib.training.epoch import epoch_order
from lrlib.training.registry import load_backend

BUILD = Path(__file__).parent / "build"
DATASET, PROBLEM, BATCH_SIZE, LR, MOMENTUM, WEIGHT_DECAY = "mnist", "lenet5_mnist", 128, 0.05, 0.9, 5e-4
EPOCHS_OF_THE_AUTHOR, EPOCHS_HERE = 250, 180
EPOCHS_A_WORKER = 3
GEMM_SIZE, N_PRODUCTS = 1024, 20
OURS, AUTHOR_S = "lrlib's worker", "the author's kind of loop: PIL and a DataLoader"


class NotInstalledError(Exception):
    """A framework that is not there to be measured."""


@dataclass(frozen=True)
class Row:
    """A way of training: run(repeat) takes an epoch on so many threads and returns seconds; None where it cannot."""

    name: str
    threads: int
    run: Callable | None


def build_plain_model():
    """The layers as a person would write them, from torch's own modules."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def build_sgd(parameters):
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def time_loop(model, train_batches, test_batches):
    """Seconds of one epoch of training and testing; the batches are iterables of images and labels."""
    optimizer = build_sgd(model.parameters())
    start = time.perf_counter()
    for images, labels in train_batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        for images, labels in test_batches:
            F.cross_entropy(model(images), labels).item()
    return time.perf_counter() - start


def time_in_memory(model, data, repeat):
    """`time_loop` on images that lie in memory as uint8."""

    def take(images, labels, batches):
        for batch in batches:
            yield images[batch] / 255, labels[batch]

    order = epoch_order(0, repeat + 1, len(data.train_labels)).split(BATCH_SIZE)
    slices = [slice(first, first + BATCH_SIZE) for first in range(0, len(data.test_labels), BATCH_SIZE)]
    return time_loop(
        model,
        take(data.train_images, data.train_labels, order),
        take(data.test_images, data.test_labels, slices),
    )


def time_worker(client, store, backend, repeat):
    """Seconds of an epoch as its worker times it, with a seed of its own so that it is in no store."""
    run = lrlib.Run(Constant(LR), epochs=1, seed=repeat, problem=PROBLEM, backend=backend)
    return lrlib.train([run], store=store, client=client, progress=False).seconds


def build_author_s_loaders():
    """(train, test) loaders that resize every image anew with PIL, as a notebook of 2022 has them."""
    root = Path(find_dataset(DATASET).source).parent.parent
    pipeline = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    return [
        DataLoader(
            torchvision.datasets.MNIST(root, train=train, transform=pipeline), batch_size=BATCH_SIZE, shuffle=train
        )
        for train in (True, False)
    ]


def build_tensor_loaders(data):
    """(train, test) loaders of images that lie in memory, scaled."""
    train = TensorDataset(data.train_images / 255, data.train_labels)
    test = TensorDataset(data.test_images / 255, data.test_labels)
    return [DataLoader(train, batch_size=BATCH_SIZE, shuffle=True), DataLoader(test, batch_size=BATCH_SIZE)]


def prepare_lightning(model, loaders):
    """run(repeat) for Lightning's loop. Raises NotInstalledError."""
    lightning = _import("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _):
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return build_sgd(self.parameters())

    def run(repeat):
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        module = Module()
        start = time.perf_counter()
        trainer.fit(module, *loaders)
        return time.perf_counter() - start

    return run


def prepare_fastai(model, loaders):
    """run(repeat) for fastai's loop with its own SGD. Raises NotInstalledError."""
    basics = _import("fastai.basics")  # its bars are in a module that this does not import

    def run(repeat):
        learner = basics.Learner(
            basics.DataLoaders(*loaders, device=torch.device("cpu")),
            model,
            loss_func=F.cross_entropy,
            opt_func=partial(basics.SGD, mom=MOMENTUM, decouple_wd=False),
            wd=WEIGHT_DECAY,
            wd_bn_bias=True,
        )
        with learner.no_logging():
            start = time.perf_counter()
            learner.fit(1, lr=LR)
            return time.perf_counter() - start

    return run


def prepare_jax(model, data):
    """run(repeat) for a model's layers in JAX, a jitted function a step; it leaves its parameters in the model.

    Raises NotInstalledError.
    """
    jax = _import("jax")
    images, labels, test_images, test_labels = (
        jax.numpy.asarray(each.numpy())
        for each in (data.train_images, data.train_labels, data.test_images, data.test_labels)
    )

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

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, buffers, images, labels, batch):
        loss, gradients = jax.value_and_grad(compute_loss)(parameters, images[batch], labels[batch])
        moved = zip(parameters, buffers, gradients, strict=True)
        buffers = [MOMENTUM * b + g + WEIGHT_DECAY * p for p, b, g in moved]
        return [p - LR * b for p, b in zip(parameters, buffers, strict=True)], buffers, loss

    evaluate = jax.jit(compute_loss)

    def run(repeat):
        parameters = [jax.numpy.array(parameter.detach().numpy()) for parameter in model.parameters()]
        buffers = [jax.numpy.zeros_like(parameter) for parameter in parameters]
        order = epoch_order(0, repeat + 1, len(labels)).numpy()
        start = time.perf_counter()
        for first in range(0, len(labels), BATCH_SIZE):
            batch = order[first : first + BATCH_SIZE]
            parameters, buffers, loss = step(parameters, buffers, images, labels, batch)
        for first in range(0, len(test_labels), BATCH_SIZE):
            part = slice(first, first + BATCH_SIZE)
            loss = evaluate(parameters, test_images[part], test_labels[part])
        jax.block_until_ready((parameters, loss))
        seconds = time.perf_counter() - start
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), parameters, strict=True):
                parameter.copy_(torch.from_numpy(np.array(value)))
        return seconds

    return run


def prepare_backend(name, client, store):
    """run(repeat) for one of lrlib's backends. Raises NotInstalledError."""
    try:
        load_backend(name).describe(1)
    except (BackendError, ValueError) as err:
        raise NotInstalledError(str(err)) from err
    return partial(time_worker, client, store, name)


def _import(name):
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise NotInstalledError(str(err)) from err


def count_multiply_adds(model, image):
    """Multiply-adds of one image through a model's convolutions and linear layers: forward, and forward and backward.

    Backward takes two products of a layer's own size, of which the first layer needs but one: nobody asks for the
    gradient of the images. LeNet-5: 416,520 and 1,131,960.
    """
    counts = []

    def count(module, _, output):
        counts.append(output.numel() * module.weight[0].numel())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        model(image)
    for hook in hooks:
        hook.remove()
    return sum(counts), 3 * sum(counts) - counts[0]


def time_gemm_bound(n_multiply_adds, repeat):
    """Seconds that so many multiply-adds take at the rate of the fastest of N_PRODUCTS large products."""
    a, b = torch.rand(2, GEMM_SIZE, GEMM_SIZE)
    out = torch.empty(GEMM_SIZE, GEMM_SIZE)
    seconds = []
    for _ in range(N_PRODUCTS):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(time.perf_counter() - start)
    return n_multiply_adds * min(seconds) / GEMM_SIZE**3


def list_rows(data, client, store, default_threads):
    """The Rows, in the order in which they are shown."""
    author_s, tensors = build_author_s_loaders(), build_tensor_loaders(data)
    forward, both = count_multiply_adds(build_plain_model(), data.train_images[:1] / 255)
    n_products = len(data.train_labels) * both + len(data.test_labels) * forward
    plain = build_plain_model

    def in_memory(model):
        return partial(time_in_memory, model, data)

    def loaded(loaders):
        model = plain()
        return lambda repeat: time_loop(model, *loaders)

    ways = [
        ("plain layers, a bare loop over images in memory", 1, lambda: in_memory(plain())),
        ("lrlib's model in the same loop", 1, lambda: in_memory(lrlib.LeNet5())),
        (OURS, 1, lambda: prepare_backend("torch", client, store)),
        *((AUTHOR_S, n, lambda: loaded(author_s)) for n in sorted({default_threads, 1}, reverse=True)),
        ("plain layers, a DataLoader of tensors", 1, lambda: loaded(tensors)),
        ("Lightning, the same layers and loader", 1, lambda: prepare_lightning(plain(), tensors)),
        ("fastai, the same layers and loader", 1, lambda: prepare_fastai(plain(), tensors)),
        ("JAX, the same layers jitted, images in memory", 1, lambda: prepare_jax(plain(), data)),
        ("Colossal-AI, lrlib's backend", 1, lambda: prepare_backend("colossalai", client, store)),
        (f"GEMM bound: {n_products / 1e9:.1f} billion multiply-adds", 1, lambda: partial(time_gemm_bound, n_products)),
    ]
    rows = []
    for name, threads, prepare in ways:
        try:
            rows.append(Row(name, threads, prepare()))
        except NotInstalledError as err:
            say(f"{name}: {err}")
            rows.append(Row(name, threads, None))
    return rows


def measure_rows(rows, repeats):
    """Seconds of each row's epochs, a list a row; empty for one that cannot run."""
    seconds = [[] for _ in rows]
    for repeat in range(repeats + 1):
        say(f"an epoch of each row: {f'repeat {repeat} of {repeats}' if repeat else 'warming up'}")
        for place in range(len(rows)):
            place = (place + repeat) % len(rows)
            if rows[place].run is None:
                continue
            torch.set_num_threads(rows[place].threads)
            value = rows[place].run(repeat)
            if repeat:
                seconds[place].append(value)
    return seconds


def count_workers(n_cores):
    """1, 2, 4 ... and the number of cores."""
    return [n for n in (2**power for power in range(n_cores.bit_length())) if n < n_cores] + [n_cores]


def measure_scaling(repeats):
    """Number of workers -> epochs a second in each repeat, over EPOCHS_A_WORKER epochs for each worker."""
    rates = {n: [] for n in count_workers(CPU_COUNT)}
    for repeat in range(1, repeats + 1):
        say(f"scaling: repeat {repeat} of {repeats}")
        for n_workers, row in rates.items():
            with tempfile.TemporaryDirectory() as folder, open_client(n_workers) as client:
                train = partial(lrlib.train, store=Store(folder), client=client, progress=False)
                # One epoch each, so that every worker is up and has the dataset.
                train([lrlib.Run(Constant(LR), epochs=1, seed=n, problem=PROBLEM) for n in range(n_workers)])
                runs = [
                    lrlib.Run(Constant(LR), epochs=EPOCHS_A_WORKER, seed=n_workers + n, problem=PROBLEM)
                    for n in range(n_workers)
                ]
                start = time.perf_counter()
                results = train(runs)
                row.append(results.n_computed / (time.perf_counter() - start))
    return rates


def measure_report():
    """A report of one seed from an empty store: its wall seconds, and those of its epochs spread over the workers."""
    say("a report of one seed from an empty store")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "lrlib", "report", "--seeds", "1", "--dataset", DATASET],
            cwd=project_folder(),
            env=os.environ | {"LRLIB_STORE": folder},
            stdout=subprocess.DEVNULL,
        )
        if done.returncode:
            raise SystemExit("the report failed, for the reason above; without --report the rest is measured")
        wall = time.perf_counter() - start
        store = Store(folder)
        epochs = [store.read_values(name) for name in store.list_files()]
    return {
        "wall_seconds": wall,
        "bare_seconds": sum(epoch["train_seconds"] + epoch["test_seconds"] for epoch in epochs) / CPU_COUNT,
        "n_epochs": len(epochs),
        "provenance": read_provenance(build_folder() / "notebooks"),
    }


def read_provenance(notebooks):
    """What a report says of its own time: the row "time" of its table of provenance."""
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("report", {}).get("label") == "provenance":
                    return pd.read_csv(io.StringIO(output.data["text/csv"]), index_col="item").loc["time", "value"]
    raise SystemExit(f"the executed notebooks in {notebooks} hold no table 'provenance'; it is the one with the time")


def describe(found):
    """What was found, in Markdown."""
    rows, scaling, report = found["rows"], found["scaling"], found["report"]
    ours = next(row["seconds"] for row in rows if row["name"] == OURS)
    lines = [
        f"{found['machine']}; torch {found['torch']}, commit {found['commit']}; {found['repeats']} repeats.",
        "",
        "| one epoch of MNIST, training and testing | cores | seconds | least | most | times lrlib's worker |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        shown = "not installed | | |"
        if row["seconds"]:
            ratios = [value / other for value, other in zip(row["seconds"], ours)]
            least, most = min(row["seconds"]), max(row["seconds"])
            shown = f"{statistics.median(row['seconds']):.2f} | {least:.2f} | {most:.2f} | {spread(ratios)}"
        lines.append(f"| {row['name']} | {row['threads']} | {shown} |")
    lines += ["", "| workers | epochs a second | times one worker |", "|--:|--:|--:|"]
    for n_workers, rates in scaling.items():
        speed_ups = [rate / one for rate, one in zip(rates, scaling[1])]
        lines.append(f"| {n_workers} | {spread(rates)} | {spread(speed_ups)} |")
    author_s = next(statistics.median(row["seconds"]) for row in rows if row["name"] == AUTHOR_S)
    n_workers, rates = list(scaling.items())[-1]
    ratio = EPOCHS_OF_THE_AUTHOR * author_s * statistics.median(rates) / EPOCHS_HERE
    words = [
        f"{EPOCHS_OF_THE_AUTHOR} epochs the author's way take {ratio:.1f} times as long as the {EPOCHS_HERE} distinct "
        f"ones among them take here on {n_workers} workers."
    ]
    if report:
        wall, bare = report["wall_seconds"], report["bare_seconds"]
        words.append(
            f"A report of one seed from an empty store: {wall:.0f} s, of which {bare:.0f} s are the bare training of "
            f"its {report['n_epochs']} epochs on {n_workers} workers; all the rest is {100 * (wall / bare - 1):.0f} % "
            f"of that. It says of itself: {report['provenance']}."
        )
    for paragraph in words:
        lines += ["", *textwrap.wrap(paragraph, 120)]
    return "\n".join(lines) + "\n"


def spread(values):
    """Median, least and most in words."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def say(line):
    print(line, file=sys.stderr, flush=True)


def settle_environment():
    """Start this script again, once, to allocate as workers do, on this machine's cores and not on a cluster's."""
    wanted = {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC_")}
    wanted |= {"NPROC": "1", "JAX_PLATFORMS": "cpu"}  # by which JAX takes one thread
    environment = {name: value for name, value in os.environ.items() if name != "DASK_SCHEDULER_ADDRESS"} | wanted
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="make a report of one seed too, and time it")
    parser.add_argument("--publish", action="store_true", help="put the tables into bench/README.md")
    options = parser.parse_args()
    settle_environment()
    readme = project_folder() / "bench" / "README.md"
    if options.publish:
        try:
            fill_block(readme.read_text(encoding="utf-8"), "bench", "")
        except PublishError as err:
            parser.error(str(err))
    warnings.filterwarnings("ignore", module="lightning|fastai|torch")  # on how many processes load data
    report = measure_report() if options.report else None  # first, since of all this it can fail most easily
    with tempfile.TemporaryDirectory() as folder, open_client(1) as client:
        rows = list_rows(load_dataset(DATASET), client, Store(folder), torch.get_num_threads())
        seconds = measure_rows(rows, options.repeats)
    found = {
        "machine": f"{describe_hardware()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "commit": read_origin().describe(digits=12),
        "repeats": options.repeats,
        "rows": [{"name": r.name, "threads": r.threads, "seconds": s} for r, s in zip(rows, seconds)],
        "scaling": measure_scaling(options.repeats),
        "report": report,
    }
    BUILD.mkdir(parents=True, exist_ok=True)
    text = describe(found)
    (BUILD / "training.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (BUILD / "training.md").write_text(text, encoding="utf-8")
    if options.publish:
        write_whole(readme, fill_block(readme.read_text(encoding="utf-8"), "bench", text).encode())
    print(text, end="")


if __name__ == "__main__":
    main()
