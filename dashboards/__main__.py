"""``./dev dashboards``: writes the Grafana dashboards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.files import DIRECTORY, files


def main() -> int:
    """Write each dashboard into the directory; the exit code."""
    parser = argparse.ArgumentParser(prog="./dev dashboards", description=__doc__)
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=DIRECTORY,
        help="where to write them (default: %(default)s)",
        metavar="DIRECTORY",
    )
    directory: Path = parser.parse_args().directory
    if not directory.is_dir():
        parser.error(f"{directory} is no directory")
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
