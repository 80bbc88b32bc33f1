"""One watched process: what is kept about it from poll to poll."""

from __future__ import annotations

from dataclasses import dataclass, field

from threadwatch.config.parse import GroupConfig
from threadwatch.model.readings import Identity
from threadwatch.model.view import ProcessKey, ProcessView
from threadwatch.names.published import Published
from threadwatch.names.source import Name, NameSource
from threadwatch.procfs import CpuTimer, ProcessDir, Stat, TaskFile, Waited
from threadwatch.reading.reader import HangRecords


@dataclass(slots=True, eq=False)
class KnownThread:
    """A living thread of a watched process, as it was last read."""

    tid: int
    identity: Identity
    ns_tid: int
    """Its TID in the process's own PID namespace; publishers speak in those numbers."""
    met: int
    """The poll in which it was read for the first time."""
    stat: Stat
    raw: bytes = b""
    """The schedstat that the three below were read from: the same again means that it has not run."""
    cpu_ns: int = 0
    runqueue_ns: int | None = None
    timeslices: int | None = None
    """None where the kernel keeps no schedstat; :attr:`cpu_ns` is stat's then, in ticks."""
    stat_cpu_ns: int = -1
    """:attr:`cpu_ns` when :attr:`stat` was read: if it has run since, stat is behind."""
    wait_cpu_ns: int = -1
    """:attr:`cpu_ns` when it was last looked at for what it waits for, outside of samples."""
    file: TaskFile | None = None
    """Its schedstat, kept open while it runs now and then."""
    fd: int = -1
    """That file's descriptor."""
    name: Name | None = None
    """Its Python name, as its source told it last."""
    quiet: int = 0
    """For how many polls it has not run, counted while it is hot."""


@dataclass(slots=True)
class Watched:
    """A watched process. Close it when it has gone."""

    key: ProcessKey
    dir: ProcessDir
    ns_pid: int
    """Its PID in its own, innermost PID namespace."""
    ppid: int
    uid: int
    """The effective uid when it was last looked at: services begin as root, and become another user."""
    comm: str
    cmdline: tuple[str, ...]
    group: str
    """What it is called by its configuration."""
    config: GroupConfig
    tables: Published
    """The tables that it publishes, which are looked for as long as there are none."""
    names: NameSource
    """Where its threads' names come from."""
    charged_to: str = ""
    """The group that its books are in: ``(other)`` where there is no room for its own."""
    ask_again: int = 0
    """The poll from which on room is to be looked for again, if that is not its own."""
    embeds: str | None = None
    """The program in which a Python was found that is not called Python."""

    clock_ns: int = -1
    """The process clock at the last poll; if it has not moved, nothing in the process has run."""
    met: int = 0
    """The poll in which it was read for the first time."""
    polled: int = 0
    """The last poll in which it was read: all but those in which it was at rest."""
    time_ns: int = 0
    """CLOCK_MONOTONIC then."""
    before_ns: int = 0
    """When it had been read before that: in the poll before, or later ones could not; 0 if it was at rest."""
    since_ns: int = 0
    """Since when it may have run in polls that could not read it."""
    left_out: int = 0
    """The last such poll."""
    settled: bool = False
    """All that is known is how things stand while it rests: nothing needs to be read."""
    timer: CpuTimer | None = None
    """Makes its clock cheap while it rests, or next to none of its threads run."""
    timer_from: int = 0
    """The poll from which on it is to have one, if that is worth it."""
    rested: int = 0
    """Polls for which it has been settled."""
    view: ProcessView | None = None
    """Of the last poll in which it was read and views were asked for."""

    known: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: all living threads."""
    hot: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: those that have run lately."""
    behind: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: those that have run since their stat was read, and are yet to have their turn."""
    unseen: set[int] = field(default_factory=set)
    """TIDs of threads that are not hot and have run since anybody saw what they wait for."""
    known_ns: int = 0
    """The sum of the known threads' clocks."""
    elsewhere_ns: int = 0
    """What the process clock had beyond that sum when all were last read together: ended threads."""
    forgotten: list[KnownThread] = field(default_factory=list)
    """Known threads that have gone since all that was published was last read."""
    unsettled: set[int] = field(default_factory=set)
    """TIDs to show again in the next poll, whether or not they run: their names are about to come."""
    read_all: bool = True
    """All threads are to be read in the next poll whatever the clocks say."""
    unchecked: list[KnownThread] = field(default_factory=list)
    """Threads whose turn it is yet to be read once in a while whatever the clocks say."""
    check_in: int = 0
    """The poll in which that is done for some of them while the process rests."""
    ticks: tuple[int, int] = (0, 0)
    """User and system time of the process, in ticks, as of :attr:`ticks_read`."""
    ticks_read: int = -1
    """The poll in which :attr:`ticks` were read."""

    waited: Waited = field(default_factory=Waited)
    """What its ended children have used, as it was read last."""
    waited_told: Waited = field(default_factory=Waited)
    """The same, as the account knows it."""
    newborn: bool = False
    """It was born since the poll before it was first seen."""

    look_wait: int = 1
    """Polls between looks for another program (exec), and for a table if there is none."""
    looked_clock_ns: int = -1
    """The process clock at the last such look."""
    names_lost: bool = False
    """The source of its names was lost in a poll that has not been charged yet."""
    searched: int = 0
    """File descriptors that have been looked at for a table beyond the first ones."""

    hangs: HangRecords = field(default_factory=HangRecords)

    def started(self) -> dict[int, int]:
        """The start time in ticks of each living thread, by its TID in the process's own PID namespace."""
        return {known.ns_tid: known.stat.start_ticks for known in self.known.values()}

    def lately(self) -> set[int]:
        """Return the TIDs of threads that have run lately, in the process's own PID namespace."""
        return {known.ns_tid for known in self.hot.values()}

    def wake(self) -> None:
        """It is no longer at rest."""
        self.settled, self.rested = False, 0

    def drop_timer(self) -> None:
        """Its clock is to cost what it costs."""
        if self.timer is not None:
            self.timer.delete()
            self.timer = None

    def close(self) -> None:
        """Let go of the process and its tables."""
        self.drop_timer()
        self.names.close()
        self.dir.close()
