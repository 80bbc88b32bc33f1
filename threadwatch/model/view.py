"""Defines the result of one poll, a :class:`View`: every output shows a View, and reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from threadwatch.model.history import HistoryView
from threadwatch.model.keys import (
    TICKS_PER_SECOND,
    HandoverResult,
    Per,
    Place,
    ProcessKey,
    Python,
    SeriesKey,
    Source,
)
from threadwatch.model.loops import LoopTotals, LoopView


@dataclass(frozen=True, slots=True)
class Usage:
    """The time that a thread has used and waited, or several together."""

    user_ns: int
    system_ns: int
    """CPU time in its life so far; user + system is the kernel's exact clock, split as it splits it."""
    cpu_ratio: float | None
    """CPU time per elapsed time since the poll before (1.0 is one CPU); None in its first poll."""
    user_ratio: float | None
    system_ratio: float | None
    """The parts of :attr:`cpu_ratio`."""
    runqueue_ratio: float | None
    """Time ready to run, but without a CPU, per elapsed time; None also where the kernel does not
    count it."""
    gil_held_ratio: float | None
    gil_wait_ratio: float | None
    """The shares of the time that samples stand for in which it held the GIL, and waited for it; None
    where that cannot be seen. It runs from the beginning of one poll to that of the next."""


@dataclass(frozen=True, slots=True)
class ThreadView(Usage):
    """One thread as the last poll saw it."""

    tid: int
    start_ticks: int
    name: str
    """Exactly as published; the kernel's comm if :attr:`source` says so."""
    source: Source
    thread: str
    """The label of its series: :attr:`name` after the name rules, or ``(other)``."""
    comm: str
    state: str
    """The name of one of :data:`threadwatch.model.states.STATES`."""
    states: Mapping[str, float] | None = field(hash=False)
    """The share of the time since the poll before that it spent in each state, by name, without those in
    which it was not; together 1. What it ran and was ready is the kernel's, the rest by samples. None
    at first sight."""
    last_cpu: int
    """The CPU that it ran on last: field 39 of stat."""
    name_cut: bool = False
    """The published name was longer than the table holds."""
    loop: LoopView | None = None
    """The loop that it runs, or has run; None: none has been seen."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process as the last poll saw it, with its threads in order of their TIDs."""

    key: ProcessKey
    ppid: int
    uid: int
    group: str
    comm: str
    cmdline: tuple[str, ...]
    names_from: Source
    """Where the Python names of its threads come from; ``comm``: there are none."""
    python: Python | None
    """None: not known."""
    cpu_ns: int
    """The process's CPU clock: all its threads, the ended ones too."""
    cpu_ratio: float | None
    threads: tuple[ThreadView, ...]

    @property
    def published(self) -> bool:
        """Return whether the process publishes its thread names."""
        return self.names_from == "published"

    @property
    def gil_held_ratio(self) -> float | None:
        """Return the sum over its threads: 1 at most for each GIL; None where that cannot be seen."""
        held = [t.gil_held_ratio for t in self.threads if t.gil_held_ratio is not None]
        return sum(held) if held else None


class StateTime(NamedTuple):
    """The time that threads have been in a state, in all.

    Threads that sleep cost nothing: no value has to change while no thread enters or leaves the
    state.

    (A named tuple, as are all of a view's parts that are made in each poll: making one takes half of a
    frozen dataclass's time, or less.)
    """

    threads: int
    """Threads whose time passes in this state until a poll or sample sees another one."""
    total_ns: int
    since_ns: int
    """The time (CLOCK_MONOTONIC) up to which :attr:`total_ns` has been counted."""

    def at(self, now_ns: int) -> int:
        """Return the thread-nanoseconds in this state up to ``now_ns``."""
        return self.total_ns + self.threads * (now_ns - self.since_ns)


class SeriesTotals(NamedTuple):
    """The totals of one :class:`SeriesKey`. They never fall. None: not collected or not readable."""

    user_ns: int
    system_ns: int
    runqueue_ns: int | None
    timeslices: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None
    minor_faults: int
    major_faults: int
    read_bytes: int | None
    write_bytes: int | None
    gil_held_ns: int | None
    started: int
    ended: int
    states: Mapping[str, StateTime]
    """Time in each state."""
    now: Mapping[str, int]
    """How many threads are in each state now; 0 for states that were seen before."""
    loop: LoopTotals | None = None
    """The loops that its threads run; None: none has been seen."""


class GroupView(NamedTuple):
    """One group: its processes' clock, and the totals of its threads by name."""

    name: str
    per: Per
    cpu_ns: int
    processes: int
    names_from: Mapping[Source, int]
    """By source of thread names: how many processes have their names from it."""
    pythons: Mapping[Python, int]
    """The Pythons of the processes whose Python is known, and how many processes run each."""
    series: Mapping[SeriesKey, SeriesTotals]
    dropped: int
    """Thread names that found no place under the cap and went to ``(other)``."""
    foldable_names: int = 0
    """Names of :attr:`series` that differ only in numbers and hexadecimal strings, as
    :mod:`threadwatch.labels.alike` has them."""
    places: frozenset[Place] = frozenset()
    """Where its processes run."""
    ended_children_ns: int = 0
    """CPU time of child processes that ended without any poll seeing them, and to which no name belongs."""
    throttled_ns: int | None = None
    """How long limits of CPU time have kept its processes from CPUs, summed over CPUs; None: not known."""

    @property
    def published(self) -> int:
        """Return how many processes publish their thread names."""
        return self.names_from.get("published", 0)


class Stats(NamedTuple):
    """The daemon's figures about itself."""

    polls: int = 0
    polls_skipped: int = 0
    """Polls that were due while another was under way, or while the daemon did not run."""
    poll_cpu_ns: int = 0
    poll_duration_ns: int = 0
    """Sum over all polls."""
    poll_durations: tuple[int, ...] = ()
    """How many polls fell between each bound of ``POLL_BUCKETS`` and the one before; last, above
    all bounds."""
    read_errors: Mapping[tuple[str, str], int] = MappingProxyType({})
    """Counts by (source, reason)."""
    handed_over: Mapping[HandoverResult, int] | None = None
    """How often tables that processes have handed over had each result; None: none are received."""
    samples: int = 0
    """How many times a process was sampled between polls."""
    sample_cpu_ns: int = 0
    reload_successful: bool = True
    reload_success_time: float = 0.0
    """Unix time in seconds."""


POLL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the poll duration histogram, in seconds."""


class Host(NamedTuple):
    """The machine that a poll looked at."""

    name: str
    """As uname(2) has it: a container's own, unless it shares the host's UTS namespace."""
    cpus: int
    """CPUs that are online."""
    load: tuple[float, float, float] | None
    """The mean number of threads that ran, were ready to run or waited for a device, over 1, 5 and 15
    minutes (proc_loadavg(5)); None: not readable."""


class View(NamedTuple):
    """The result of one poll."""

    sequence: int
    """The poll's number, from 1."""
    time: float
    """Unix time in seconds when the poll ended."""
    monotonic_ns: int
    """CLOCK_MONOTONIC at the same moment: the ``now`` of :meth:`StateTime.at`."""
    boottime_ns: int
    """CLOCK_BOOTTIME at :attr:`time`, which start times refer to."""
    interval_ns: int
    """The configured time from poll to poll."""
    processes: tuple[ProcessView, ...]
    """All watched processes if :attr:`details`; else none."""
    details: bool
    """Whether the poll looked at single processes and threads, because a client has asked for them."""
    groups: tuple[GroupView, ...]
    """In order of their names."""
    thread_info: bool
    """Whether the configuration asks for ``threadwatch_thread_info``."""
    stats: Stats
    history: HistoryView | None = None
    """Only with :attr:`details`."""
    host: Host | None = None
    """None: without :attr:`details`, or from an older daemon."""

    def started(self, start_ticks: int) -> float:
        """Return the Unix time in seconds of a start time in ticks since boot."""
        return self.time - self.boottime_ns / 1e9 + start_ticks / TICKS_PER_SECOND
