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

from threadwatch.errors import Gone, ReadError
from threadwatch.model.keys import HandoverResult, Python, Source
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.finder import FILES, HANDED_OVER, FoundTable, TableFinder
from threadwatch.names.searches import Searches
from threadwatch.names.slot_budget import SharedBudget, SlotBudget
from threadwatch.names.slots import Gil, TableHeader, parse_header
from threadwatch.names.source import Living, Name, NameChanges
from threadwatch.names.table import FollowedTable, TableChanges, TableSlot
from threadwatch.procfs import (
    MAX_TABLES,
    TABLE_LINK,
    ProcessDir,
    TableFile,
    parse_stat,
)


class Published:
    """The tables of one process: a :class:`~threadwatch.names.source.NameSource`. Close it with the process.

    ``budget``: what all processes together have for their second and further tables.
    """

    def __init__(
        self, *, ns_pid: int, start_ticks: int, budget: SharedBudget | None = None
    ) -> None:
        self._budget = budget or SharedBudget(MAX_TABLES)
        self._slots = SlotBudget(self._budget)
        self._tables: list[FollowedTable] = []
        self.gils: tuple[Gil, ...] = ()
        """The GILs that the tables tell of, the main interpreter's first, each once."""
        self.python: Python | None = None
        """Which Python this is, by the main interpreter's table."""
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
        """Return whether the process has so many files that the next :meth:`find` is to go on with them."""
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
        for found in self._finder.find(process, part, known, self._has_room, errors):
            self._follow(found)
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
            if not self._has_room(0):
                return "too_many"
            self._follow(found)
            followed = True
        except ReadError as error:
            errors.append(error)
            return "foreign"
        finally:
            if not followed:
                file.close()
        return "believed"

    def _follow(self, found: FoundTable) -> None:
        if self._tables:
            self._budget.take_file()
        self._tables.append(
            FollowedTable(
                found.fd,
                found.file,
                found.header,
                self._news,
                ahead_ns=found.ahead_ns,
                found_ns=self._news.asked_ns,
            )
        )
        # The main interpreter's first: if two tables know a thread, the name there counts.
        self._tables.sort(key=lambda t: (max(t.header.interpreter, 0), t.header.created_ns))
        self._note_interpreters()

    def _has_room(self, found: int) -> bool:
        """Return whether one more table may be kept open, beside those and this many that were found."""
        if not self._tables and not found:
            return True  # each process may have one
        return self._budget.files_left > (found if self._tables else found - 1)

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
        self._slots.begin()
        for followed in list(self._tables):
            header = followed.read(process, self._slots, self._slots_of_others(followed))
            overflow = max(overflow, header.overflow if header is not None else 0)
            closed = header is not None and header.closed
            if closed or not _still_there(process, followed, thoroughly=self._doubtful):
                self._drop(followed)
                whole = False
        self._doubtful = False
        if whole and self._slots.refused and not self._has_complained:
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
        self._slots.begin()
        for followed in self._tables:
            try:
                followed.read_slots(None, self._slots, self._slots_of_others(followed))
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
            return before  # another thread has its slot by now, but it has no other name
        return None

    def slot(self, ns_tid: int, start_ticks: int) -> TableSlot | None:
        """Return the slot of the thread with this TID and start time, if one is published."""
        for followed in self._tables:
            slot = followed.by_tid.get(ns_tid)
            if slot is not None and slot.born_ns >= (start_ticks - 1) * NS_PER_TICK:
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
        return any(followed.file.inode == inode for followed in self._tables)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in the target's PID namespace, of the living thread with this ident."""
        # An end can stay unnoticed, and another interpreter's thread can have the ident by now.
        found = [f.by_ident[ident] for f in self._tables if ident in f.by_ident]
        return max(found, key=lambda slot: slot.born_ns).tid if found else None

    def still_tells(self, process: ProcessDir, gil: Gil) -> bool:
        """Return whether a table that the process still has names this GIL."""
        for followed in self._tables:
            if followed.header.gil == gil:
                try:
                    header = parse_header(followed.file.read_header())
                    if not header.closed and _still_there(process, followed, thoroughly=True):
                        return True
                except (Gone, ReadError):
                    continue
        return False

    def take_ended(self) -> list[TableSlot]:
        """Return the threads whose end was published since the last call."""
        return self._news.take_ended()

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were born or renamed since the last call, as published."""
        return self._news.take_changed()

    def close(self) -> None:
        """Close all tables."""
        for followed in list(self._tables):
            self._drop(followed)

    def _drop(self, followed: FollowedTable) -> None:
        self._tables.remove(followed)
        if self._tables:
            self._budget.give_back_file()
        self._slots.give_back(self._slots_of_others(followed))
        followed.file.close()
        self._note_interpreters()

    def _note_interpreters(self) -> None:
        gils: dict[int, Gil] = {}
        for followed in self._tables:
            if followed.header.gil is not None:
                gils.setdefault(followed.header.gil.address, followed.header.gil)
        self.gils = tuple(gils.values())
        header = self.header
        self.python = None
        if header is not None:
            gil = bool(gils) or not header.free_threaded
            self.python = Python(header.implementation, header.python, header.free_threaded, gil)

    def _slots_of_others(self, followed: FollowedTable) -> int:
        """Return how many slots are kept of the other tables."""
        return sum(other.slots for other in self._tables if other is not followed)


def _still_there(process: ProcessDir, followed: FollowedTable, *, thoroughly: bool) -> bool:
    """Return whether the process still has the table: exec closes it, and so can the application.

    Only the thorough check, ten times as expensive, tells it from another table at the same place. One that
    was handed over is locked as long as the process has it.

    :raises Gone: the process has ended.
    """
    if followed.fd == HANDED_OVER:
        return followed.file.is_locked()
    try:
        if not thoroughly:
            return bool(process.fd_link(followed.fd) == TABLE_LINK)
        file = process.open_table(followed.fd)
        file.close()
        return bool(file.inode == followed.file.inode)
    except Gone:
        # A leader that has ended before its threads has no files, but they have.
        return parse_stat(process.read("stat", "stat")).state == "Z"
