"""How fast an epoch is: lrlib's worker beside a bare loop, and beside the author's kind of loop.

    python bench/training.py [--repeats 3]

Three ways of training and testing LeNet-5 for one epoch at batch 128, in turn, repeated:

- author's kind: torchvision's dataset with PIL resize for every image, DataLoader, torch's plain layers, all cores;
- bare loop: the images in memory, resized once, lrlib's LeNet5, SGD and nothing else, one core;
- lrlib: an epoch of `lrlib.train` on one worker of a cluster, as the worker itself times it, one core.

Prints a Markdown table: seconds (median, least, most) and the ratio to the bare loop, pair by pair. The last line is what
the author's way would take for its 250 epochs one after another, over the 180 distinct ones that lrlib spreads over all cores.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from dask.system import CPU_COUNT
from torch import nn
from torchvision import transforms

import lrlib
from lrlib.data import find_dataset, load_dataset
from lrlib.engine import open_client
from lrlib.preprocessing import scale_images
from lrlib.schedules import Constant
from lrlib.store import Store
from lrlib.training import epoch_order

BATCH_SIZE, LR = 128, 0.05
EPOCHS_OF_THE_AUTHOR, EPOCHS_HERE = 250, 180


def time_author_s_kind(model, optimizer, loaders):
    """Seconds of one epoch of training and testing with a DataLoader and all cores."""
    torch.set_num_threads(CPU_COUNT)
    start = time.perf_counter()
    for images, labels in loaders[0]:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for images, labels in loaders[1]:
            F.cross_entropy(model(images), labels).item()
    return time.perf_counter() - start


def time_bare_loop(model, optimizer, data, epoch):
    """Seconds of one epoch of training and testing on images in memory, on one core."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    for batch in epoch_order(0, epoch, len(data.train_labels)).split(BATCH_SIZE):
        loss = F.cross_entropy(model(scale_images(data.train_images[batch])), data.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        for images, labels in zip(data.test_images.split(BATCH_SIZE), data.test_labels.split(BATCH_SIZE)):
            F.cross_entropy(model(scale_images(images)), labels).item()
    return time.perf_counter() - start


def time_lrlib(client, folder, repeat):
    """Seconds of one epoch on a worker: an epoch's own time, with a fresh seed so that it is in no store."""
    results = lrlib.train(
        [lrlib.Run(Constant(LR), epochs=1, seed=repeat)], store=Store(folder), client=client, progress=False
    )
    return results.seconds


def build_author_s_kind():
    """Model, optimizer and (train, test) loaders as a notebook of 2022 would have them."""
    root = Path(find_dataset("mnist").source).parent.parent
    pipeline = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    loaders = [
        torch.utils.data.DataLoader(
            torchvision.datasets.MNIST(root, train=train, transform=pipeline), batch_size=BATCH_SIZE, shuffle=train
        )
        for train in (True, False)
    ]
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    return model, build_sgd(model), loaders


def build_sgd(model):
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    theirs, data, model = build_author_s_kind(), load_dataset("mnist"), lrlib.LeNet5()
    optimizer = build_sgd(model)
    seconds = {"author's kind of loop, all cores": [], "bare loop, one core": [], "lrlib's worker, one core": []}
    with tempfile.TemporaryDirectory() as folder, open_client(1) as client:
        for repeat in range(repeats + 1):
            times = (
                time_author_s_kind(*theirs),
                time_bare_loop(model, optimizer, data, repeat + 1),
                time_lrlib(client, folder, repeat),
            )
            if repeat:  # the first round warms up
                for row, value in zip(seconds.values(), times):
                    row.append(value)
    bare = seconds["bare loop, one core"]
    print("| one epoch of training and testing | seconds | least | most | over the bare loop |")
    print("|---|--:|--:|--:|--:|")
    for name, values in seconds.items():
        ratio = statistics.median(value / other for value, other in zip(values, bare))
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} | {ratio:.2f} |")
    author, ours = (statistics.median(values) for values in (list(seconds.values())[0], list(seconds.values())[2]))
    ratio = EPOCHS_OF_THE_AUTHOR * author / (EPOCHS_HERE * ours / CPU_COUNT)
    print(
        f"\n{EPOCHS_OF_THE_AUTHOR} epochs the author's way over {EPOCHS_HERE} of ours on {CPU_COUNT} workers: {ratio:.1f}"
    )


if __name__ == "__main__":
    main()
