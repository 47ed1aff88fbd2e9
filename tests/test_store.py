import errno
import os

import pytest
import torch

from lrlib.store import Artefact, Store, StoreError, write_whole


@pytest.fixture
def artefact():
    return Artefact({"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3, dtype=torch.int64)}, {"x": 0.1, "y": None})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_what_is_saved_is_loaded_to_the_bit(store, artefact):
    assert store.load("ab12") is None
    store.save("ab12", artefact)
    loaded = store.load("ab12")
    assert loaded.values == artefact.values
    assert loaded.tensors.keys() == artefact.tensors.keys()
    assert all(torch.equal(loaded.tensors[k], v) and loaded.tensors[k].dtype == v.dtype for k, v in artefact.tensors.items())


@pytest.mark.parametrize("position", [0, 9, 40, -1, -20])
def test_a_flipped_bit_anywhere_is_noticed_and_never_returned(store, artefact, position):
    store.save("ab12", artefact)
    content = bytearray(store.path("ab12").read_bytes())
    content[position] ^= 1
    store.path("ab12").write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged and is computed again"):
        assert store.load("ab12") is None


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_noticed(store, artefact, length):
    store.save("ab12", artefact)
    store.path("ab12").write_bytes(store.path("ab12").read_bytes()[:length])
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.load("ab12") is None


def test_a_full_disk_is_said_and_leaves_nothing_behind(store, artefact, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); free space or set LRLIB_STORE"):
        store.save("ab12", artefact)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_made_is_said_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "store").check_writable()


def test_an_interrupted_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
