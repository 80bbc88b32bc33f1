"""Parses ``/proc/PID/task/TID/schedstat`` (Documentation/scheduler/sched-stats.rst, fs/proc/base.c)."""

from __future__ import annotations

from threadwatch.errors import Malformed

SchedStat = tuple[int, int, int]
"""The scheduler's counts of one thread's life: time on a CPU in ns (exact, where stat counts
ticks), time ready to run but without a CPU in ns, and how often it was given a CPU. All three are 0
on a kernel that does not collect them (no CONFIG_SCHED_INFO). A plain tuple, because one is made
for each thread that runs in each poll."""


def parse_schedstat(data: bytes) -> SchedStat:
    """Return the three numbers of schedstat, or :class:`Malformed`."""
    try:
        # Exactly one newline, at the end: a line without it was cut, perhaps inside a number.
        cpu, runqueue, rest = data.split(b" ")
        slices = rest[:-1]
        if rest[-1:] == b"\n" and (cpu + runqueue + slices).isdigit():
            return int(cpu), int(runqueue), int(slices)
    except ValueError:  # not three fields, or one of them is empty
        pass
    raise Malformed("schedstat", f"should be three numbers, not {data[:100]!r}")
