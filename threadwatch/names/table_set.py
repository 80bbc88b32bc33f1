"""Keeps the tables of one process that are believed: how many, in which order, and what they tell together.

Each table that is followed costs the daemon a file descriptor and memory, of which all processes together
have a share (:mod:`threadwatch.names.slot_budget`).
"""

from __future__ import annotations

from threadwatch.errors import Gone, ReadError
from threadwatch.model.keys import Python
from threadwatch.names.finder import HANDED_OVER, FoundTable
from threadwatch.names.slot_budget import SharedBudget, SlotBudget
from threadwatch.names.slots import Gil, parse_header
from threadwatch.names.table import FollowedTable, TableChanges
from threadwatch.procfs import TABLE_LINK, ProcessDir, parse_stat


class TableSet:
    """The tables of one process. Close it with the process."""

    def __init__(self, budget: SharedBudget) -> None:
        """``budget``: what all processes together have for their second and further tables."""
        self.all: list[FollowedTable] = []
        """The main interpreter's first: if two tables know a thread, the name there counts."""
        self.gils: tuple[Gil, ...] = ()
        """The GILs that the tables tell of, the main interpreter's first, each once."""
        self.python: Python | None = None
        """Which Python this is, by the main interpreter's table."""
        self.slots = SlotBudget(budget)
        self._budget = budget

    def add(self, found: FoundTable, news: TableChanges) -> None:
        """Follow a table; it reports changes to ``news``."""
        if self.all:
            self._budget.take_file()
        self.all.append(
            FollowedTable(
                found.fd,
                found.file,
                found.header,
                news,
                ahead_ns=found.ahead_ns,
                found_ns=news.asked_ns,
            )
        )
        self.all.sort(key=lambda t: (max(t.header.interpreter, 0), t.header.created_ns))
        self._note_interpreters()

    def drop(self, followed: FollowedTable) -> None:
        """Follow a table no longer, and close it."""
        self.all.remove(followed)
        if self.all:
            self._budget.give_back_file()
        self.slots.give_back(self.slots_beside(followed))
        followed.file.close()
        self._note_interpreters()

    def close(self) -> None:
        """Close all tables."""
        for followed in list(self.all):
            self.drop(followed)

    def has_room(self, found: int) -> bool:
        """Return whether one more table may be kept open, beside those and this many that were found."""
        if not self.all and not found:
            return True  # each process may have one
        return self._budget.files_left > (found if self.all else found - 1)

    def slots_beside(self, followed: FollowedTable) -> int:
        """Return how many slots are kept of the other tables."""
        return sum(other.slots for other in self.all if other is not followed)

    def has(self, inode: int) -> bool:
        """Return whether this table is followed."""
        return any(followed.file.inode == inode for followed in self.all)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in the target's PID namespace, of the living thread with this ident."""
        # An end can stay unnoticed, and another interpreter's thread can have the ident afterwards.
        found = [f.by_ident[ident] for f in self.all if ident in f.by_ident]
        return max(found, key=lambda slot: slot.born_ns).tid if found else None

    def still_tells(self, process: ProcessDir, gil: Gil) -> bool:
        """Return whether a table that the process still has names this GIL; one that has ended has none."""
        for followed in self.all:
            if followed.header.gil == gil:
                try:
                    header = parse_header(followed.file.read_header())
                    if not header.closed and _holds(process, followed, thoroughly=True):
                        return True
                except (Gone, ReadError):
                    continue
        return False

    def _note_interpreters(self) -> None:
        gils: dict[int, Gil] = {}
        for followed in self.all:
            if followed.header.gil is not None:
                gils.setdefault(followed.header.gil.address, followed.header.gil)
        self.gils = tuple(gils.values())
        self.python = None
        if self.all:
            header = self.all[0].header
            gil = bool(gils) or not header.free_threaded
            self.python = Python(header.implementation, header.python, header.free_threaded, gil)


def still_there(process: ProcessDir, followed: FollowedTable, *, thoroughly: bool) -> bool:
    """Return whether the process still has the table: exec closes it, and so can the application.

    ``thoroughly``: see :func:`_holds`.

    :raises Gone: the process has ended.
    """
    try:
        return _holds(process, followed, thoroughly=thoroughly)
    except Gone:
        # A leader that has ended before its threads has no files, but they have.
        return parse_stat(process.read("stat", "stat")).state == "Z"


def _holds(process: ProcessDir, followed: FollowedTable, *, thoroughly: bool) -> bool:
    """Return whether the process has the table open.

    Only the thorough check, ten times as expensive, tells the table from another one at the same place. A
    table that was handed over is locked as long as the process has it.

    :raises Gone: it has no such descriptor, or has ended.
    """
    if followed.fd == HANDED_OVER:
        return followed.file.is_locked()
    if not thoroughly:
        return bool(process.fd_link(followed.fd) == TABLE_LINK)
    file = process.open_table(followed.fd)
    file.close()
    return bool(file.inode == followed.file.inode)
