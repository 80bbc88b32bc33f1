"""Defines what is seen of the loops that run user-level threads: tasks and greenlets on one kernel thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, get_args

LoopKind = Literal["asyncio", "uvloop", "trio", "gevent"]
"""The library that runs the loop. ``asyncio`` is its own loop, in Python."""

LOOP_KINDS: tuple[LoopKind, ...] = get_args(LoopKind)

LOOP = "(loop)"
"""The task name that is charged with what the loop itself does, between its tasks and callbacks."""
UNKNOWN = "(unknown)"
"""The task name that is charged where a look could not tell what has the loop."""
CALLBACK = "(callback) "
"""What the name of a callback that belongs to no task begins with; its qualified name follows."""
NO_LOOP = "(no loop)"
"""The task name that is charged while a thread that has run a loop runs none."""


class LoopSample(NamedTuple):
    """The state of one thread's loop at one moment."""

    tid: int
    """The thread that runs it, in the process's own PID namespace."""
    kind: LoopKind
    holder: str | None
    """What has the loop: the explicit name of a task, else the qualified name of its coroutine; or one of the
    names above. None: the loop waits for events, or asks for them."""
    function: str | None
    """The outermost function of the application under that task, as ``module.qualname``; None: there is none,
    or it was not asked for."""
    age_ns: int | None
    """Time since the loop came back from its selector: what an event that arrives now has to wait at
    least. 0 while it waits for events; None: not known."""
    ready: int | None
    """Callbacks that are ready to be run; None: not known."""
    woken: bool = False
    """The memory does not say whether the loop has come back from its selector: it may have been woken there
    and wait for a CPU. :attr:`holder` is the loop itself then, which is right if the thread is on a CPU."""
    iteration: int | None = None
    """The number of the iteration that runs, where the loop counts them, and the memory does not say when it
    began: :attr:`age_ns` is the least that it can be. None: the age is right, or not known."""


class TaskCount(NamedTuple):
    """The living tasks of one thread that share a name."""

    ready: int
    """Those that run or can run."""
    waiting: int
    """Those that wait for a future."""


class Census(NamedTuple):
    """All tasks of one thread's loop that are not done, by name as in :attr:`LoopSample.holder`."""

    tid: int
    kind: LoopKind
    counts: dict[str, TaskCount]


class Ran(IntEnum):
    """Whether a thread ran when its loop was looked at."""

    NO = 0
    READY = 1
    """It was ready to run, in the middle of its work, and had no CPU: on a machine with one CPU, because the
    look itself has that."""
    YES = 2


class LoopLook(NamedTuple):
    """One look at a thread's loop between two polls."""

    holder: str | None
    """The name that has the loop, as :attr:`LoopSample.holder`, or the function under it, as configured."""
    ran: Ran
    age_ns: int | None
    """As :attr:`LoopSample.age_ns`."""
    stands_for_ns: int
    """The time since the look before; 0: not known."""
    ends_later: bool = False
    """The age is the least that it can be; a :class:`LoopWait` tells of the same look once it can."""


class LoopWait(NamedTuple):
    """The wait of an event that came when a loop was looked at."""

    holder: str | None
    """As :attr:`LoopLook.holder`, at that look."""
    lag_ns: int
    stands_for_ns: int
    """As :attr:`LoopLook.stands_for_ns`."""


@dataclass(frozen=True, slots=True)
class LoopReading:
    """The looks at one thread's loop since the poll before."""

    kind: LoopKind | None
    """None: the thread runs no loop now."""
    looks: tuple[LoopLook, ...]
    """In order of time."""
    ready: int | None
    """As :attr:`LoopSample.ready`, last."""
    counts: Mapping[str, TaskCount] | None
    """The living tasks by name, if they have been counted since the poll before; else None."""
    began_ns: int = 0
    """When the first of these looks was (CLOCK_MONOTONIC)."""
    waits: tuple[LoopWait, ...] = ()
    """Of looks that have ended later, these or those before."""


LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of lags, in seconds."""


class TaskTotals(NamedTuple):
    """The totals of one task name of a thread series. They never fall, but for the counts of tasks."""

    cpu_ns: int
    held_ns: int
    """Time that it had the loop, running or blocked."""
    blocked_ns: int
    """The part of that in which the loop had not come back to its selector for too long."""
    alive: TaskCount | None
    """How many there are; None: they have not been counted."""


class LoopTotals(NamedTuple):
    """The totals of the loops of one thread series."""

    tasks: Mapping[str, TaskTotals]
    lags: tuple[int, ...]
    """How many looks found an age between each bound of :data:`LAG_BUCKETS` and the one before; last, above
    all bounds."""
    lag_sum_ns: int
    recent: tuple[tuple[int, int], ...]
    """Times (CLOCK_MONOTONIC) and ages, each the largest from that time on: of the last minute."""
    ready: int | None
    kinds: tuple[LoopKind, ...]
    """The kinds of the loops that run now, in order."""

    def lag_max_ns(self, now_ns: int) -> int | None:
        """Return the largest age of the minute before ``now_ns``; None: there was no look in that time."""
        return max(
            (age for seen, age in self.recent if seen > now_ns - LAG_MAX_OVER_NS), default=None
        )


LAG_MAX_OVER_NS = 60_000_000_000
"""The time over which the largest lag is kept."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task name of one thread, as the last poll saw it."""

    name: str
    """After the name rules, or ``(other)``."""
    cpu_ns: int
    held_ns: int
    cpu_ratio: float | None
    """CPU time per elapsed time since the poll before; None at first sight."""
    held_ratio: float | None
    """The share of the time since the poll before in which it had the loop; None at first sight."""
    alive: TaskCount | None


@dataclass(frozen=True, slots=True)
class LoopView:
    """The loop of one thread, as the last poll saw it."""

    kind: LoopKind | None
    """None: the thread has run a loop, and runs none now."""
    holder: str | None
    """The name that had the loop at the last look, after the name rules; None: it waited for events."""
    age_ns: int | None
    ready: int | None
    tasks: tuple[TaskView, ...]
    """In order of their names."""
