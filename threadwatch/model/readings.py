"""Holds what one poll has read of a process, in the kernel's own units; the input of accounting.

Every count is cumulative over a life. ``None`` is a value that could not be read or was not asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from threadwatch.model.keys import TICKS_PER_SECOND, ProcessKey, Python, Source
from threadwatch.model.loops import LoopReading

NS_PER_TICK = 1_000_000_000 // TICKS_PER_SECOND

Identity = tuple[int, int]
"""A thread within its process: TID and start time in clock ticks."""

SlotKey = tuple[int, int]
"""One thread in one table: the table's inode and the thread's serial number in it."""


class ThreadReading(NamedTuple):
    """One living thread.

    (A named tuple, because many are made in each poll, and it takes a third of a dataclass's time.)
    """

    tid: int
    start_ticks: int
    name: str
    source: Source
    name_cut: bool
    slot: SlotKey | None
    comm: str
    state: str
    """One letter, as in field 3 of stat (proc_pid_stat(5))."""
    cpu_ns: int
    exact: bool
    """:attr:`cpu_ns` is the scheduler's own (schedstat); else it is in steps of a tick (stat)."""
    user_ticks: int
    system_ticks: int
    runqueue_ns: int | None
    timeslices: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None
    minor_faults: int
    major_faults: int
    read_bytes: int | None
    write_bytes: int | None
    last_cpu: int
    name_pending: bool
    """A newborn thread of a process that publishes, not published yet: its name is about to come."""
    too_young_to_show: bool = False
    """The thread is not to be shown before it has its name."""

    def can_be(self, before: ThreadReading) -> bool:
        """Return whether this can be the same thread, later: the kernel's counts never fall."""
        if self.exact and before.exact and self.cpu_ns < before.cpu_ns:
            return False
        if self.timeslices is not None and self.timeslices < (before.timeslices or 0):
            return False
        return self.minor_faults >= before.minor_faults


class ThreadTimes(Protocol):
    """The times in schedstat of a thread of which no other file was read."""

    @property
    def identity(self) -> Identity:
        """Return the identity of the thread."""

    @property
    def cpu_ns(self) -> int:
        """Return its CPU time."""

    @property
    def runqueue_ns(self) -> int | None:
        """Return its time ready to run, but without a CPU."""

    @property
    def timeslices(self) -> int | None:
        """Return how often it was given a CPU."""


Counts = tuple[int | None, ...]
"""The kernel's other counts of a thread, in the order of :data:`COUNTED`."""
COUNTED = (
    "voluntary_switches",
    "involuntary_switches",
    "minor_faults",
    "major_faults",
    "read_bytes",
    "write_bytes",
)
counts_of: Callable[[ThreadReading], Counts] = attrgetter(*COUNTED)


@dataclass(frozen=True, slots=True)
class Waits:
    """The waits of a thread that samples between two polls have seen."""

    state: str
    """The state now: one of the project's, but never ``runnable``, which no sample can tell from
    ``running``."""
    times: Mapping[str, int]
    """ns by state: together, the sampled time."""
    gil_held_ns: int


@dataclass(frozen=True, slots=True)
class EndedThread:
    """One thread that has ended, as its publisher says."""

    slot: SlotKey
    tid: int
    name: str
    cpu_ns: int | None
    """CPU time in its whole life; None: unknown, or charged already to (unattributed)."""
    thread: Identity | None = None
    """The kernel's thread that it was, if any poll has seen that."""
    early: bool = False
    """It ended within the tick in which :attr:`thread` was born: that may be another thread with
    the same TID and start time."""
    visitor: bool = False
    """A thread of C that called Python. It may live on after it has left Python."""
    start_ns: int = 0
    """CPU time that it used before it could be published; 0 unknown."""


class ProcessReading(NamedTuple):
    """One process. Its clock was read before its threads were."""

    key: ProcessKey
    time_ns: int
    """CLOCK_MONOTONIC when the clock was read."""
    clock_ns: int
    user_ticks: int
    system_ticks: int
    threads: tuple[ThreadReading, ...]
    """Threads that may have changed since the reading before, and new ones."""
    ended: tuple[EndedThread, ...]
    times: Sequence[ThreadTimes] = ()
    """The times of others that have run; valid until the next poll."""
    living: frozenset[Identity] | None = None
    """All living threads. None: the list was not read, so no thread counts as ended."""
    waits: Mapping[Identity, Waits] | None = None
    """Waits of the sampled threads. None: the process is not sampled."""
    has_gil: bool = False
    """Whether samples can see which thread holds its GIL and which wait for it."""
    unread_ns: int = 0
    """How much of the clock may belong to living threads that were not read; 0 if all were."""
    behind: bool = False
    """Part of the publisher's table could not be read yet; ends may be told later."""
    names_from: Source = "comm"
    """Where its threads' names come from."""
    python: Python | None = None
    """The Python that it runs; None: not known."""
    loops: Mapping[Identity, LoopReading] | None = None
    """What looks at its threads' loops have seen; None: none were taken."""
