"""`python -m lrlib`."""

import sys


def main() -> int:
    """Run the command that is named, importing only what it needs."""
    if sys.argv[1:2] == ["suggest"]:
        from lrlib.peers.suggest_command import main as suggest

        return suggest(sys.argv[2:])
    from lrlib.report.command_line import main as make

    return make()


if __name__ == "__main__":
    sys.exit(main())
