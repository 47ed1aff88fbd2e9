"""What a document says of its origin, in copies of the project with repositories of their own, of others, or none."""

import os
import subprocess

import pytest
from conftest import copy_project

from lrlib.report import provenance
from lrlib.report.provenance import read_origin


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def commit_all(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project, two folders down, which is what `read_origin` looks at."""
    (tmp_path / "around").mkdir()
    project = copy_project(tmp_path / "around" / "project")
    monkeypatch.setattr(provenance, "project_folder", lambda: project)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/nowhere")
    return project


def edit(path):
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n")


def read_state(commit):
    """The state of the project's files, which are of this commit."""
    found, _, state = read_origin().describe().partition(", ")
    assert found == commit
    return state


def test_a_checkout_is_named_by_its_commit_and_changes_are_said(project):
    (project / "README.md").write_text("a")
    commit = commit_all(project)
    assert read_origin().describe(digits=12) == f"{commit[:12]}, no uncommitted changes"
    (project / "elsewhere.txt").write_text("not committed, and no source")
    assert read_state(commit) == "no uncommitted changes"
    for name in ("lrlib/schedules.py", "README.md", "notebooks/9-new.ipynb"):
        edit(project / name)
        assert read_state(commit) == "with uncommitted changes"
        git(project, "clean", "-fdq", "notebooks")
        git(project, "checkout", "-q", ".")


@pytest.mark.parametrize("ignored", ["", "project/\n", "project/lrlib/\nproject/report/\n"])
def test_within_another_repository_a_project_is_of_its_commit_if_that_tracks_it(project, ignored):
    (project.parent / ".gitignore").write_text(ignored)
    commit, origin = commit_all(project.parent), read_origin()
    assert origin.commit == ("" if ignored else commit)
    assert origin.describe().startswith("unknown: " if ignored else f"{commit}, no uncommitted changes")


def test_a_work_tree_is_of_its_own_commit_whatever_repository_the_environment_names(project, tmp_path, monkeypatch):
    commit = commit_all(project)
    git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    monkeypatch.setattr(provenance, "project_folder", lambda: tmp_path / "tree")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nothing"))
    assert read_state(commit) == "no uncommitted changes"


@pytest.mark.parametrize("way", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_git_was_told_not_to_look_for_is_seen(project, way):
    commit = commit_all(project)
    git(project, "update-index", way, "lrlib/schedules.py")
    edit(project / "lrlib" / "schedules.py")
    assert read_state(commit) == "with uncommitted changes"


def test_no_git_no_commit_and_no_repository_are_told_apart(project, monkeypatch, tmp_path):
    said = [read_origin().describe()]
    for break_it in (lambda: git(project, "init", "-q"), lambda: (tmp_path / ".gitconfig").write_text("[user\n"),
                     lambda: monkeypatch.setenv("PATH", "")):  # fmt: skip
        break_it()
        said.append(read_origin().describe())
    assert len(set(said)) == 4 and all(words.startswith("unknown: ") for words in said)
