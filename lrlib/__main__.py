"""The console script `lrlib`, and `python -m lrlib`."""

import difflib
import sys

from lrlib import __version__
from lrlib.project import project_folder

COMMANDS = {
    "suggest": "suggest a learning rate from saved range tests",
    "report": "train, execute the notebooks, and write page and PDF",
    "section": "run one section of the report anew",
    "publish": "make the report and copy it to report/",
    "verify": "train a sample of the published epochs and compare",
    "store": "list or prune the cache of trained epochs",
    "lab": "open the notebooks in JupyterLab",
}
USAGE = """\
usage: lrlib COMMAND ... (lrlib COMMAND --help describes it)

{}

All but suggest need a checkout of lrlib and pip install 'lrlib[report]'."""


def main() -> int:
    """Run a command, importing only what it needs. Returns the exit status."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        print(USAGE.format("\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())))
        return 0
    if command == "--version":
        print(f"lrlib {__version__}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        print(f"lrlib: unknown command {command!r}; {hint}", file=sys.stderr)
        return 2
    if command == "suggest":
        from lrlib.peers.suggest_command import main as suggest

        return suggest(sys.argv[2:])
    if command == "verify":
        from lrlib.runs.verify import main as verify

        return verify(sys.argv[2:])
    if command == "lab":
        from lrlib.report.environment import open_lab

        return open_lab(sys.argv[2:])
    try:
        from lrlib.report.environment import settle

        settle()  # before anything else is imported
        from lrlib.report.command_line import main as make

        return make()
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == "lrlib":
            raise
        missing = f"the report needs {err.name}, which is not installed; pip install 'lrlib[report]'"
        where = "" if (project_folder() / "notebooks").is_dir() else ", and run this in a checkout of lrlib"
        print(f"lrlib: {missing}{where}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
