"""Parses ``/proc/PID/timens_offsets`` (time_namespaces(7); kernel/time/namespace.c)."""

from __future__ import annotations

import re

from threadwatch.errors import Malformed

_BOOTTIME = re.compile(rb"^(?:boottime|7) +(-?[0-9]{1,18}) +([0-9]{1,9})$", re.MULTILINE)
"""The line of CLOCK_BOOTTIME, whose number is 7: seconds and nanoseconds."""


def parse_boottime_offset(data: bytes) -> int:
    """Return how far CLOCK_BOOTTIME is ahead in a time namespace, in ns.

    :raises Malformed: the line is missing.
    """
    found = _BOOTTIME.search(data)
    if found is None:
        raise Malformed("timens_offsets", f"no line boottime in {data[:400]!r}")
    return int(found[1]) * 1_000_000_000 + int(found[2])
