"""``/proc/PID/task/TID/schedstat`` (Documentation/scheduler/sched-stats.rst, fs/proc/base.c)."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed


@dataclass(frozen=True, slots=True)
class SchedStat:
    """What the scheduler has counted for one thread in its life.

    All three are 0 on a kernel that does not collect them (no CONFIG_SCHED_INFO).
    """

    cpu_ns: int
    """Time on a CPU, exact, where stat counts ticks."""
    runqueue_ns: int
    """Time ready to run but without a CPU."""
    timeslices: int
    """How often it was given a CPU."""


def parse_schedstat(data: bytes) -> SchedStat:
    """The three numbers of schedstat, or :class:`Malformed`."""
    try:
        # exactly one newline, at the end: a line without it was cut, perhaps inside a number
        cpu, runqueue, rest = data.split(b" ")
        slices = rest[:-1]
        if rest[-1:] == b"\n" and (cpu + runqueue + slices).isdigit():
            return SchedStat(int(cpu), int(runqueue), int(slices))
    except ValueError:  # not three fields, or one of them is empty
        pass
    raise Malformed("schedstat", f"should be three numbers, not {data[:100]!r}")
