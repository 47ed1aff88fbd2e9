import errno
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from lrlib.runs.store import Artefact, Store, StoreError, write_whole

CLAIMER = """
import sys
from lrlib.runs.store import Store
store = Store(sys.argv[1])
print(store.claim("ab12"), flush=True)
input()
"""


@pytest.fixture
def artefact():
    return Artefact(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3, dtype=torch.int64)}, {"x": 0.1, "y": None}
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_what_is_saved_is_loaded_to_the_bit(store, artefact):
    assert store.load("ab12") is None
    store.save("ab12", artefact)
    loaded = store.load("ab12")
    assert loaded.values == artefact.values
    assert loaded.tensors.keys() == artefact.tensors.keys()
    assert all(
        torch.equal(loaded.tensors[k], v) and loaded.tensors[k].dtype == v.dtype for k, v in artefact.tensors.items()
    )


@pytest.mark.parametrize("position", [0, 9, 40, -1, -20])
def test_a_flipped_bit_is_noticed_and_never_returned(store, artefact, position):
    store.save("ab12", artefact)
    content = bytearray(store.path("ab12").read_bytes())
    content[position] ^= 1
    store.path("ab12").write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged and is computed again"):
        assert store.load("ab12") is None


def test_no_flipped_bit_and_no_length_gives_anything_but_what_was_saved(store, artefact):
    store.save("ab12", artefact)
    whole = store.path("ab12").read_bytes()
    n = len(whole)
    flipped = (
        whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :] for place in range(n) for mask in (1, 32)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (*flipped, *(whole[:length] for length in range(n))):
            store.path("ab12").write_bytes(content)
            loaded = store.load("ab12")
            assert loaded is None or (
                loaded.values == artefact.values
                and all(torch.equal(loaded.tensors[name], tensor) for name, tensor in artefact.tensors.items())
            )


def test_a_damaged_file_is_warned_of_once_until_it_is_written_again(store, artefact):
    for _ in range(2):
        store.save("ab12", artefact)
        store.path("ab12").write_bytes(b"")
        with pytest.warns(UserWarning) as warned:
            assert (store.load("ab12"), store.load("ab12")) == (None, None)
        assert len(warned) == 1


def test_a_file_that_may_not_be_read_is_said(store):
    store.path("ab12").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"ab12.safetensors cannot be read \(Is a directory\); let it be read"):
        store.load("ab12")


def test_a_file_that_the_disk_has_lost_counts_as_damaged(store, artefact, monkeypatch):
    store.save("ab12", artefact)

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.load("ab12") is None


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(("fsync", os.fstat(handle).st_size)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_whole(tmp_path / "file", b"new")
    assert calls == [("fsync", 3), "replace"]


def test_a_reader_beside_a_writer_sees_the_old_or_the_new_and_nothing_between(tmp_path):
    path, contents = tmp_path / "file", [b"a" * 300_000, b"b" * 300_000]
    write_whole(path, contents[0])
    writer = threading.Thread(target=lambda: [write_whole(path, contents[i % 2]) for i in range(60)])
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(path.read_bytes())
    assert seen <= set(contents)


def test_what_a_killed_writer_left_is_no_artefact_and_is_listed_apart(store, artefact):
    store.save("ab12", artefact)
    left = store.folder / "ab" / ".ab34.safetensors.00.part"
    left.write_bytes(b"half")
    assert list(store.list_files()) == ["ab12"]
    assert {path: size for path, (size, _) in store.list_parts().items()} == {left: 4}


def test_a_claim_is_had_by_one_process_and_ends_with_it(store):
    store.check_writable()
    command = [sys.executable, "-c", CLAIMER, str(store.folder)]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    assert not store.claim("ab12")
    assert store.claim("ab13")
    other.kill()
    other.communicate()
    assert store.claim("ab12")


def test_where_there_are_no_locks_every_claim_is_had(store, monkeypatch):
    store.check_writable()

    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("lrlib.runs.store.fcntl.lockf", fail)
    assert store.claim("ab12")
    store.release("ab12")


def test_windows_has_no_locks(store, monkeypatch):
    monkeypatch.setattr("lrlib.runs.store.fcntl", None)
    assert store.claim("ab12")
    store.release("ab12")


def test_values_are_read_without_the_tensors(store, artefact):
    store.save("ab12", artefact)
    assert store.read_values("ab12") == artefact.values
    assert store.read_values("ab34") == {}


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
    with pytest.raises(
        StoreError, match=r"cannot be written \(No space left on device\); free space or set LRLIB_STORE"
    ):
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
