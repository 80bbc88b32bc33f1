"""What one poll has read of a process, in the kernel's own units; the input of accounting.

Everything is cumulative over a life. ``None`` is what could not be read or was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from threadwatch.model.view import TICKS_PER_SECOND, ProcessKey, Source

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
    provisional: bool
    """Just born in a process that publishes, and not published yet: its name is about to come."""
    shy: bool = False
    """It is not to be shown before that."""

    def can_be(self, before: ThreadReading) -> bool:
        """Whether it can be the same thread, later: what the kernel counts never falls."""
        if self.exact and before.exact and self.cpu_ns < before.cpu_ns:
            return False
        if self.timeslices is not None and self.timeslices < (before.timeslices or 0):
            return False
        return self.minor_faults >= before.minor_faults


class ThreadTimes(Protocol):
    """What schedstat says of a thread about which nothing else has been read."""

    @property
    def identity(self) -> Identity:
        """Which thread."""

    @property
    def cpu_ns(self) -> int:
        """CPU time."""

    @property
    def runqueue_ns(self) -> int | None:
        """Time ready to run, but without a CPU."""

    @property
    def timeslices(self) -> int | None:
        """How often it was given a CPU."""


Counts = tuple[int | None, ...]
"""What else the kernel counts of a thread, in the order of :data:`COUNTED`."""
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
    """What samples between polls have seen of a thread since the poll before."""

    state: str
    """Now: one of the project's states, but never ``runnable``, which no sample can tell from ``running``."""
    times: Mapping[str, int]
    """ns by state: together, the time that was sampled."""
    gil_held_ns: int


@dataclass(frozen=True, slots=True)
class EndedThread:
    """One thread that has ended, as its publisher tells."""

    slot: SlotKey
    tid: int
    name: str
    cpu_ns: int | None
    """CPU time in its whole life; None: not known, or charged already as nobody's."""
    thread: Identity | None = None
    """The thread of the kernel that it was, if any poll has seen that."""
    early: bool = False
    """It ended within the tick in which :attr:`thread` was born: this may be another one, with its TID and
    start time."""
    visitor: bool = False
    """A thread of C that called Python. That it has left Python need not be its end."""
    start_ns: int = 0
    """CPU time that it used until it could be published; 0 unknown."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One process. Its clock was read before its threads were."""

    key: ProcessKey
    time_ns: int
    """CLOCK_MONOTONIC when the clock was read."""
    clock_ns: int
    user_ticks: int
    system_ticks: int
    threads: tuple[ThreadReading, ...]
    """Those that may have changed since the sample before, and those that are new."""
    ended: tuple[EndedThread, ...]
    times: Sequence[ThreadTimes] = ()
    """Others that have run; good until the next poll."""
    living: frozenset[Identity] | None = None
    """All that live. None: nobody has looked, so none has gone."""
    waits: Mapping[Identity, Waits] | None = None
    """Of threads that were sampled. None: the process is not sampled."""
    has_gil: bool = False
    """Who holds its GIL can be seen, and who waits for it."""
    unread_ns: int = 0
    """How much of the clock may be of living threads that were not read; 0 where all were."""
    behind: bool = False
    """Not all that its publisher tells could be read; ends may be told later."""
