"""Holds the state of one watched process from poll to poll, in parts that have one writer each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from threadwatch.config.settings import GroupConfig
from threadwatch.model.keys import NOWHERE, Place, ProcessKey
from threadwatch.names.published import Published
from threadwatch.names.source import NameSource
from threadwatch.procfs import ProcessDir
from threadwatch.reading.hangs import HangRecords
from threadwatch.targets.rest import Rest
from threadwatch.targets.threads import ThreadBook
from threadwatch.tasks.source import LoopSource


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a process at the last look."""

    ppid: int
    uid: int
    """The effective uid: services begin as root, and become another user."""
    comm: str
    cmdline: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """The group that a process belongs to by its configuration, and where it runs."""

    group: str
    config: GroupConfig
    place: Place = NOWHERE
    """Where the process runs."""
    cpu_cgroup: str | None = None
    """The directory of its cgroup, as :class:`threadwatch.procfs.Cgroup` has it."""


class LastPoll(NamedTuple):
    """The last poll in which a process was read: a process at rest is not.

    (A named tuple, because one is made for each awake process in each poll.)
    """

    met: int = 0
    """The poll in which it was read for the first time; 0: it has not been."""
    poll: int = 0
    """The number of the last one."""
    clock_ns: int = -1
    """The process clock then; if it has not moved, nothing in the process has run."""
    time_ns: int = 0
    """CLOCK_MONOTONIC then."""
    before_ns: int = 0
    """When it was read before that, in the poll before or the last one that could; 0 if it was at rest."""
    since_ns: int = 0
    """Since when it may have run in polls that could not read it."""
    left_out: int = 0
    """The last such poll."""


@dataclass(slots=True, eq=False)
class Process:
    """A watched process. Close it when it has gone.

    A part that is replaced as a whole names the one module that does so
    (docs/decisions/0033-one-writer.md).
    """

    key: ProcessKey
    dir: ProcessDir
    ns_pid: int
    """Its PID in its own, innermost PID namespace."""
    facts: Facts
    """Written by :mod:`threadwatch.discovery.admission`."""
    membership: Membership
    """Written by :mod:`threadwatch.discovery.admission`."""
    tables: Published
    """The tables that it publishes, which are looked for as long as there are none."""
    names: NameSource
    """Where its threads' names come from. Written by :mod:`threadwatch.discovery.admission`."""
    loops: LoopSource
    threads: ThreadBook
    newborn: bool
    """It was born since the poll before it was first seen."""
    last: LastPoll = field(default_factory=LastPoll)
    """Written by :mod:`threadwatch.poll.one_process`."""
    rest: Rest = field(default_factory=Rest)
    hangs: HangRecords = field(default_factory=HangRecords)

    def close(self) -> None:
        """Let go of the process and the source of its names."""
        self.rest.close()
        self.names.close()
        self.dir.close()
