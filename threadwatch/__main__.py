"""Runs the command line: ``python -m threadwatch``."""

import sys

from threadwatch.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
