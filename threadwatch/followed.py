"""One table that is followed: which of its slots have changed, and what they tell.

A slot stays known after its thread has ended, until it is used again, because the kernel shows a thread a
little longer than Python does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from threadwatch import table
from threadwatch.allowance import Allowance
from threadwatch.procfs import ProcessDir, Slot, TableFile, TableHeader, parse_slots

_EMPTY_RUN = bytes(table.CHUNK * table.SLOT_SIZE)
_PIECE = len(_EMPTY_RUN)
"""Slots are compared and read in pieces of so many bytes."""

TableSlot = tuple[int, Slot]
"""A slot, and the inode of its table: serials count within one table."""


@dataclass(slots=True)
class News:
    """What the tables of a process have told of since somebody asked."""

    ended: list[TableSlot] = field(default_factory=list)
    asked_ns: int = 0
    """When somebody asked for those (CLOCK_BOOTTIME)."""
    changed: set[int] = field(default_factory=set)
    """TIDs of threads that were born or renamed."""


@dataclass(slots=True, eq=False)
class Followed:
    """One table that is believed, and what was in it when it was last read."""

    fd: int
    file: TableFile
    header: TableHeader
    news: News
    """Where to tell of changes."""
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

    def read_slots(self, process: ProcessDir | None, allowance: Allowance, most: int) -> None:
        """Read what has changed of the first so many slots, as far as is allowed. None: it has ended."""
        data = self._bytes_of_slots(most)
        pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
        first = self.next_slot % max(len(pieces), 1)
        self.unread = False
        for index in (*range(first, len(pieces)), *range(first)):
            start = index * _PIECE
            known = self.known[start : start + len(pieces[index])]
            if pieces[index] == known:
                continue
            if not allowance.allows(process):
                if not self.unread:
                    self.next_slot = index
                self.unread = True
                pieces[index] = known.ljust(len(pieces[index]), b"\0")
                continue
            slots, torn = parse_slots(pieces[index], start // table.SLOT_SIZE, known=known)
            for number, slot in slots:
                self._learn(number, slot)
            allowance.spend(len(slots) + torn)
            if torn:
                # bytes that were torn must not pass for known ones when they are read again
                pieces[index] = bytes(len(pieces[index]))
                self.unread = True
        self.known = b"".join(pieces)

    def _bytes_of_slots(self, most: int) -> bytes:
        """All slots up to the last that is in use."""
        most = min(self.header.capacity, most)
        count = min(len(self.known) // table.SLOT_SIZE + table.CHUNK, most)
        data = self.file.read_slots(0, count)
        while data[-len(_EMPTY_RUN) :] != _EMPTY_RUN and count < most:
            more = min(count, most - count)
            data += self.file.read_slots(count, more)
            count += more
        while data.endswith(_EMPTY_RUN):
            data = data[: -len(_EMPTY_RUN)]
        return data

    def _learn(self, index: int, slot: Slot) -> None:
        before = self.by_index.get(index)
        self.by_index[index] = slot
        if slot.state == table.LIVE:
            self.news.changed.add(slot.tid)
        if before is not None:
            if before.serial != slot.serial:
                _forget(self.by_tid, before.tid, before)
            _forget(self.by_ident, before.ident, before)
        _remember(self.by_tid, slot.tid, slot)
        if slot.state == table.LIVE:
            _remember(self.by_ident, slot.ident, slot)
        newly_ended = before is None or before.serial != slot.serial or before.state == table.LIVE
        if slot.state == table.ENDED and newly_ended:
            if self.generation < 0 and slot.ended_ns < self.news.asked_ns:
                slot = replace(slot, cpu_ns=None)
            self.news.ended.append((self.file.inode, slot))


def _forget(slots: dict[int, Slot], number: int, slot: Slot) -> None:
    latest = slots.get(number)
    if latest is not None and latest.serial == slot.serial:
        del slots[number]


def _remember(slots: dict[int, Slot], number: int, slot: Slot) -> None:
    latest = slots.get(number)
    if latest is None or latest.serial <= slot.serial:
        slots[number] = slot
