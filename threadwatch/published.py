"""What one process publishes: finds its tables, decides whether to believe them, follows them.

Rules:

* A table is believed only if it names the process itself: its PID in the innermost PID namespace and
  its start time, and if its owner is the process's own user or root. A table that was inherited or
  handed over names another process.
* A name is for one thread, not for a number: the slot must have been written after the thread with
  that TID was born. TIDs are the publisher's own, in its PID namespace.
* A slot stays known after its thread has ended, until it is used again, because the kernel shows a
  thread a little longer than Python does.
* exec closes a table, and the new program's may get the same file descriptor. A young thread that no
  table knows is a reason to doubt that they are still those that are followed.
* A table may be found long after it was made. Of threads that had ended before the last time that
  anybody asked, the CPU time has been charged as nobody's by then: they are given without.
* However many tables and slots a process has, it is read as far as it has paid for it
  (:mod:`threadwatch.allowance`); what is left over comes with the next polls.
* A table that cannot be read, or is somebody else's forgery, is an error that is counted, once. One
  that merely names another process is not: whoever forks, or watches, holds such tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import CLOCK_BOOTTIME, clock_gettime_ns

from threadwatch import table
from threadwatch.allowance import Allowance, Room
from threadwatch.errors import Gone, Malformed, ReadError
from threadwatch.procfs import (
    MAX_TABLES,
    TABLE_LINK,
    Gil,
    ProcessDir,
    Slot,
    TableFile,
    TableHeader,
    find_tables,
    parse_header,
    parse_slots,
    parse_stat,
)

_NS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture that Linux runs CPython on
_EMPTY_RUN = bytes(table.CHUNK * table.SLOT_SIZE)
_PIECE = len(_EMPTY_RUN)
"""Slots are compared and read in pieces of so many bytes."""

TableSlot = tuple[int, Slot]
"""A slot, and the inode of its table: serials count within one table."""


@dataclass(slots=True)
class _Followed:
    """One table that is believed, and what was in it when it was last read."""

    fd: int
    file: TableFile
    header: TableHeader
    head: bytes = b""
    """The header's bytes when the slots were last read: the same again means that nothing has changed."""
    generation: int = -1
    unread: bool = False
    """Slots are left to be read: they were torn, or too many."""
    next_slot: int = 0
    """Where to begin with them."""
    known: bytes = b""
    """The bytes of the slots in use, so that only those are parsed that have changed."""
    by_index: dict[int, Slot] = field(default_factory=dict)
    by_tid: dict[int, Slot] = field(default_factory=dict)
    """The latest slot of each TID, ended or not."""
    by_ident: dict[int, Slot] = field(default_factory=dict)
    """The latest slot of each ident, as long as its thread lives."""


class Published:
    """The tables of one process. Close it with the process.

    ``room``: what all processes together have for their second and further tables.
    """

    def __init__(
        self, *, ns_pid: int, start_ticks: int, uid: int, room: Room | None = None
    ) -> None:
        self._room = room or Room(MAX_TABLES)
        self._allowance = Allowance()
        self._ns_pid = ns_pid
        self._start_ticks = start_ticks
        self._uid = uid
        self._tables: list[_Followed] = []
        self.gils: tuple[Gil, ...] = ()
        """The GILs that the tables tell of, the main interpreter's first, each once."""
        self._refused: set[int] = set()
        self._complained: set[int] = set()
        self._ended: list[TableSlot] = []
        self._asked_ns = 0
        self._youngest_unknown = 0
        self._doubtful = False
        self._changed: set[int] = set()

    @property
    def header(self) -> TableHeader | None:
        """The header of the main interpreter's table: which Python this is. None without a table."""
        return self._tables[0].header if self._tables else None

    def find(self, process: ProcessDir) -> list[ReadError]:
        """Look for tables among the process's file descriptors; gives the errors to be counted.

        :raises Gone: the process has ended.
        :raises Denied: its descriptors may not be seen.
        """
        errors: list[ReadError] = []
        known = {followed.file.inode for followed in self._tables} | self._refused
        seen = set()
        for fd in find_tables(process):
            try:
                file = process.open_table(fd)
            except Gone:
                continue
            except ReadError as error:
                errors.append(error)
                continue
            seen.add(file.inode)
            if file.inode in known:
                file.close()
                continue
            known.add(file.inode)
            if self._tables and self._room.used >= self._room.most:
                file.close()
                detail = "no file descriptors are left for another table of a process"
                errors.append(ReadError("table", "emfile", detail))
                break
            header = None
            data = file.read_header()
            if any(data):  # else it is being made at this moment
                try:
                    header = self._believed(parse_header(data), file)
                except ReadError as error:
                    if file.inode not in self._complained:
                        self._complained.add(file.inode)
                        errors.append(error)
            if header is None:
                file.close()
                continue
            self._room.used += bool(self._tables)
            self._tables.append(_Followed(fd, file, header))
        # who makes tables and closes them again does not make us remember them all
        self._refused &= seen
        self._complained &= seen
        # the main interpreter's first: where two tables know a thread, its name there counts
        self._tables.sort(key=lambda t: (max(t.header.interpreter, 0), t.header.created_ns))
        self.gils = self._gils()
        return errors

    def update(self, process: ProcessDir) -> bool:
        """Read what has changed. False if a table has gone: then look for another with :meth:`find`.

        :raises ReadError: a table cannot be read; what was known stays.
        :raises Gone: the process has ended; what was known stays.
        """
        whole = True
        self._allowance.begin()
        for followed in list(self._tables):
            head, closed = followed.file.read_header(), False
            if head != followed.head or followed.unread:
                header = parse_header(head)
                closed = header.closed
                if header.generation != followed.generation or followed.unread:
                    self._read_slots(process, followed)
                    followed.generation = header.generation
                followed.head = head
            if closed or not _still_there(process, followed, thoroughly=self._doubtful):
                self._drop(followed)
                whole = False
        self._doubtful = False
        return whole

    def last_words(self) -> None:
        """After the process has gone: read the ends of its threads from the tables that outlive it."""
        self._allowance.begin()
        for followed in self._tables:
            try:
                self._read_slots(None, followed)
            except ReadError:
                continue

    def slot(self, ns_tid: int, start_ticks: int) -> TableSlot | None:
        """What is published about the thread with this TID and start time, if anything is."""
        for followed in self._tables:
            slot = followed.by_tid.get(ns_tid)
            if slot is not None and slot.born_ns >= (start_ticks - 1) * _NS_PER_TICK:
                return followed.file.inode, slot
        if start_ticks > self._youngest_unknown:
            self._youngest_unknown = start_ticks
            self._doubtful = True
        return None

    def tid_of_ident(self, ident: int) -> int | None:
        """The TID, in the target's PID namespace, of the living thread with this ident."""
        # an end can stay unnoticed, and another interpreter's thread have the ident by now
        found = [f.by_ident[ident] for f in self._tables if ident in f.by_ident]
        return max(found, key=lambda slot: slot.born_ns).tid if found else None

    def take_ended(self) -> list[TableSlot]:
        """The threads whose end was published since this was last asked."""
        ended, self._ended = self._ended, []
        self._asked_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        return ended

    def take_changed(self) -> set[int]:
        """The TIDs of threads that were born or renamed since this was last asked, as published."""
        changed, self._changed = self._changed, set()
        return changed

    def close(self) -> None:
        """Let go of all tables."""
        for followed in list(self._tables):
            self._drop(followed)

    def _drop(self, followed: _Followed) -> None:
        self._tables.remove(followed)
        self._room.used -= bool(self._tables)
        followed.file.close()
        self.gils = self._gils()

    def _gils(self) -> tuple[Gil, ...]:
        gils: dict[int, Gil] = {}
        for followed in self._tables:
            if followed.header.gil is not None:
                gils.setdefault(followed.header.gil.address, followed.header.gil)
        return tuple(gils.values())

    def _believed(self, header: TableHeader, file: TableFile) -> TableHeader | None:
        """The header, if it is this process's own and in use; else the table is not looked at again."""
        self._refused.add(file.inode)
        if header.pid != self._ns_pid or header.start_ticks != self._start_ticks:
            return None  # inherited by a fork, or held open by a daemon like ours
        if file.owner_uid not in (self._uid, 0):
            raise Malformed("table", f"belongs to uid {file.owner_uid}, not {self._uid}")
        if header.closed:
            return None
        self._refused.discard(file.inode)
        return header

    def _read_slots(self, process: ProcessDir | None, followed: _Followed) -> None:
        """Read the slots that have changed, as far as they are allowed for; None: it has ended."""
        data = self._bytes_of_slots(followed)
        pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
        first = followed.next_slot % max(len(pieces), 1)
        followed.unread = False
        for index in (*range(first, len(pieces)), *range(first)):
            start = index * _PIECE
            known = followed.known[start : start + len(pieces[index])]
            if pieces[index] == known:
                continue
            if not self._allowance.allows(process):
                if not followed.unread:
                    followed.next_slot = index
                followed.unread = True
                pieces[index] = known.ljust(len(pieces[index]), b"\0")
                continue
            slots, torn = parse_slots(pieces[index], start // table.SLOT_SIZE, known=known)
            for number, slot in slots:
                self._learn(followed, number, slot)
            self._allowance.spend(len(slots) + torn)
            if torn:
                # bytes that were torn must not pass for known ones when they are read again
                pieces[index] = bytes(len(pieces[index]))
                followed.unread = True
        followed.known = b"".join(pieces)

    def _bytes_of_slots(self, followed: _Followed) -> bytes:
        """All slots up to the last that is in use; those of a process's tables together fit into one."""
        others = sum(len(other.known) for other in self._tables if other is not followed)
        most = min(followed.header.capacity, table.CAPACITY - others // table.SLOT_SIZE)
        count = min(len(followed.known) // table.SLOT_SIZE + table.CHUNK, most)
        data = followed.file.read_slots(0, count)
        while data[-len(_EMPTY_RUN) :] != _EMPTY_RUN and count < most:
            more = min(count, most - count)
            data += followed.file.read_slots(count, more)
            count += more
        while data.endswith(_EMPTY_RUN):
            data = data[: -len(_EMPTY_RUN)]
        return data

    def _learn(self, followed: _Followed, index: int, slot: Slot) -> None:
        before = followed.by_index.get(index)
        followed.by_index[index] = slot
        if slot.state == table.LIVE:
            self._changed.add(slot.tid)
        if before is not None:
            if before.serial != slot.serial:
                _forget(followed.by_tid, before.tid, before)
            _forget(followed.by_ident, before.ident, before)
        _remember(followed.by_tid, slot.tid, slot)
        if slot.state == table.LIVE:
            _remember(followed.by_ident, slot.ident, slot)
        newly_ended = before is None or before.serial != slot.serial or before.state == table.LIVE
        if slot.state == table.ENDED and newly_ended:
            if followed.generation < 0 and slot.ended_ns < self._asked_ns:
                slot = replace(slot, cpu_ns=None)
            self._ended.append((followed.file.inode, slot))


def _forget(slots: dict[int, Slot], number: int, slot: Slot) -> None:
    latest = slots.get(number)
    if latest is not None and latest.serial == slot.serial:
        del slots[number]


def _remember(slots: dict[int, Slot], number: int, slot: Slot) -> None:
    latest = slots.get(number)
    if latest is None or latest.serial <= slot.serial:
        slots[number] = slot


def _still_there(process: ProcessDir, followed: _Followed, *, thoroughly: bool) -> bool:
    """Whether the process still has the table: exec closes it, and so can the application.

    Only the thorough question, ten times as dear, tells it from another table at the same place.

    :raises Gone: the process has ended.
    """
    try:
        if not thoroughly:
            return bool(process.fd_link(followed.fd) == TABLE_LINK)
        file = process.open_table(followed.fd)
        file.close()
        return bool(file.inode == followed.file.inode)
    except Gone:
        # a leader that has ended before its threads has no files, but they have
        return parse_stat(process.read("stat", "stat")).state == "Z"
