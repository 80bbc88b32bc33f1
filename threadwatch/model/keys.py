"""Defines what values are kept by: processes, series, Pythons, sources of names, and the reserved names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Source = Literal["published", "memory", "comm"]
"""Where a thread's name comes from: its publisher's table, its process's memory, or the kernel."""

SOURCES: tuple[Source, ...] = get_args(Source)
"""All of them, the best first."""

HandoverResult = Literal[
    "believed",
    "known",
    "ended",
    "unwatched",
    "foreign",
    "invisible",
    "invalid",
    "silent",
    "too_many",
    "hung",
]
"""The result of a table that a process has handed over to the daemon.

``believed``: the process's names are read from it. ``known``: the process's table was found in ``/proc``
before. ``ended``: the process has ended before a poll could look. ``unwatched``: the process is not watched.
``foreign``: it is another process's, or another user has made it. ``invisible``: the sender is not in the
daemon's PID namespace. ``invalid``: no table was sent. ``silent``: nothing was sent. ``too_many``: the user,
or all together, have handed over more than the daemon keeps. ``hung``: a file was sent that cannot be
closed, or by a user that has sent such a file before.
"""

HANDOVER_RESULTS: tuple[HandoverResult, ...] = get_args(HandoverResult)
"""All of them, the good ones first."""

Per = Literal["group", "process", "thread"]
"""What one series stands for: a thread name in the group, a thread name in one process, or one thread."""

TICKS_PER_SECOND = 100
"""USER_HZ is 100 on every architecture that Linux runs CPython on (time(7))."""

UNATTRIBUTED = "(unattributed)"
"""The thread name that is charged with CPU time which no known thread used."""
OTHER = "(other)"
"""The thread name that holds what is over a group's cap of names."""


class ProcessKey(NamedTuple):
    """A process's identity: its PID can be used again, but not with the same start time.

    (A named tuple, as is :class:`SeriesKey`: both are looked up many times in each poll, and the hash of a
    dataclass is computed by a call of Python's.)
    """

    pid: int
    start_ticks: int
    """Start time in clock ticks since boot: field 22 of ``/proc/PID/stat`` (proc_pid_stat(5))."""


ThreadKey = tuple[ProcessKey, int, int]
"""A thread's identity: its process, its TID, and its start time in clock ticks."""


@dataclass(frozen=True, slots=True, order=True)
class Python:
    """The Python that a process runs, as the source of its thread names says."""

    implementation: str
    """``cpython`` …"""
    version: tuple[int, int, int]
    free_threaded: bool
    """A build without the GIL."""
    gil: bool
    """It runs with a GIL. False only for a free-threaded build that was not told to use one."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place where a process runs, by its cgroups. A part is empty if there is none, or it is hidden."""

    container: str = ""
    """The innermost container's id, or its name."""
    pod_uid: str = ""
    unit: str = ""
    """The innermost unit of systemd."""


NOWHERE = Place()


class SeriesKey(NamedTuple):
    """The key of one set of series: a folded thread name, split up as the group's ``per`` says."""

    thread: str
    pid: int | None = None
    tid: int | None = None
