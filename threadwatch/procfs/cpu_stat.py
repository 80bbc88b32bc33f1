"""Parses a cgroup's ``cpu.stat`` (Documentation/admin-guide/cgroup-v2.rst; v1: scheduler/sched-bwc.rst)."""

from __future__ import annotations

from typing import Final, NamedTuple

from threadwatch.errors import Malformed

_DIGITS: Final = 20
"""Of the largest number of 64 bits."""


class Throttled(NamedTuple):
    """The CPU time that a limit has withheld from a cgroup."""

    periods: int
    """Periods in which the limit was in force and threads ran; 0: there has been no limit."""
    throttled_ns: int
    """How long runnable threads were kept from their CPUs, summed over CPUs."""


def parse_cpu_stat(data: bytes) -> Throttled:
    """Return what has been throttled, or :class:`Malformed`. Of a cgroup without a limit all is 0.

    cgroup v2 counts microseconds (``throttled_usec``), v1 nanoseconds (``throttled_time``). Without the
    cpu controller v2 has neither.
    """
    found = {}
    for line in data.splitlines():
        name, _, value = line.partition(b" ")
        if not value.isdigit() or len(value) > _DIGITS:
            raise Malformed("cpu.stat", f"should be NAME NUMBER, not {line[:100]!r}")
        found[name] = int(value)
    v1 = found.get(b"throttled_time", 0)
    return Throttled(found.get(b"nr_periods", 0), v1 or 1000 * found.get(b"throttled_usec", 0))
