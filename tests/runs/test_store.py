import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import filelock
import pytest
import torch
from conftest import ROOT

from lrlib.runs.store import Artefact, Store, StoreError, encode, write_whole

NAME = "ab12"


@pytest.fixture
def artefact():
    tied = torch.arange(6.0).reshape(2, 3)
    return Artefact(
        {"a": tied, "b": torch.tensor(3), "c": torch.tensor([1.5, float("nan")]).bfloat16(), "tied": tied},
        {"x": 0.1, "y": None},
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def is_the_same(found, expected):
    return found.values == expected.values and all(
        found.tensors[name].dtype == tensor.dtype
        and torch.equal(found.tensors[name].view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
        for name, tensor in expected.tensors.items()
    )


def test_saved_tensors_are_loaded_bit_for_bit_whatever_their_dtype_and_tied_ones_too(store, artefact):
    assert store.load(NAME) is None
    store.save(NAME, artefact)
    assert is_the_same(store.load(NAME), artefact)
    left = store.folder / ".ab34.safetensors.00.part"  # of a killed writer
    left.write_bytes(b"half")
    assert list(store.list_files()) == [NAME]
    assert {path: size for path, (size, _) in store.list_parts().items()} == {left: 4}


@pytest.mark.filterwarnings("ignore:.* is damaged")
def test_no_flipped_bit_and_no_length_gives_anything_but_what_was_saved(store, artefact):
    store.save(NAME, artefact)
    whole = store.path(NAME).read_bytes()
    for place in range(len(whole)):
        before, byte, after = whole[:place], whole[place], whole[place + 1 :]
        for content in (before, before + bytes([byte ^ 1]) + after, before + bytes([byte ^ 32]) + after):
            store.path(NAME).write_bytes(content)
            assert store.load(NAME) is None


def with_header(header):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,
        with_header(b"[" * 100_000),
        with_header([]),
        with_header({}),
        with_header({"__metadata__": []}),
        with_header({"__metadata__": {"sha256": 3, "values": "{}"}}),
        with_header({"__metadata__": {"sha256": "", "values": "{}"}}),
        encode("another name", Artefact({}, {})),
    ],
)
def test_a_foreign_file_is_warned_of_and_counts_as_absent(store, artefact, content):
    store.save(NAME, content)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.load(NAME) is None
    store.save(NAME, artefact)
    assert is_the_same(store.load(NAME), artefact)


@pytest.mark.filterwarnings("ignore:.* is damaged")
def test_a_file_of_another_version_counts_as_absent(store, artefact, monkeypatch):
    store.save(NAME, artefact)
    monkeypatch.setattr("lrlib.runs.store.VERSION", 2)
    assert store.load(NAME) is None


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EIO, UserWarning), (errno.ESTALE, None), (errno.ENOENT, None), (errno.EACCES, StoreError)],
)
@pytest.mark.filterwarnings("error")
def test_what_the_disk_reports_is_absent_damaged_or_an_error(store, artefact, monkeypatch, number, expected):
    def fail(_):
        raise OSError(number, os.strerror(number))

    store.save(NAME, artefact)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(expected, match="is damaged|make it readable") if expected else contextlib.nullcontext():
        assert store.load(NAME) is None


def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(("fsync", os.fstat(handle).st_size)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_whole(tmp_path / "file", b"new")
    assert calls == [("fsync", 3), "replace"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_write_that_is_broken_off_keeps_the_old_content_and_leaves_nothing(store, artefact, monkeypatch, error):
    store.save(NAME, artefact)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt):
        store.save(NAME, Artefact({}, {}))
    assert [path.name for path in store.folder.iterdir()] == [store.path(NAME).name]
    assert is_the_same(store.load(NAME), artefact)


def test_the_lock_is_held_by_one_process_and_ends_with_it(store, capfd):
    code = "from lrlib.runs.store import Store\n"
    code += f"with Store({str(store.folder)!r}).lock():\n  print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "1\n"
    threading.Timer(0.5, other.kill).start()
    with store.lock():
        assert other.wait() < 0
    assert "another process trains" in capfd.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_used_without(store, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with store.lock():
        pass


def test_a_store_that_cannot_be_made_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"), Store(tmp_path / "file" / "store").lock():
        pass


# Another user: as root, this process becomes one.
AS_ANOTHER = """
import os
from lrlib.runs.store import Artefact, Store, StoreError
os.setgroups([{group}]); os.setgid({group}); os.setuid(65534)
store = Store({folder!r})
assert store.load("ab12").values == {{"by": "first"}}
try:
    with store.lock():
        store.save("ab12", Artefact({{}}, {{"by": "second"}}))
        store.save("ab34", Artefact({{}}, {{"by": "second"}}))
except StoreError as err:
    print(err)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o2775, 0o755])
def test_another_user_shares_the_store_if_its_folder_lets_the_group_write_and_is_told_otherwise(mode):
    group, umask = 12345, os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory() as parent:  # pytest's own folders are closed to others
            os.chmod(parent, 0o755)
            store = Store(Path(parent) / "store")
            store.folder.mkdir()
            os.chown(store.folder, -1, group)
            os.chmod(store.folder, mode)
            with store.lock():
                store.save("ab12", Artefact({}, {"by": "first"}))
            code = AS_ANOTHER.format(group=group, folder=str(store.folder))
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
            shared = mode == 0o2775
            assert done.stdout.count("cannot be written (Permission denied)") == (not shared)
            assert store.load("ab12").values == {"by": "second" if shared else "first"}
            assert store.list_files().keys() == ({"ab12", "ab34"} if shared else {"ab12"})
            with store.lock():
                store.save("ab34", Artefact({}, {"by": "first"}))
    finally:
        os.umask(umask)
