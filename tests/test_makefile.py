"""What make passes on, what it refuses, and which environment it makes: a Python here only says what it was asked."""

import hashlib
import os
import shutil
import subprocess

import pytest

FAKE = """#!/bin/sh
[ "$1" = -c ] && exit {status}
[ "$2" = pip ] && exit 0
if [ "$2" = venv ]; then rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi
for word; do printf '<%s>\\n' "$word"; done
"""


@pytest.fixture
def folder(tmp_path, root):
    """A folder with the Makefile, and a Python that has all packages and prints the words of its command."""
    folder = tmp_path / 'a "b" $c'
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, folder / name)
    write_python(tmp_path / "python", status=0)
    return folder


def write_python(path, *, status):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.format(status=status))
    path.chmod(0o755)


def make(folder, *words, python=None, **variables):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | variables
    python = f"PYTHON={python or folder.parent / 'python'}"
    return subprocess.run(["make", *words, python], cwd=folder, env=environment, capture_output=True, text=True)


def asked(done):
    assert done.returncode == 0, done.stderr
    return [line[1:-1] for line in done.stdout.splitlines() if line.startswith("<")][2:]


def test_what_is_given_reaches_the_command_word_by_word(folder):
    done = make(folder, "report", "SEEDS=5", "EPOCHS=it's", 'PARAMS=a=[1, 2] b="$x,(y" c=\\', "QUICK=1")
    assert asked(done) == [
        "report", "--seeds", "5", "--epochs", "it's", "--params", 'a=[1, 2] b="$x,(y" c=\\', "--quick"
    ]  # fmt: skip
    assert done.stderr == ""


def test_seeds_by_need_and_their_limit_reach_the_command(folder):
    done = make(folder, "publish", "SEEDS=auto", "MAX_SEEDS=30")
    assert asked(done) == ["publish", "--seeds", "auto", "--max-seeds", "30"]


def test_what_stands_in_the_environment_is_not_given_and_said_where_it_could_be_meant(folder):
    done = make(folder, "section", NAME="DESKTOP-1", SEEDS="5", DATASET="x", BACKEND="y", QUICK="1", EPOCHS="a'b")
    assert asked(done)[:1] == ["section"] and "--seeds" not in done.stdout and "DESKTOP" not in done.stdout
    assert done.stderr == (
        "not used because of standing in the environment and not after make: SEEDS EPOCHS DATASET BACKEND QUICK\n"
    )
    assert asked(make(folder, "section", "NAME=2-2", "SEEDS=3", SEEDS="5")) == ["section", "2-2", "--seeds", "3"]


@pytest.mark.parametrize("word", ["SEED=5", "seeds=5", "EPOCH=5"])
def test_a_variable_that_there_is_not_is_refused(folder, word):
    done = make(folder, "report", word)
    assert done.returncode == 2 and done.stdout == ""
    assert f"there is no {word.partition('=')[0]} to give; there are NAME SEEDS MAX_SEEDS EPOCHS" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "NAME=2-2"], "make report takes no NAME; it takes SEEDS MAX_SEEDS EPOCHS"),
        (["test", "QUICK=1"], "make test takes no QUICK; it takes PYTHON alone"),
        (["SEEDS=5"], "make help takes no SEEDS; it takes PYTHON alone"),
    ],
)
def test_a_variable_that_a_goal_does_not_look_at_is_refused(folder, words, message):
    done = make(folder, *words)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr


@pytest.mark.parametrize("off", ["no", "0", "false", "off", ""])
def test_a_switch_can_be_turned_off_in_words(folder, off):
    assert asked(make(folder, "report", f"QUICK={off}")) == ["report"]


@pytest.mark.parametrize("on", ["yes", "1", "true", "on"])
def test_a_switch_can_be_turned_on_in_words(folder, on):
    assert asked(make(folder, "report", f"QUICK={on}")) == ["report", "--quick"]


def test_a_switch_that_is_neither_is_refused(folder):
    assert "QUICK must be 1 or 0, got maybe" in make(folder, "report", "QUICK=maybe").stderr


def test_a_python_that_is_told_not_to_look_where_it_is_finds_the_project(folder):
    python = folder.parent / "python"
    python.write_text(python.read_text().replace("for word", 'echo "<$PYTHONSAFEPATH>" >&2\nfor word'))
    assert make(folder, "report", PYTHONSAFEPATH="1").stderr == "<>\n"


def test_a_python_that_is_told_to_wait_at_a_prompt_when_it_is_done_is_not(folder):
    python = folder.parent / "python"
    waits = 'if [ "$PYTHONINSPECT" ]; then echo "waits: $*" >&2; exit 9; fi\n'
    python.write_text(python.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{waits}"))
    assert asked(make(folder, "report", PYTHONINSPECT="1")) == ["report"]


def test_lab_and_bench_run_in_a_folder_of_any_name(folder):
    assert asked(make(folder, "lab", "LAB_OPTIONS=--allow-root --port=9")) == ["lab", "--allow-root", "--port=9"]
    assert make(folder, "bench").returncode == 0


@pytest.fixture
def bare(folder, monkeypatch):
    """The folder, with a Python that runs and lacks the packages; what it makes in .venv works."""
    (folder.parent / "python").write_text(
        "#!/bin/sh\ncase $2 in *find_spec*) exit 1;; esac\n" + FAKE.format(status=0).partition("\n")[2]
    )
    return folder


def is_made(done):
    return "making .venv" in done.stderr


def real_venv(folder, stamp):
    """A .venv with a real Python, and a stamp."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(shutil.which("python3"))
    (folder / ".venv" / "installed").write_text(stamp)


def test_the_environment_is_made_once_for_each_content_of_the_lock(bare):
    assert is_made(make(bare, "environment"))
    digest = hashlib.sha256((bare / "requirements.lock").read_bytes()).hexdigest()
    shutil.rmtree(bare / ".venv")
    real_venv(bare, digest)
    future = (2**31, 2**31)
    for name in ("pyproject.toml", "requirements.lock", ".venv/installed"):
        for times in (None, future, (0, 0)):
            os.utime(bare / name, times)
            assert not is_made(make(bare, "environment")), (name, times)
    (bare / "requirements.lock").write_text("another")
    assert is_made(make(bare, "environment"))


def test_an_environment_of_which_only_the_date_was_kept_is_taken_as_it_is(bare):
    real_venv(bare, "")
    assert not is_made(make(bare, "environment"))
    os.utime(bare / ".venv" / "installed", (0, 0))
    assert is_made(make(bare, "environment"))


def test_an_environment_whose_python_is_gone_is_made_again(bare):
    real_venv(bare, hashlib.sha256((bare / "requirements.lock").read_bytes()).hexdigest())
    (bare / ".venv" / "bin" / "python").unlink()
    (bare / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    assert is_made(make(bare, "environment"))


def test_an_environment_that_is_a_link_and_lacks_packages_is_not_made_over(bare, tmp_path):
    (tmp_path / "theirs").mkdir()
    write_python(tmp_path / "theirs" / "bin" / "python", status=1)
    (bare / ".venv").symlink_to(tmp_path / "theirs")
    done = make(bare, "environment")
    assert done.returncode == 2 and f".venv is a link to {tmp_path / 'theirs'}, which lacks packages" in done.stderr


def test_a_python_that_is_too_old_is_said(bare, tmp_path):
    write_python(tmp_path / "old", status=1)
    done = make(bare, "environment", python=tmp_path / "old")
    assert done.returncode == 2 and f"{tmp_path / 'old'} is no Python of 3.11 or newer" in done.stderr
