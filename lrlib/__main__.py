"""`python -m lrlib`."""

import sys

from lrlib.report.command_line import main

if __name__ == "__main__":
    sys.exit(main())
