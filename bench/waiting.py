"""How long a person waits where nothing is trained: for an import, for a second report, for one section again.

    python bench/waiting.py [--repeats 10] [--before COMMIT] [--publish]

Import: fresh processes in turn, `import lrlib` and its range test against `import torch`. Report and section: commands that find every epoch in
the store, which is filled first; with --before the same of another commit of this checkout, in turn, in the same
environment. Prints a table, and with --publish puts it between the lines <!-- waiting --> and <!-- /waiting --> of
bench/README.md. Needs a quiet machine; some minutes, and each version's training besides where its store is empty.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lrlib.project import data_folders, project_folder, store_folder
from lrlib.report.provenance import describe_hardware
from lrlib.report.publish import fill_block
from lrlib.runs.store import write_whole

IMPORTS = {"import torch": "import torch", "import lrlib; lrlib.range_test": "import lrlib; lrlib.range_test"}
COMMANDS = {"a second report": ["report", "--seeds", "1"], "a section again": ["section", "2-2"]}
COMMAND_REPEATS = 3


def measure(command, project, store):
    """Seconds of wall time of Python with these arguments in a checkout. Raises CalledProcessError where it fails."""
    environment = os.environ | {"PYTHONPATH": str(project), "LRLIB_STORE": str(store)}
    environment["LRLIB_DATA"] = str(next(folder for folder in data_folders() if folder.is_dir()))
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=project, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def measure_in_turn(cases, repeats):
    """label -> seconds of each repeat. cases: label -> (command, project, store), all of one repeat before the next."""
    seconds = {label: [] for label in cases}
    for repeat in range(repeats + 1):
        for label, case in cases.items():
            value = measure(*case)
            if repeat:  # the first fills caches and the store
                seconds[label].append(value)
            print(f"{label}: {value:.2f} s{'' if repeat else ' (not counted)'}", file=sys.stderr, flush=True)
    return seconds


def describe(title, seconds):
    """A Markdown table: a row a label, with its median, least and most, and its ratio to the first."""
    lines = [f"| {title} | seconds | least | most | times the first |", "|---|--:|--:|--:|--:|"]
    first = next(iter(seconds.values()))
    for label, values in seconds.items():
        ratio = statistics.median(value / other for value, other in zip(values, first, strict=True))
        lines.append(
            f"| {label} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} | {ratio:.2f} |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10, help="fresh processes of each import")
    parser.add_argument("--before", metavar="COMMIT", help="a commit to measure beside this checkout")
    parser.add_argument("--publish", action="store_true", help="put the table into bench/README.md")
    options = parser.parse_args()
    project, store = project_folder(), store_folder()
    imports = {label: (["-c", code], project, store) for label, code in IMPORTS.items()}
    commands = {f"{label}": (["-m", "lrlib", *words], project, store) for label, words in COMMANDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        if options.before:
            before = Path(folder) / "before"
            git = ["git", "-C", str(project), "worktree"]
            subprocess.run([*git, "add", "--quiet", "--detach", str(before), options.before], check=True)
            named = f"{{}}, at {options.before}"
            imports |= {named.format(label): (case[0], before, store) for label, case in imports.items() if "lrlib" in label}
            commands |= {named.format(label): (case[0], before, store) for label, case in commands.items()}
        try:
            tables = [
                describe("a fresh process", measure_in_turn(imports, options.repeats)),
                describe("all in the store", measure_in_turn(commands, COMMAND_REPEATS)),
            ]
        finally:
            if options.before:
                subprocess.run([*git, "remove", "--force", str(before)], check=True)
    text = "\n".join([f"{describe_hardware()}.", "", *tables[0], "", *tables[1], ""])
    print(text)
    if options.publish:
        readme = project / "bench" / "README.md"
        write_whole(readme, fill_block(readme.read_text(encoding="utf-8"), "waiting", text).encode())


if __name__ == "__main__":
    main()
