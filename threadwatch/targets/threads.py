"""Holds the threads of one watched process, as they were last read.

A field that is not written here names the one module that writes it; ``tests/contract/test_writers.py``
checks that. See docs/decisions/0033-one-writer.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from threadwatch.model.readings import Identity
from threadwatch.names.source import Name
from threadwatch.procfs import Stat, TaskFile, Waited

_MOST_CHANGES = 256
"""The births and ends that are remembered; after more, the names of all threads are checked."""


@dataclass(slots=True, eq=False)
class KnownThread:
    """A living thread of a watched process. Written by :mod:`threadwatch.threads.clocks`."""

    tid: int
    identity: Identity
    ns_tid: int
    """Its TID in the process's own PID namespace; sources of names speak in those numbers."""
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
    """:attr:`cpu_ns` when it was last looked at for what it waits for, outside of samples.

    Written by :mod:`threadwatch.threads.wait_looks`.
    """
    file: TaskFile | None = None
    """Its schedstat, kept open while it runs now and then."""
    fd: int = -1
    """That file's descriptor."""
    name: Name | None = None
    """Its Python name, as its source told it last. Written by :mod:`threadwatch.threads.describe`."""
    quiet: int = 0
    """For how many polls it has not run, counted while it is hot."""


@dataclass(slots=True, eq=False)
class ThreadBook:
    """The known threads of one process, and what has to be read again."""

    waited: Waited
    """CPU time of the process's ended children, as last read."""
    known: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: all living threads."""
    changes: int = 0
    """How often a thread was met or forgotten."""
    hot: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: those that have run lately."""
    stat_due: dict[int, KnownThread] = field(default_factory=dict)
    """By TID: threads that have run since their stat was read, and have not had their turn yet.

    Written by :mod:`threadwatch.threads.stat_turns`.
    """
    wait_unknown: set[int] = field(default_factory=set)
    """TIDs of threads that are not hot and have run since a look at what they wait for."""
    show_again: set[int] = field(default_factory=set)
    """TIDs of threads to describe in the next poll, whether or not they run."""
    unchecked: list[KnownThread] = field(default_factory=list)
    """Threads still to be read in this round of routine checks.

    Written by :mod:`threadwatch.threads.checks`.
    """
    forgotten: list[KnownThread] = field(default_factory=list)
    """Known threads that have gone since all that was published was last read."""
    read_all: bool = True
    """All threads are to be read in the next poll, even if no clock has moved."""
    known_ns: int = 0
    """The sum of the known threads' clocks."""
    ended_ns: int = 0
    """What the process clock had beyond that sum when all were last read together: ended threads."""
    whole_at_ns: int = -1
    """The process clock, if it stood still while all were last read together; else -1."""
    ticks: tuple[int, int] = (0, 0)
    """User and system time of the process, in ticks, as of :attr:`ticks_read`."""
    ticks_read: int = -1
    """The poll in which :attr:`ticks` were read."""
    names_lost: bool = False
    """The source of names was lost, and no reading has told of that yet."""
    _started: dict[int, int] = field(default_factory=dict)
    """The start time of each living thread, by its TID in its own PID namespace."""
    _changed: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_CHANGES))
    """The last threads that were met or forgotten, by the same TIDs."""

    def meet(self, known: KnownThread) -> None:
        """Add a thread that has been read for the first time."""
        self.known[known.tid] = known
        self._started[known.ns_tid] = known.stat.start_ticks
        self._note_change(known)
        self.wait_unknown.add(known.tid)
        self.known_ns += known.cpu_ns

    def forget(self, known: KnownThread) -> None:
        """Remove a thread that has ended."""
        del self.known[known.tid]
        self._started.pop(known.ns_tid, None)
        self._note_change(known)
        self.hot.pop(known.tid, None)
        self.known_ns -= known.cpu_ns
        self.ended_ns += known.cpu_ns
        self.forgotten.append(known)

    def keep_forgotten(self, most: int) -> None:
        """Keep only this many of the threads that have gone, the last ones."""
        del self.forgotten[: max(len(self.forgotten) - most, 0)]

    def heat(self, known: KnownThread) -> None:
        """Count a thread among those that have run lately."""
        self.hot[known.tid] = known
        self.wait_unknown.discard(known.tid)

    def cool(self, known: KnownThread) -> None:
        """Count a thread no longer among those that have run lately."""
        del self.hot[known.tid]
        self.wait_unknown.add(known.tid)

    def cool_all(self) -> None:
        """Count no thread among those that have run lately: the process rests."""
        self.hot.clear()

    def gain(self, cpu_ns: int) -> None:
        """Add what known threads have used to the sum of their clocks."""
        self.known_ns += cpu_ns

    def unexplained_ns(self, clock_ns: int) -> int:
        """Return what the process clock has gained beyond all that is known."""
        return clock_ns - self.ended_ns - self.known_ns

    def explain(self, cpu_ns: int) -> None:
        """Note that ended threads have used this much more: it need not be looked for."""
        self.ended_ns += cpu_ns

    def balance(self, clock_ns: int, *, complete: bool, stood_still: bool = False) -> None:
        """Note that all threads were read when the process clock was this; what is beyond was of ended ones.

        ``complete``: each of them could be read; else all are to be read again in the next poll.
        ``stood_still``: the clock was the same before the first of them was read.
        """
        self.ended_ns = clock_ns - self.known_ns
        self.whole_at_ns = clock_ns if stood_still else -1
        self.read_all = not complete

    def distrust(self) -> None:
        """Have all threads read in the next poll."""
        self.read_all = True

    def read_process(self, ticks: tuple[int, int], waited: Waited, poll: int) -> None:
        """Note what the process's own stat says in this poll."""
        self.ticks, self.ticks_read, self.waited = ticks, poll, waited

    def read_waited(self, waited: Waited) -> None:
        """Note what the ended children of the process have used."""
        self.waited = waited

    def show_these_again(self, tids: set[int]) -> None:
        """Have these threads described in the next poll, whether or not they run."""
        self.show_again = tids

    def show_all_again(self) -> None:
        """Have all threads described in the next poll."""
        self.show_again.update(self.known)

    def look_at_all_again(self) -> None:
        """Have all threads looked at for what they wait for."""
        self.wait_unknown.update(self.known)

    def still_to_look_at(self, threads: Iterable[KnownThread]) -> None:
        """Note that these have not been looked at for what they wait for, and all others have."""
        hot = self.hot
        self.wait_unknown = {known.tid for known in threads if known.tid not in hot}

    def lose_names(self) -> None:
        """Note that the source of names was lost."""
        self.names_lost = True

    def take_names_lost(self) -> bool:
        """Return whether the source of names was lost since the last call."""
        lost, self.names_lost = self.names_lost, False
        return lost

    def started(self) -> dict[int, int]:
        """Return the start time in ticks of each living thread, by its TID in its own PID namespace.

        It is kept up to date, and the same at each call.
        """
        return self._started

    def changed(self, since: int) -> set[int] | None:
        """Return, by the same TIDs, which have been met or forgotten since :attr:`changes` was that.

        None: that is too long ago.
        """
        count = self.changes - since
        if count > len(self._changed):
            return None
        return set(islice(reversed(self._changed), count))

    def lately(self) -> set[int]:
        """Return the TIDs of threads that have run lately, in the process's own PID namespace."""
        return {known.ns_tid for known in self.hot.values()}

    def _note_change(self, known: KnownThread) -> None:
        self.changes += 1
        self._changed.append(known.ns_tid)
