"""The console script `lrlib`, and `python -m lrlib`."""

import sys


def main() -> int:
    """Run the command that is named, importing only what it needs. Returns the exit status."""
    if sys.argv[1:2] == ["suggest"]:
        from lrlib.peers.suggest_command import main as suggest

        return suggest(sys.argv[2:])
    if sys.argv[1:2] == ["lab"]:
        from lrlib.report.lab import open_lab

        return open_lab(sys.argv[2:])
    try:
        from lrlib.report.surroundings import SurroundingsError, settle

        try:
            settle()  # before anything else is imported
        except SurroundingsError as err:
            print(f"lrlib: {err}", file=sys.stderr)
            return err.status
        from lrlib.report.command_line import main as make

        return make()
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == "lrlib":
            raise
        missing = f"the report needs {err.name}, which is not installed; pip install 'lrlib[report]'"
        print(f"lrlib: {missing}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
