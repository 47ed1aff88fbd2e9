"""The console script `lrlib`, and `python -m lrlib`."""

import sys

from lrlib.project import project_folder

# What --help says where the report's packages, and so the list of its commands, are not installed.
WITHOUT_THE_REPORT = """\
usage: lrlib suggest FILE [FILE ...]

  suggest  a learning rate from range tests in CSV files, any tool's (lrlib suggest --help)

The report's commands are made in a checkout of lrlib, with what pip install 'lrlib[report]' brings."""


def main() -> int:
    """Run the command that is named, importing only what it needs. Returns the exit status."""
    if sys.argv[1:2] == ["suggest"]:
        from lrlib.peers.suggest_command import main as suggest

        return suggest(sys.argv[2:])
    if sys.argv[1:2] == ["lab"]:
        from lrlib.report.lab import open_lab

        return open_lab(sys.argv[2:])
    try:
        from lrlib.report.environment import settle

        settle()  # before anything else is imported
        from lrlib.report.command_line import main as make

        return make()
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == "lrlib":
            raise
        if sys.argv[1:] in ([], ["-h"], ["--help"]):
            print(WITHOUT_THE_REPORT)
            return 0
        missing = f"the report needs {err.name}, which is not installed; pip install 'lrlib[report]'"
        where = "" if (project_folder() / "notebooks").is_dir() else ", and run this in a checkout of lrlib"
        print(f"lrlib: {missing}{where}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
