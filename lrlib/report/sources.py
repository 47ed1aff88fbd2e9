"""What the report is made from: a digest of the project's sources, and the commit that they are of, if of one."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass

from lrlib.project import project_folder

# What decides a report; a notebook that is no section does not.
_PATTERNS = ("lrlib/**/*.py", "lrlib/**/*.csv", "notebooks/*.ipynb", "report/templates/**/*", "report/references.bib")
_REASONS = {
    "not a git repository": "not a git checkout",
    "dubious ownership": "not known, since git does not trust a checkout that belongs to another user; "
    "`git config --global --add safe.directory` and its folder make it",
    "Needed a single revision": "none, a git checkout before its first commit",
}


@dataclass(frozen=True)
class Origin:
    """commit: the whole hash, "" where there is none, and then why_not says why; changed: whether sources or tracked
    files differ from it; digest: sha256 over the sources, whether they are of a commit or not.
    """

    commit: str
    changed: bool
    why_not: str
    digest: str

    def describe(self, digits=40):
        """The commit, its first digits, and whether the files are its own; or why there is none."""
        if not self.commit:
            return self.why_not
        return f"{self.commit[:digits]}, {'with uncommitted changes' if self.changed else 'clean'}"


def read_origin():
    """The Origin of the project's files as they are now."""
    sources = _read_sources()
    digest = hashlib.sha256()
    for name, content in sources.items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    commit, changed, why_not = _find_commit(list(sources))
    return Origin(commit, changed, why_not, digest.hexdigest())


def _read_sources():
    """name -> content of each source, in the order of the names; line ends as git keeps them."""
    root = project_folder()
    contents = {}
    for path in {path for pattern in _PATTERNS for path in root.glob(pattern)}:
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or not path.is_file():
            continue
        try:
            content = path.read_bytes().replace(b"\r\n", b"\n")
        except OSError:
            continue
        if path.suffix != ".ipynb" or _is_section(content):
            contents[path.relative_to(root).as_posix()] = content
    return dict(sorted(contents.items()))


def _is_section(content):
    try:
        return "section" in json.loads(content)["metadata"]["lrlib"]
    except (ValueError, KeyError, TypeError):
        return False


def _find_commit(names):
    """(commit, whether files differ from it, "") of the checkout that tracks the sources, or ("", False, why not)."""
    try:
        commit = _git("rev-parse", "--verify", "HEAD").strip()
        tracked = {}  # name -> hash of its content in the commit
        for entry in _git("ls-tree", "-r", "-z", "HEAD", "--", ".").split("\0")[:-1]:
            about, name = entry.split("\t", 1)
            tracked[name] = about.split()[2]
        n_tracked = len(tracked.keys() & set(names))
        if 2 * n_tracked < len(names):  # a checkout tracks all of them but what is being written
            tracks = f"tracks {n_tracked} of the {len(names)}" if n_tracked else "does not track them"
            return "", False, f"none, the git repository around these files {tracks}"
        # Compared by content: git can be told not to look whether a file has changed.
        above = _git("rev-parse", "--show-prefix").removesuffix("\n")  # which hash-object does not know
        hashes = _git("hash-object", "--stdin-paths", given="".join(f"{above}{name}\n" for name in names)).split()
        changed = any(tracked.get(name) != found for name, found in zip(names, hashes, strict=True))
        changed = changed or bool(_git("status", "--porcelain", "--untracked-files=no", "--", "."))
    except OSError as err:
        return "", False, f"not known, since git cannot be run ({err.strerror or err})"
    except subprocess.CalledProcessError as err:
        said = (err.stderr.strip().splitlines() or ["it says nothing"])[0].removeprefix("fatal: ")
        reasons = (reason for mark, reason in _REASONS.items() if mark in err.stderr)
        return "", False, next(reasons, f"not known, since git cannot read the checkout ({said})")
    return commit, changed, ""


def _git(*arguments, given=""):
    """What git says of the project's folder; of another one that the environment may name it is not asked."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", *arguments], cwd=project_folder(), env=environment, input=given,
        capture_output=True, encoding="utf-8", errors="surrogateescape", check=True,
    ).stdout  # fmt: skip
