"""What the daemon exposes for the sample view, kept as files: a change of it shows in the diff.

To write them anew after a change that is meant: ``python -m tests.golden.regenerate``.
"""

from __future__ import annotations

from pathlib import Path

from tests.views import sample
from threadwatch.exporter import BuildInfo, collect
from threadwatch.exposition import Format, encode

DIRECTORY = Path(__file__).parent
BUILD = BuildInfo("1.2.3", "0123456789abcdef", "3.11.9", "cpython")
FILES = {
    DIRECTORY / "metrics.txt": Format.TEXT,
    DIRECTORY / "metrics.openmetrics.txt": Format.OPENMETRICS,
}


def exposition(form: Format) -> bytes:
    """The sample view in that format, without the daemon's own process, whose values are never the same."""
    return encode(collect(sample(), BUILD), form)


def main() -> None:
    """Write all files."""
    for path, form in FILES.items():
        path.write_bytes(exposition(form))
        print(path)


if __name__ == "__main__":
    main()
