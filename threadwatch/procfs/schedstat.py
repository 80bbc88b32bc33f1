"""Parses ``/proc/PID/task/TID/schedstat`` (Documentation/scheduler/sched-stats.rst, fs/proc/base.c)."""

from __future__ import annotations

from threadwatch.errors import Malformed


def parse_schedstat(data: bytes) -> tuple[int, int, int]:
    """Return the scheduler's three counts of one thread's life, or :class:`Malformed`.

    They are time on a CPU in ns (exact, where stat counts ticks), time ready to run but without a CPU in
    ns, and how often the thread was given a CPU; all 0 on a kernel that does not collect them (no
    CONFIG_SCHED_INFO). A plain tuple, because one is made for each thread that runs in each poll.
    """
    try:
        # Exactly one newline, at the end: a line without it was cut, perhaps inside a number.
        cpu, runqueue, rest = data.split(b" ")
        slices = rest[:-1]
        if rest[-1:] == b"\n" and (cpu + runqueue + slices).isdigit():
            return int(cpu), int(runqueue), int(slices)
    except ValueError:  # not three fields, or one of them is empty
        pass
    raise Malformed("schedstat", f"should be three numbers, not {data[:100]!r}")
