"""Parses ``/proc/PID/timens_offsets`` (time_namespaces(7); kernel/time/namespace.c)."""

from __future__ import annotations

import re
from typing import NamedTuple

from threadwatch.errors import Malformed

_LINE = rb"^(?:%b) +(-?[0-9]{1,18}) +([0-9]{1,9})$"
_MONOTONIC = re.compile(_LINE % b"monotonic|1", re.MULTILINE)
_BOOTTIME = re.compile(_LINE % b"boottime|7", re.MULTILINE)
"""The lines of the two clocks, by name or number: seconds and nanoseconds."""


class ClockOffsets(NamedTuple):
    """The time by which the clocks of a time namespace are ahead of the machine's, in ns."""

    monotonic_ns: int = 0
    boottime_ns: int = 0


def parse_clock_offsets(data: bytes) -> ClockOffsets:
    """Return how far the clocks are ahead in a time namespace.

    :raises Malformed: a line is missing.
    """
    return ClockOffsets(
        _offset_ns(_MONOTONIC, "monotonic", data), _offset_ns(_BOOTTIME, "boottime", data)
    )


def _offset_ns(line: re.Pattern[bytes], name: str, data: bytes) -> int:
    found = line.search(data)
    if found is None:
        raise Malformed("timens_offsets", f"no line {name} in {data[:400]!r}")
    return int(found[1]) * 1_000_000_000 + int(found[2])
