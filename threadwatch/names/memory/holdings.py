"""Keeps what is known of the entries of one interpreter's ``threading._active`` from poll to poll.

An entry is *to be followed*; or it has *failed*, because it leads to no thread, and is tried again later; or
its chain is *held*: it has been read twice and *waits* for a third reading, or has been *confirmed* by that.
Chains are found by thread, so that no question costs more the more threads there are.

Confirmed chains are kept in batches, which are compared with the memory a few pages at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from threadwatch.names.memory.chain import Chain, Entry
from threadwatch.names.memory.entries import Entries
from threadwatch.names.memory.pages import Pages, Step
from threadwatch.names.memory.roots import Root
from threadwatch.names.memory.snapshot import Memory
from threadwatch.names.memory.walk import Python

IN_TURN = 128
"""Of more names than :data:`ALL`, those of threads that have run are compared, and about this many others."""
ALL = 64
"""This many names are compared at once."""

_BATCH = 64
_FEW = 16
"""A batch that has fewer chains left is given up, and they join another."""
_WHOLE = 4
"""Of a batch, this many chains cost as much as the whole of it."""
_LONGEST_WAIT = 32


@dataclass(slots=True, eq=False)
class Held:
    """A chain that has been read twice or more."""

    entry: Entry
    tid: int
    ident: int
    start_ticks: int
    """When its thread started."""
    read_ns: int
    """When it was read for the second time."""
    watched: tuple[Step, ...]
    """Where a new name shows."""
    chain: Chain | None
    """All of it, until it is confirmed."""
    batch: Batch | None = None
    """Where it is, as soon as it is confirmed."""


class Batch:
    """Confirmed chains that are compared together."""

    __slots__ = ("_pages", "members")

    def __init__(self) -> None:
        self.members: set[Held] = set()
        self._pages: Pages[Held] | None = None

    def add(self, held: Held) -> None:
        """Compare this one with the others."""
        self.members.add(held)
        self._pages = None

    def remove(self, held: Held) -> None:
        """Compare this one no longer."""
        self.members.remove(held)
        self._pages = None

    def changed(self, memory: Memory) -> set[Held]:
        """Return those whose names are others now. Raises Gone."""
        if self._pages is None:
            self._pages = pages_of(self.members)
        return self._pages.changed(memory)


def pages_of(chains: Iterable[Held]) -> Pages[Held]:
    """Return where new names of those show."""
    return Pages((held, step) for held in chains for step in held.watched)


class Holdings:
    """The entries of one ``threading._active``, and what is held of them."""

    def __init__(self, python: Python, root: Root) -> None:
        self.root = root
        self.held: dict[Entry, Held] = {}
        self.waiting: dict[Entry, Held] = {}
        """Those that have not been confirmed."""
        self.to_follow: set[Entry] = set()
        self._entries = Entries(python, root.active)
        self._failed: dict[Entry, tuple[int, int]] = {}
        """In which update an entry is tried again, and after how many."""
        self._again: list[tuple[int, Entry]] = []
        """The same as a heap, with what is not true any more."""
        self._by_tid: dict[int, list[Held]] = {}
        self._by_ident: dict[int, Held] = {}
        self._batches: list[Batch] = []
        self._next = 0
        """The batch whose turn it is."""

    def begin_at(self, root: Root) -> None:
        """Follow entries from there: the same dict, whose main thread may be another Thread."""
        self.root = root

    @property
    def many(self) -> bool:
        """Return whether there are more names than are compared at once."""
        return len(self.held) > ALL

    def unsettled(self, update: int) -> bool:
        """Return whether an entry is to be followed in that update, or a chain to be confirmed."""
        return bool(
            self.waiting
            or self.to_follow
            or not self._entries.known
            or (self._again and self._again[0][0] <= update)
        )

    def of_thread(self, tid: int) -> Collection[Held]:
        """Return what is held of that thread."""
        return self._by_tid.get(tid, ())

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID of the thread with that ident."""
        held = self._by_ident.get(ident)
        return None if held is None else held.tid

    def read(self, memory: Memory, threads: int) -> None:
        """Read which entries there are. Raises as :meth:`.roots.Entries.read`."""
        gone, new = self._entries.read(memory, threads)
        for entry in gone:
            if (held := self.held.get(entry)) is not None:
                self.let_go(held)
            self._failed.pop(entry, None)
            self.to_follow.discard(entry)
        self.to_follow |= new

    def forget(self, tids: Iterable[int], threads: Mapping[int, int]) -> None:
        """Let go of what is held of those threads, if they have ended: another can have its addresses."""
        for tid in tids:
            for held in list(self.of_thread(tid)):
                if threads.get(tid) != held.start_ticks:
                    self.let_go(held)

    def forget_ended(self, threads: Mapping[int, int]) -> None:
        """Let go of what is held of any thread that has ended."""
        self.forget(list(self._by_tid), threads)

    def hold(self, chain: Chain, start_ticks: int, now_ns: int) -> None:
        """Hold a chain that has just been read for the second time."""
        entry, tid, ident = chain.entry, chain.tid, chain.ident
        held = Held(entry, tid, ident, start_ticks, now_ns, chain.watched, chain)
        self.held[entry] = self.waiting[entry] = held
        self._by_tid.setdefault(tid, []).append(held)
        self._by_ident[ident] = held
        self.to_follow.discard(entry)
        self._failed.pop(entry, None)

    def confirm(self, held: Held) -> None:
        """Note that a chain has been read a third time."""
        del self.waiting[held.entry]
        held.chain = None
        if not self._batches or len(self._batches[-1].members) >= _BATCH:
            self._batches.append(Batch())
        self._join(held, self._batches[-1])

    def let_go(self, held: Held) -> None:
        """Hold a chain no longer: its entry is to be followed anew."""
        del self.held[held.entry]
        self.to_follow.add(held.entry)
        self.waiting.pop(held.entry, None)
        of_thread = self._by_tid[held.tid]
        of_thread.remove(held)
        if not of_thread:
            del self._by_tid[held.tid]
        if self._by_ident.get(held.ident) is held:
            del self._by_ident[held.ident]
        if held.batch is not None:
            self._leave(held, held.batch)

    def fail(self, entry: Entry, update: int) -> None:
        """Note that an entry leads to no thread, in that update: try it again in a later one."""
        _, wait = self._failed.get(entry, (0, 0))
        wait = min(2 * wait or 1, _LONGEST_WAIT)
        self._failed[entry] = update + wait, wait
        heappush(self._again, (update + wait, entry))
        self.to_follow.discard(entry)

    def retry(self) -> None:
        """Have all entries that have failed followed: one of them can be a new thread's."""
        self.to_follow |= self._failed.keys()
        self._failed.clear()
        self._again.clear()

    def due(self, update: int) -> list[Entry]:
        """Return the entries to follow in that update, those together whose threads lie together."""
        again = self._again
        while again and again[0][0] <= update:
            when, entry = heappop(again)
            if self._failed.get(entry, (0, 0))[0] == when:
                self.to_follow.add(entry)
        return sorted(self.to_follow, key=lambda entry: entry[1])

    def to_compare(self, ran: Collection[int]) -> tuple[list[Batch], list[Held]]:
        """Return the confirmed chains to compare: all of few; of many what has run, and some."""
        if not self.many:
            return list(self._batches), []
        of_batch: dict[Batch, list[Held]] = {}
        for tid in ran:
            for held in self._by_tid.get(tid, ()):
                if held.batch is not None:
                    of_batch.setdefault(held.batch, []).append(held)
        batches = {batch: None for batch, ones in of_batch.items() if len(ones) >= _WHOLE}
        batches.update(dict.fromkeys(self._turn()))
        return list(batches), [
            held for batch, ones in of_batch.items() if batch not in batches for held in ones
        ]

    def _turn(self) -> list[Batch]:
        taken: list[Batch] = []
        count = 0
        while count < IN_TURN and len(taken) < len(self._batches):
            self._next %= len(self._batches)
            taken.append(self._batches[self._next])
            count += len(taken[-1].members)
            self._next += 1
        return taken

    def _join(self, held: Held, batch: Batch) -> None:
        batch.add(held)
        held.batch = batch

    def _leave(self, held: Held, batch: Batch) -> None:
        batch.remove(held)
        last = self._batches[-1]
        if len(batch.members) >= _FEW or (batch is last and batch.members):
            return
        number = self._batches.index(batch)
        del self._batches[number]
        if number < self._next:
            self._next -= 1
        for other in batch.members:
            self._join(other, last)
