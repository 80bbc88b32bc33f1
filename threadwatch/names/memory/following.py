"""Follows the names of one process's threads from poll to poll, at little cost, and never tells a wrong one.

A name is told after three equal readings of its whole chain (:mod:`.chain`): as it was followed, right after
that, and 2 ms later or in the next poll. What was tried: with one reading 2.2 % of the names of threads that
are renamed or end all the time are wrong; with two 4 of 99,000; with three none of 228,822.

:mod:`.told` keeps what has been told.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from threadwatch.errors import ReadError
from threadwatch.names.memory.chain import Chain, Entry, Threads
from threadwatch.names.memory.entries import TRIES
from threadwatch.names.memory.gils import find_gils
from threadwatch.names.memory.holdings import Held, Holdings, pages_of
from threadwatch.names.memory.roots import NO_WAY, PAGES, find_way
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.told import Told, ToldNames
from threadwatch.names.memory.walk import Python
from threadwatch.names.slots import Gil

CONFIRM_AFTER_NS = 2_000_000
"""How much later than the second reading the third has to be."""
CHAIN_COST = 4
"""What a chain is charged with: it costs four times what a slot of a table does."""

WAY_EVERY = 8
"""Of the updates in which nothing seems to happen, one of this many sees that the way is the same."""

_BATCH = 256
"""Chains that are followed in one snapshot."""
_STILL_AFTER = 3
"""Updates without anything new, until one is believed to have nothing new either."""
_ROOTS_COST = 16
_MAIN = "MainThread"


class Budget(Protocol):
    """The reads that a process has paid for."""

    def allows(self) -> bool:
        """Return whether more may be read."""

    def spend(self, slots: int) -> None:
        """Note that this much has been read, in slots of a table."""


class Following:
    """The names of the threads of one process, whose Python has been found."""

    def __init__(self, python: Python, ns_pid: int) -> None:
        self.python = python
        self._ns_pid = ns_pid
        self._followed: list[Holdings] = []
        """What is held of the main interpreter's threads, and of those of each other one."""
        self._way = NO_WAY
        self._told = ToldNames()
        self._updates = 0
        self._still_from = 0
        """From which update on nothing seems to happen."""

        self.gils: tuple[Gil, ...] = ()
        """The GILs that are in use, the main interpreter's first."""

    @property
    def pending(self) -> bool:
        """Return whether there are names that are told as soon as they have been read a third time."""
        if self._way.lacks_threading and self._ns_pid not in self._told:
            return True
        return any(one.waiting for one in self._followed)

    def name_of(self, tid: int, start_ticks: int) -> Told | None:
        """Return the name of the thread with this TID, in its own PID namespace, and start time."""
        return self._told.name_of(tid, start_ticks)

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether a name of that thread has been read twice, and none has been told.

        Not if it is renamed all the time, so that none can be.
        """
        return self._told.can_be_read(tid) and any(
            held.start_ticks == start_ticks and held.chain is not None
            for one in self._followed
            for held in one.of_thread(tid)
        )

    def find_gils(self, memory: Memory) -> tuple[Gil, ...]:
        """Return the GILs that are in use now. Raises Gone or ReadError."""
        return find_gils(Snapshot(memory, PAGES), self.python)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in its own PID namespace, of the living thread with this ident."""
        for one in self._followed:
            if (tid := one.tid_of_ident(ident)) is not None:
                return tid
        return None

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were given a name since this was last asked."""
        return self._told.take_changed()

    def update(
        self,
        memory: Memory,
        threads: Mapping[int, int],
        ran: Collection[int],
        budget: Budget,
        changed: Collection[int] | None = None,
    ) -> None:
        """Read what may have changed.

        ``threads``: the start time of each living thread by its TID, in the process's own PID namespace, as
        the kernel has just told. ``ran``: those that have run since the last time. ``changed``: TIDs of all
        threads that have started or ended since the last update; None: any can have.

        :raises Gone: the program has ended.
        :raises ReadError: its list of threads cannot be read; what was told stays.
        """
        self._updates += 1
        self._forget(threads, changed)
        if changed is None or changed or self._unsettled:
            self._still_from = self._updates + _STILL_AFTER
        still = self._updates >= self._still_from
        way_is_known = not still or self._updates % WAY_EVERY == 0
        if way_is_known:
            self._find_way(memory, threads, budget)
        for one in self._followed:
            # where nothing seems to happen, entries and names are looked at by turns
            if not still or self._updates % 2:
                one.read(memory, len(threads))
            if not still or one.many or not self._updates % 2:
                self._compare(memory, one, ran, budget)
        if not way_is_known and self._unsettled:
            self._find_way(memory, threads, budget)
        for one in self._followed:
            self._confirm(memory, one, threads)
            self._resolve(memory, one, threads, budget)

    def confirm(self, memory: Memory, threads: Mapping[int, int]) -> None:
        """Read a third time what can be told then, without waiting for the next :meth:`update`.

        :raises Gone: the program has ended.
        """
        for one in self._followed:
            self._confirm(memory, one, threads)
        if self._way.lacks_threading and self._way.is_the_same(memory):
            self._tell_main(threads)

    @property
    def _unsettled(self) -> bool:
        """Return whether an entry is to be followed now, or a chain to be confirmed."""
        return any(one.unsettled(self._updates) for one in self._followed)

    def _forget(self, threads: Mapping[int, int], changed: Collection[int] | None) -> None:
        """Let go of threads that have ended; have what led nowhere followed again if one has started."""
        for one in self._followed:
            if changed is None:
                one.forget_ended(threads)
            else:
                one.forget(changed, threads)
        if self._told.forget(threads, changed):
            for one in self._followed:
                one.retry()

    def _find_way(self, memory: Memory, threads: Mapping[int, int], budget: Budget) -> None:
        """See that the dicts ``threading._active`` are those that are followed."""
        if self._way.is_the_same(memory):
            self._tell_main(threads)
            return
        budget.spend(_ROOTS_COST)
        self._way = NO_WAY
        way = find_way(memory, self.python, self._ns_pid)
        before = {one.root.active: one for one in self._followed}
        self._followed = []
        for root in way.roots:
            one = before.get(root.active) or Holdings(self.python, root)
            one.begin_at(root)
            self._followed.append(one)
        self._way, self.gils = way, way.gils

    def _tell_main(self, threads: Mapping[int, int]) -> None:
        """Name the main thread of a Python that has not imported threading: that will call it so."""
        start_ticks = threads.get(self._ns_pid)
        if self._way.lacks_threading and start_ticks is not None and self._ns_pid not in self._told:
            self._told.tell(self._ns_pid, Told(start_ticks, _MAIN, cut=False))

    def _compare(self, memory: Memory, one: Holdings, ran: Collection[int], budget: Budget) -> None:
        """Let go of chains whose threads have another name by now: they are followed anew."""
        batches, others = one.to_compare(ran)
        compared = len(others) + sum(len(batch.members) for batch in batches)
        budget.spend(compared // CHAIN_COST)
        changed = pages_of(others).changed(memory) if others else set()
        for batch in batches:
            changed |= batch.changed(memory)
        for held in changed:
            one.let_go(held)

    def _confirm(self, memory: Memory, one: Holdings, threads: Mapping[int, int]) -> None:
        """Read a third time what has been read twice, a while ago; tell what is the same."""
        if not one.waiting:
            return
        before_ns = time.monotonic_ns() - CONFIRM_AFTER_NS
        due: list[tuple[Held, Chain]] = [
            (held, held.chain)
            for held in one.waiting.values()
            if held.chain is not None and held.read_ns <= before_ns
        ]
        are_same = _are_same(memory, [chain for _, chain in due])
        for (held, chain), same in zip(due, are_same, strict=True):
            if not same or threads.get(chain.tid) != held.start_ticks:
                one.let_go(held)
                self._told.fail(chain.tid)
                continue
            self._told.succeed(chain.tid)
            one.confirm(held)
            self._tell(one, chain, held.start_ticks)

    def _tell(self, one: Holdings, chain: Chain, start_ticks: int) -> None:
        told = Told(start_ticks, chain.name, chain.cut)
        for other in self._followed:
            if other is one:
                break
            if other.of_thread(chain.tid):
                return  # the main interpreter's name for it counts
        self._told.tell(chain.tid, told)

    def _resolve(
        self, memory: Memory, one: Holdings, threads: Mapping[int, int], budget: Budget
    ) -> None:
        """Follow the entries that are due, and read their chains a second time."""
        due = one.due(self._updates)
        for _ in range(TRIES):
            torn: list[Entry] = []
            for start in range(0, len(due), _BATCH):
                torn += self._follow(memory, one, due[start : start + _BATCH], threads, budget)
            if not torn:
                return
            one.read(memory, len(threads))
            due = [entry for entry in torn if entry in one.to_follow]

    def _follow(
        self,
        memory: Memory,
        one: Holdings,
        entries: Iterable[Entry],
        threads: Mapping[int, int],
        budget: Budget,
    ) -> list[Entry]:
        """Hold what those entries lead to, as far as it is paid for; gives those that were just changing."""
        walk = Threads(
            Snapshot(memory, PAGES),
            self.python,
            interpreter=one.root.interpreter,
            main_thread=one.root.main_thread,
            ns_pid=self._ns_pid,
        )
        chains: list[Chain] = []
        for entry in entries:
            if not budget.allows():
                break
            budget.spend(CHAIN_COST)
            try:
                chains.append(walk.follow(entry))
            except ReadError:
                one.fail(entry, self._updates)
        torn: list[Entry] = []
        same = _are_same(memory, chains)
        now_ns = time.monotonic_ns()
        for chain, is_same in zip(chains, same, strict=True):
            start_ticks = threads.get(chain.tid)
            if not is_same:
                torn.append(chain.entry)
            elif start_ticks is None:
                one.fail(chain.entry, self._updates)
            else:
                one.hold(chain, start_ticks, now_ns)
        return torn


def _are_same(memory: Memory, chains: list[Chain]) -> list[bool]:
    """Return for each chain whether all that was read is still there."""
    contents = memory.read_each([place for chain in chains for place in chain.places])
    same, at = [], 0
    for chain in chains:
        end = at + len(chain.places)
        same.append(chain.is_same(contents[at:end]))
        at = end
    return same
