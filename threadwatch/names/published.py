"""Follows the tables that one process publishes; :mod:`.finder` finds them.

Rules:

* A name is for one thread, not for a number: the slot must have been written after the thread with
that TID was born. TIDs are the publisher's own, in its PID namespace.
* exec closes a table, and the new program's may get the same file descriptor. A young thread that
no table knows is a reason to check that the followed tables are still the process's.
* A subinterpreter makes its table at its own start: a thread that no table knows is a reason to
search again (:mod:`threadwatch.names.searches`).
* A table may be found long after it was made. For threads that had ended before the last reading,
their CPU time has already been charged to (unattributed), so it is left out here.
* Tables and slots of a process are read as far as the process has paid for that
(:mod:`threadwatch.names.slot_budget`); the rest comes with the next polls.
"""

from __future__ import annotations

from time import thread_time_ns

from threadwatch.errors import ReadError
from threadwatch.model.keys import HandoverResult, Python, Source
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.finder import FILES, HANDED_OVER, TableFinder
from threadwatch.names.searches import Searches
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.names.slots import Gil, TableHeader
from threadwatch.names.source import Living, Name, NameChanges
from threadwatch.names.table import TableChanges, TableSlot
from threadwatch.names.table_set import TableSet, still_there
from threadwatch.procfs import (
    MAX_TABLES,
    ProcessDir,
    TableFile,
)
from threadwatch.publisher.layout import ENDED


class Published:
    """The tables of one process: a :class:`~threadwatch.names.source.NameSource`. Close it with the process.

    ``budget``: what all processes together have for their second and further tables.
    """

    def __init__(
        self, *, ns_pid: int, start_ticks: int, budget: SharedBudget | None = None
    ) -> None:
        self._set = TableSet(budget or SharedBudget(MAX_TABLES))
        self._tables = self._set.all  # read for each process in each poll
        self._finder = TableFinder(ns_pid, start_ticks)
        self._youngest_unknown = 0
        self._doubtful = False
        self._has_complained = False
        self._overflow_told = 0
        """Threads without a place at the last error: the error is repeated when their number has doubled."""
        self._news = TableChanges()
        self._searches = Searches()

    @property
    def known(self) -> bool:
        """Return whether the process has a table."""
        return bool(self._tables)

    @property
    def python(self) -> Python | None:
        """Return which Python this is, by the main interpreter's table."""
        return self._set.python

    @property
    def gils(self) -> tuple[Gil, ...]:
        """Return the GILs that the tables tell of, the main interpreter's first, each once."""
        return self._set.gils

    @property
    def names_from(self) -> Source:
        """Return ``published`` if the process has a table, else ``comm``."""
        return "published" if self._tables else "comm"

    @property
    def header(self) -> TableHeader | None:
        """Return the header of the main interpreter's table: which Python this is. None without a table."""
        return self._tables[0].header if self._tables else None

    @property
    def inherited(self) -> TableHeader | None:
        """Return the header of the youngest table that this process has from another, whose fork it is."""
        return self._finder.inherited

    @property
    def has_unread(self) -> bool:
        """Return whether a table has more than has been read: the rest comes as the process pays for it."""
        return any(followed.unread for followed in self._tables)

    @property
    def searching(self) -> bool:
        """Return whether files of the process are left for the next :meth:`find`."""
        return self._finder.searching

    def stop_searching(self) -> None:
        """Search no further: there is no table."""
        self._finder.stop()

    def find(self, process: ProcessDir, part: int | None = FILES) -> list[ReadError]:
        """Look for tables among the process's file descriptors; return the errors to be counted.

        If there are more than ``part`` descriptors, the rest is left for the next call; None: no
        rest is left.

        :raises Gone: the process has ended.
        :raises Denied: its descriptors may not be seen.
        """
        errors: list[ReadError] = []
        known = {followed.file.inode for followed in self._tables}
        for found in self._finder.find(process, part, known, self._set.has_room, errors):
            self._set.add(found, self._news)
        return errors

    def take_handed(
        self, process: ProcessDir, file: TableFile, errors: list[ReadError]
    ) -> HandoverResult:
        """Judge a table that the process has handed over; follow it, or close it.

        ``errors`` gets what is to be counted as an error besides.

        :raises Gone: the process has ended.
        """
        followed = False
        try:
            if self.follows(file.inode):
                return "known"
            found = self._finder.judge_handed(file, process)
            if found is None:
                return "foreign"
            if not self._set.has_room(0):
                return "too_many"
            self._set.add(found, self._news)
            followed = True
        except ReadError as error:
            errors.append(error)
            return "foreign"
        finally:
            if not followed:
                file.close()
        return "believed"

    def search(self, process: ProcessDir) -> list[ReadError]:
        """Search for tables as :meth:`find` does; count hidden descriptors as an error like others.

        :raises Gone: the process has ended.
        """
        try:
            return self.find(process)
        except ReadError as error:
            return [error]

    def find_more(self, process: ProcessDir, poll: int, used_ns: int) -> list[ReadError]:
        """Search as :meth:`find` does, if there is a reason to, and the process has paid for it.

        ``used_ns``: CPU time of the process in its life.
        """
        if not self._searches.is_due(poll, used_ns):
            return []
        if all(followed.fd == HANDED_OVER for followed in self._tables):
            return []  # its descriptors cannot be seen; it hands over what it makes
        before, began_ns = len(self._tables), thread_time_ns()
        try:
            return self.find(process)
        finally:
            found = len(self._tables) > before
            self._searches.made(poll, used_ns, thread_time_ns() - began_ns, found=found)

    def update(
        self,
        process: ProcessDir,
        poll: int,
        used_ns: int,
        living: Living,  # noqa: ARG002  # a table tells itself which threads live
    ) -> NameChanges:
        """Read changes, and search for tables if one has gone or is missed."""
        errors: list[ReadError] = []
        lost = False
        if self._tables:
            try:
                errors += self.find_more(process, poll, used_ns)
                lost = not self.read(process)
                if lost:
                    errors += self.search(process)
                    self.read(process)
            except ReadError as error:
                errors.append(error)
        return NameChanges(self.take_changed(), lost, errors)

    def read(self, process: ProcessDir) -> bool:
        """Read changes. Return False if a table has gone: then search for another with :meth:`find`.

        :raises ReadError: a table cannot be read; what was known stays.
        :raises Gone: the process has ended; what was known stays.
        """
        whole, overflow = True, 0
        self._set.slots.begin()
        for followed in list(self._tables):
            header = followed.read(process, self._set.slots, self._set.slots_beside(followed))
            overflow = max(overflow, header.overflow if header is not None else 0)
            closed = header is not None and header.closed
            if closed or not still_there(process, followed, thoroughly=self._doubtful):
                self._set.drop(followed)
                whole = False
        self._doubtful = False
        if whole and self._set.slots.refused and not self._has_complained:
            self._has_complained = True
            detail = "the tables of all processes together have more threads than are kept"
            raise ReadError("table", "enospc", detail)
        if whole and overflow >= 2 * self._overflow_told + 1:
            self._overflow_told = overflow
            raise ReadError(
                "table", "overflow", f"{overflow:,} threads found no place in the table"
            )
        return whole

    def last_words(self) -> None:
        """Read the ends of a gone process's threads, from the tables that outlive it."""
        self._set.slots.begin()
        for followed in self._tables:
            try:
                followed.read_slots(None, self._set.slots, self._set.slots_beside(followed))
            except ReadError:
                continue

    def name_of(self, tid: int, start_ticks: int, before: Name | None) -> Name | None:
        """Return the name that is published for the thread with this TID and start time, if any is."""
        if not self._tables:
            return None
        found = self.slot(tid, start_ticks)
        if found is not None:
            inode, slot = found
            return Name(slot.name, slot.cut, "published", (inode, slot.serial))
        if before is not None and before.slot is not None and self.follows(before.slot[0]):
            return before  # another thread has its slot now, but this one has no other name
        return None

    def slot(self, ns_tid: int, start_ticks: int) -> TableSlot | None:
        """Return the slot of the thread with this TID and start time, if one is published."""
        for followed in self._tables:
            slot = followed.by_tid.get(ns_tid)
            if slot is None or slot.born_ns < (start_ticks - 1) * NS_PER_TICK:
                continue
            if slot.state == ENDED and slot.ended_ns < start_ticks * NS_PER_TICK:
                continue  # of the thread that had the TID before
            return followed.file.inode, slot
        if start_ticks > self._youngest_unknown:
            self._youngest_unknown = start_ticks
            self._doubtful = True
        return None

    def is_coming(self, tid: int, start_ticks: int) -> bool:  # noqa: ARG002  # by its age alone
        """Return False: what is in a table is told at once."""
        return False

    def missed(self, start_ticks: int) -> None:
        """Note a thread with this start time that is in no table, and had the time to publish itself."""
        self._searches.missed(start_ticks)

    def follows(self, inode: int) -> bool:
        """Return whether this table is still the process's own."""
        return self._set.has(inode)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in the target's PID namespace, of the living thread with this ident."""
        return self._set.tid_of_ident(ident)

    def still_tells(self, process: ProcessDir, gil: Gil) -> bool:
        """Return whether a table that the process still has names this GIL."""
        return self._set.still_tells(process, gil)

    def take_ended(self) -> list[TableSlot]:
        """Return the threads whose end was published since the last call."""
        return self._news.take_ended()

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were born or renamed since the last call, as published."""
        return self._news.take_changed()

    def close(self) -> None:
        """Close all tables."""
        self._set.close()
