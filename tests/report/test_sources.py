"""What a report says of its origin, in copies of the project with git repositories of their own, of others, or none."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import copy_project

from lrlib.report import sources
from lrlib.report.sources import read_origin


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=a person", "-c", "user.email=a@person"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def commit_all(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return git(folder, "rev-parse", "HEAD")


def commit_all_of_nothing(folder):
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "nothing")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project, two folders down, which is what `read_origin` looks at."""
    (tmp_path / "around").mkdir()
    project = copy_project(tmp_path / "around" / "project")
    monkeypatch.setattr(sources, "project_folder", lambda: project)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/nowhere")
    return project


def edit(project, name="lrlib/problems/lenet.py"):
    path = project / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


def test_a_checkout_is_named_by_its_commit_and_an_edit_is_said(project):
    commit = commit_all(project)
    clean = read_origin()
    assert clean.describe() == f"{commit}, clean"
    assert clean.describe(digits=12) == f"{commit[:12]}, clean"
    edit(project)
    assert read_origin().describe(digits=12) == f"{commit[:12]}, with uncommitted changes"
    assert read_origin().digest != clean.digest


def test_a_project_in_a_folder_of_a_repository_that_tracks_it_is_of_its_commit(project):
    commit = commit_all(project.parent)
    assert read_origin().describe() == f"{commit}, clean"


def test_an_archive_unpacked_in_another_repository_is_not_of_its_commit(project):
    (project.parent / ".gitignore").write_text("project/\n")
    commit_all(project.parent)
    origin = read_origin()
    assert (origin.commit, origin.describe()) == (
        "",
        "none, the git repository around these files does not track them",
    )
    assert len(origin.digest) == 64
    edit(project)
    assert read_origin().digest != origin.digest


def test_an_archive_of_which_another_repository_tracks_a_part_is_not_of_its_commit(project):
    (project.parent / ".gitignore").write_text("project/lrlib/\nproject/report/\n")
    commit_all(project.parent)
    said = read_origin().describe()
    assert re.fullmatch(r"none, the git repository around these files tracks \d+ of the \d+", said), said


def test_a_checkout_in_a_work_tree_or_a_submodule_is_of_its_own_commit(project, tmp_path, monkeypatch):
    commit = commit_all(project)
    git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    (tmp_path / "whole").mkdir()
    commit_all_of_nothing(tmp_path / "whole")
    git(tmp_path / "whole", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project), "sub")
    for place in (tmp_path / "tree", tmp_path / "whole" / "sub"):
        monkeypatch.setattr(sources, "project_folder", lambda place=place: place)
        assert read_origin().describe() == f"{commit}, clean"


def test_a_configuration_of_git_s_that_cannot_be_read_is_said(project, tmp_path):
    commit_all(project)
    (tmp_path / ".gitconfig").write_text("[user\n")
    said = read_origin().describe()
    assert re.fullmatch(r"not known, since git cannot read the checkout \(bad config line 1 in file .*\)", said), said


def test_another_repository_that_the_environment_names_is_left_alone(project, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    commit_all(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert read_origin().describe() == "not a git checkout"
    commit = commit_all(project)
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert read_origin().describe() == f"{commit}, clean"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files to others")
def test_a_checkout_of_another_user_is_said_to_be_one(project):
    commit_all(project)
    for path in (project, project / ".git"):
        os.chown(path, 12345, 12345)
    origin = read_origin()
    assert origin.commit == ""
    assert "belongs to another user; `git config --global --add safe.directory`" in origin.describe()


@pytest.mark.parametrize("way", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_git_was_told_not_to_look_for_is_seen(project, way):
    commit_all(project)
    git(project, "update-index", way, "lrlib/problems/lenet.py")
    edit(project)
    assert read_origin().changed


def test_a_section_that_is_not_committed_is_a_change_and_a_notebook_that_is_no_section_is_none(project):
    commit_all(project)
    (project / "notebooks" / "Untitled.ipynb").write_text('{"cells": [], "metadata": {}}')
    (project / "notebooks" / "broken.ipynb").write_text("<<<<<<< HEAD")
    before = read_origin()
    assert not before.changed
    section = (project / "notebooks" / "2-1-no-scheduling.ipynb").read_bytes()
    (project / "notebooks" / "2-5-mine.ipynb").write_bytes(section)
    assert read_origin().changed
    assert read_origin().digest != before.digest


def test_a_change_of_what_is_no_source_is_said_too_and_is_not_in_the_digest(project):
    (project / "README.md").write_text("one")
    commit_all(project)
    before = read_origin()
    (project / "README.md").write_text("two")
    assert read_origin().changed and read_origin().digest == before.digest


def test_line_ends_do_not_change_the_digest(project):
    before = read_origin().digest
    path = project / "lrlib" / "problems" / "lenet.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_origin().digest == before


def test_no_git_no_commit_and_no_repository_are_told_apart(project, monkeypatch):
    assert read_origin().describe() == "not a git checkout"
    git(project, "init", "-q")
    assert read_origin().describe() == "none, a git checkout before its first commit"
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    assert read_origin().describe().startswith("not known, since git cannot be run")
