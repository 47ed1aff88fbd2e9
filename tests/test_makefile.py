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
        "report", "report", "--seeds", "5", "--epochs", "it's", "--params", 'a=[1, 2] b="$x,(y" c=\\', "--quick"
    ]  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("report QUICK=0", "report report"),
        ("report QUICK=", "report report"),
        ("study", "report study"),
        ("publish SEEDS=40", "publish report --seeds 40"),
        ("publish NAME=study", "publish study"),
        ("section NAME=2-2 RESULTS=published", "section 2-2 --results published"),
        ("lab RESULTS=none LAB_OPTIONS=--port=9", "lab --results none --port=9"),
        ("verify", "verify"),
        ("bench", ""),  # a script, in a folder of any name
    ],
)
def test_each_target_runs_its_command(folder, words, command):
    assert asked(make(folder, *words.split())) == command.split()


def test_what_stands_in_the_environment_is_not_given_and_said_where_it_could_be_meant(folder):
    done = make(folder, "section", NAME="DESKTOP-1", SEEDS="5", DATASET="x", BACKEND="y", QUICK="1", EPOCHS="a'b")
    assert asked(done)[:1] == ["section"] and "--seeds" not in done.stdout and "DESKTOP" not in done.stdout
    assert done.stderr == (
        "ignored (set as environment variables, not as make arguments): SEEDS EPOCHS DATASET BACKEND QUICK\n"
    )
    assert asked(make(folder, "section", "NAME=2-2", "SEEDS=3", SEEDS="5")) == ["section", "2-2", "--seeds", "3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report SEED=5", "make report does not accept SEED (accepted: PYTHON SEEDS EPOCHS"),
        ("report NAME=2-2", "make report does not accept NAME (accepted: PYTHON SEEDS EPOCHS"),
        ("test QUICK=1", "make test does not accept QUICK (accepted: PYTHON)"),
        ("SEEDS=5", "make help does not accept SEEDS (accepted: PYTHON)"),
        ("report QUICK=maybe", "QUICK must be 1 or 0, got maybe"),
    ],
)
def test_a_variable_that_a_target_does_not_accept_is_refused(folder, words, message):
    done = make(folder, *words.split())
    assert done.returncode == 2 and done.stdout == "" and message in " ".join(done.stderr.split())


def test_settings_of_python_neither_hide_the_project_nor_wait_at_a_prompt(folder):
    python = folder.parent / "python"
    fails = '#!/bin/sh\n[ -z "$PYTHONINSPECT" ] || exit 9\n'
    says = 'echo "<$PYTHONSAFEPATH>" >&2\nfor word'
    python.write_text(python.read_text().replace("#!/bin/sh\n", fails).replace("for word", says))
    assert make(folder, "report", PYTHONSAFEPATH="1", PYTHONINSPECT="1").stderr == "<>\n"


@pytest.fixture
def bare(folder):
    """The folder, with a Python that runs and lacks the packages; what it makes in .venv works."""
    (folder.parent / "python").write_text(
        "#!/bin/sh\ncase $2 in *find_spec*) exit 1;; esac\n" + FAKE.format(status=0).partition("\n")[2]
    )
    return folder


def is_made(done):
    return "making .venv" in done.stderr


def test_the_environment_is_made_once_for_each_content_of_the_lock(bare):
    assert is_made(make(bare, "environment"))
    (bare / ".venv" / "bin" / "python").unlink()
    (bare / ".venv" / "bin" / "python").symlink_to(shutil.which("python3"))
    (bare / ".venv" / "installed").write_text(hashlib.sha256((bare / "requirements.lock").read_bytes()).hexdigest())
    for name in ("pyproject.toml", "requirements.lock", ".venv/installed"):
        for times in (None, (2**31, 2**31), (0, 0)):
            os.utime(bare / name, times)
            assert not is_made(make(bare, "environment")), (name, times)
    (bare / ".venv" / "bin" / "python").unlink()
    (bare / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    assert is_made(make(bare, "environment"))
    (bare / "requirements.lock").write_text("another")
    assert is_made(make(bare, "environment"))


def test_a_link_that_lacks_packages_and_a_python_that_is_too_old_are_refused(bare, tmp_path):
    write_python(tmp_path / "theirs" / "bin" / "python", status=1)
    done = make(bare, "environment", python=tmp_path / "theirs" / "bin" / "python")
    assert done.returncode == 2 and "needs Python 3.11 or newer" in done.stderr
    (bare / ".venv").symlink_to(tmp_path / "theirs")
    done = make(bare, "environment")
    assert done.returncode == 2 and f".venv is a link to {tmp_path / 'theirs'}, which lacks packages" in done.stderr
