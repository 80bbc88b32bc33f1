"""``python -m threadwatch``."""

import sys

from threadwatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
