"""Defines the source of a process's thread names, which the rest of the daemon asks.

A process has one source of names (:class:`threadwatch.names.best.BestNames`): the tables that its publisher
makes, or else its memory. A source that knows nothing is asked like any other: then threads have the
kernel's names. Three questions are apart: whether names are known
(:attr:`NameSource.known`), where they come from (:attr:`NameSource.names_from`), and which Python runs
(:attr:`NameSource.python`).
See docs/decisions/0032-sources-of-names.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from threadwatch.errors import ReadError
from threadwatch.model.keys import Python, Source
from threadwatch.model.readings import SlotKey
from threadwatch.names.slots import Gil
from threadwatch.names.table import TableSlot
from threadwatch.procfs import ProcessDir


class Living(Protocol):
    """The living threads of a process, by their TIDs in its own PID namespace."""

    @property
    def changes(self) -> int:
        """Return how often one has started or ended until now."""

    def started(self) -> Mapping[int, int]:
        """Return the start time of each in ticks, by TID, now and later."""

    def changed(self, since: int) -> Collection[int] | None:
        """Return the TIDs of those that have started or ended since :attr:`changes` was that.

        None: that is too long ago; it can be any.
        """

    def lately(self) -> Collection[int]:
        """Return the TIDs of those that have run lately."""


class Name(NamedTuple):
    """The Python name of one thread."""

    text: str
    cut: bool
    """The name was longer than its source could hold or read."""
    source: Source
    slot: SlotKey | None = None
    """The thread in its publisher's table: the source will tell of its end. None: no end will be told."""


class NameChanges(NamedTuple):
    """The changes of one update."""

    tids: set[int]
    """TIDs, in the process's own PID namespace, of threads whose names may be others now."""
    lost: bool = False
    """The source is gone, or another program's: each name may be another now, as may all that is known of
    the process."""
    errors: Sequence[ReadError] = ()
    """What could not be read, to be counted."""


class NameSource(Protocol):
    """The source of the names of one process's threads. Close it with the process.

    TIDs are those of the process's own PID namespace.
    """

    @property
    def known(self) -> bool:
        """Return whether names of its threads are known."""

    @property
    def names_from(self) -> Source:
        """Return what outputs call the source; ``comm`` while no names are known."""

    @property
    def python(self) -> Python | None:
        """Return which Python the process runs; None: not known."""

    @property
    def gils(self) -> tuple[Gil, ...]:
        """Return the GILs of its interpreters, the main interpreter's first, each once."""

    @property
    def has_unread(self) -> bool:
        """Return whether the source has more than has been read: the next updates read the rest."""

    def update(self, process: ProcessDir, poll: int, used_ns: int, living: Living) -> NameChanges:
        """Read what has changed. ``used_ns``: CPU time of the process in its life.

        :raises Gone: the process has ended.
        """

    def name_of(self, tid: int, start_ticks: int, before: Name | None) -> Name | None:
        """Return the name of the thread with this TID and start time; None: not known.

        ``before``: what this has returned for that thread last.
        """

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether that thread's name is about to be told, whatever its age."""

    def missed(self, start_ticks: int) -> None:
        """Note a thread with this start time that has no name, and had the time to get one."""

    def take_ended(self) -> list[TableSlot]:
        """Return the threads whose ends have been told since the last call."""

    def last_words(self) -> None:
        """Read, after the process has gone, the ends of its threads that the source still tells."""

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID of the living thread with this ``threading.get_ident()``."""

    def still_tells(self, process: ProcessDir, gil: Gil) -> bool:
        """Return whether the process still has this GIL; exec and the end of its interpreter end it."""

    def close(self) -> None:
        """Close the source."""
