"""Follows one table: which of its slots have changed, and what they say.

A slot stays known after its thread has ended, until it is used again, because the kernel shows a thread a
little longer than Python does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import CLOCK_BOOTTIME, clock_gettime_ns

from threadwatch.names.slot_budget import SlotBudget
from threadwatch.names.slots import Slot, TableHeader, parse_header, parse_slots
from threadwatch.procfs import ProcessDir, TableFile
from threadwatch.publisher import layout as table

_EMPTY_SLOT = bytes(table.SLOT_SIZE)

TableSlot = tuple[int, Slot]
"""A slot, and the inode of its table: serials count within one table."""


@dataclass(slots=True)
class TableChanges:
    """The changes in the tables of a process since the last call for them."""

    ended: list[TableSlot] = field(default_factory=list)
    asked_ns: int = 0
    """When the ends were last asked for (CLOCK_BOOTTIME)."""
    changed: set[int] = field(default_factory=set)
    """TIDs of threads that were born or renamed."""

    def take_ended(self) -> list[TableSlot]:
        """Return the threads whose ends have been told since the last call."""
        ended, self.ended = self.ended, []
        self.asked_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        return ended

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were born or renamed since the last call."""
        changed, self.changed = self.changed, set()
        return changed


@dataclass(slots=True, eq=False)
class FollowedTable:
    """One believed table, and its content at the last reading."""

    fd: int
    file: TableFile
    header: TableHeader
    news: TableChanges
    """The place to report changes to."""
    head: bytes = b""
    """The header's bytes at the last reading of slots: the same bytes mean that no slot has changed."""
    generation: int = -1
    ahead_ns: int = 0
    """How far its maker's clock is ahead of ours, in ns: not 0 in another time namespace."""
    found_ns: int = 0
    """The last call for ends before the table was found (CLOCK_BOOTTIME): CPU time of threads that
    had ended before that call has already been charged to (unattributed)."""
    unread: bool = False
    """Slots are left to be read: they were torn, or too many."""
    next_piece: int = 0
    """The piece to begin with."""
    pieces: list[bytes] = field(default_factory=list)
    """The bytes of the slots in use, so that only those are parsed that have changed."""
    slots: int = 0
    """The number of those slots."""
    by_index: dict[int, Slot] = field(default_factory=dict)
    by_tid: dict[int, Slot] = field(default_factory=dict)
    """The latest slot of each TID, ended or not."""
    by_ident: dict[int, Slot] = field(default_factory=dict)
    """The latest slot of each ident, as long as its thread lives."""

    def read(self, process: ProcessDir, budget: SlotBudget, others: int) -> TableHeader | None:
        """Read what has changed, as far as is allowed; return the header, None if it has not changed.

        ``others``: the slots that are kept of the process's other tables.

        :raises ReadError: it cannot be read; what was known stays.
        """
        head = self.file.read_header()
        if head == self.head and not self.unread:
            return None
        header = parse_header(head)
        if header.generation != self.generation or self.unread:
            self.read_slots(process, budget, others)
            self.generation = header.generation
        self.head = head
        return header

    def read_slots(self, process: ProcessDir | None, budget: SlotBudget, others: int) -> None:
        """Read what has changed, as far as is allowed. ``process``: None if it has ended.

        ``others``: the slots that are kept of the process's other tables.
        """
        first = self.next_piece if self.next_piece < len(self.pieces) else 0
        self.unread = False
        for index in (*range(first, len(self.pieces)), *range(first)):
            if not budget.allows(process):
                self.unread, self.next_piece = True, index
                return
            self._read_piece(index, process, budget, others)
        # A run of empty slots is the end, whatever follows.
        while len(self.pieces) * table.CHUNK < self.header.capacity:
            more = self._read_piece(len(self.pieces), process, budget, others)
            if not more:
                return

    def _read_piece(
        self, index: int, process: ProcessDir | None, budget: SlotBudget, others: int
    ) -> bool:
        """Read one piece, or the first unknown one; return whether it is known now."""
        first = index * table.CHUNK
        data = self.file.read_slots(first, min(table.CHUNK, self.header.capacity - first))
        is_new = index == len(self.pieces)
        known = b"" if is_new else self.pieces[index]
        if data == known.ljust(len(data), b"\0"):
            budget.spend(process, 0 if is_new else 1)
            return not is_new
        if is_new and not budget.allows(process):
            self.unread, self.next_piece = True, index
            return False
        used = len(data)
        while used > len(known) and data.endswith(_EMPTY_SLOT, 0, used):
            used -= table.SLOT_SIZE
        kept = data[:used]
        grown = (len(kept) - len(known)) // table.SLOT_SIZE
        if grown > 0 and not budget.keep(process, others + self.slots + grown):
            self.unread = True
            if is_new:
                return False
            kept, grown = kept[: len(known)], 0
        slots, torn = parse_slots(kept, first, known=known)
        for number, slot in slots:
            self._learn(number, slot.by_our_clock(self.ahead_ns) if self.ahead_ns else slot)
        budget.spend(process, len(slots) + torn + 1)
        if torn:
            # Torn bytes must not count as known ones at the next reading.
            kept = bytes(len(kept))
            self.unread = True
        self.pieces[index : index + 1] = [kept]
        self.slots += grown
        return True

    def _learn(self, index: int, slot: Slot) -> None:
        before = self.by_index.get(index)
        self.by_index[index] = slot
        if slot.state == table.LIVE:
            self.news.changed.add(slot.tid)
        if before is not None:
            if (before.serial, before.tid) != (slot.serial, slot.tid):
                _forget(self.by_tid, before.tid, before)
            _forget(self.by_ident, before.ident, before)
        _remember(self.by_tid, slot.tid, slot)
        if slot.state == table.LIVE:
            _remember(self.by_ident, slot.ident, slot)
        newly_ended = before is None or before.serial != slot.serial or before.state == table.LIVE
        if slot.state == table.ENDED and newly_ended:
            if slot.ended_ns < self.found_ns:
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
