"""Write the dashboards: ``python -m dashboards [DIRECTORY]``."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.files import DIRECTORY, files


def main(arguments: list[str]) -> int:
    """Write each dashboard into the directory; the exit code."""
    directory = Path(arguments[0]) if arguments else DIRECTORY
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
