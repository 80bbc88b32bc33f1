"""Chooses the best source of names that a process has: its tables, else its memory.

A table tells more than memory does: threads that live and end between two polls, the moments of births and
ends, and the CPU time of a thread that has ended. So memory is read only as long as there is no table.
"""

from __future__ import annotations

from collections.abc import Callable

from threadwatch.model.keys import Python, Source
from threadwatch.names.memory.source import MemoryNames
from threadwatch.names.published import Published
from threadwatch.names.slots import Gil
from threadwatch.names.source import Living, Name, NameChanges
from threadwatch.names.table import TableSlot
from threadwatch.procfs import ProcessDir


class BestNames:
    """The names of one process by its tables, or by its memory if that is wanted."""

    def __init__(
        self, tables: Published, memory: MemoryNames, *, wanted: Callable[[], bool]
    ) -> None:
        """``wanted``: whether names are to be read from memory where there is no table."""
        self._tables = tables
        self.memory = memory
        self._wanted = wanted

    @property
    def known(self) -> bool:
        """Return whether names of its threads are known."""
        return self._tables.known or self.memory.known

    @property
    def names_from(self) -> Source:
        """Return what the source is called in outputs; ``comm`` while no names are known."""
        if self._tables.known:
            return "published"
        return "memory" if self.memory.known else "comm"

    @property
    def python(self) -> Python | None:
        """Return which Python the process runs; None: not known."""
        return self._tables.python if self._tables.known else self.memory.python

    @property
    def gils(self) -> tuple[Gil, ...]:
        """Return the GILs of its interpreters, the main interpreter's first, each once."""
        return self._tables.gils if self._tables.known else self.memory.gils

    @property
    def has_unread(self) -> bool:
        """Return whether a table has more than has been read."""
        return self._tables.has_unread

    def update(self, process: ProcessDir, poll: int, used_ns: int, living: Living) -> NameChanges:
        """Read what has changed. ``used_ns``: CPU time of the process in its life.

        :raises Gone: the process has ended.
        """
        changes = self._tables.update(process, poll, used_ns, living)
        all_tids = False
        if self._tables.known or not self._wanted():
            if self.memory.known:
                self.memory.forget()
                all_tids = True
        else:
            changed, all_tids = self.memory.update(process, poll, used_ns, living)
            changes.tids.update(changed)
        if all_tids:
            changes.tids.update(living.started())
        return changes

    def name_of(self, tid: int, start_ticks: int, before: Name | None) -> Name | None:
        """Return the name of the thread with this TID and start time; None: not known."""
        if self._tables.known:
            return self._tables.name_of(tid, start_ticks, before)
        return self.memory.name_of(tid, start_ticks)

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether that thread's name has been read, and is about to be told."""
        return not self._tables.known and self.memory.is_coming(tid, start_ticks)

    def missed(self, start_ticks: int) -> None:
        """Note a thread with this start time that has no name, and had the time to get one."""
        if self._tables.known:
            self._tables.missed(start_ticks)

    def take_ended(self) -> list[TableSlot]:
        """Return the threads whose ends have been told since the last call."""
        return self._tables.take_ended()

    def last_words(self) -> None:
        """Read, after the process has gone, the ends of its threads that its tables still tell."""
        self._tables.last_words()

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID of the living thread with this ``threading.get_ident()``."""
        source = self._tables if self._tables.known else self.memory
        return source.tid_of_ident(ident)

    def still_tells(self, process: ProcessDir, gil: Gil) -> bool:
        """Return whether the process has this GIL even now."""
        if self._tables.known:
            return self._tables.still_tells(process, gil)
        return self.memory.still_tells(gil)

    def close(self) -> None:
        """Let go of the tables, and of the memory."""
        self._tables.close()
        self.memory.forget()
