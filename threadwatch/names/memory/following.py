"""Follows the names of one process's threads from poll to poll, at little cost, and never tells a wrong one.

A name is told after three equal readings of its whole chain (:mod:`.chain`): as it was followed, right after
that, and 2 ms later or in the next poll. What was tried: with one reading 2.2 % of the names of threads that
are renamed or end all the time are wrong; with two 4 of 99,000; with three none of 228,822.

A name that has been told stays that thread's until another is told or the thread has ended: Python lets go of
a thread before the kernel does. A thread of the kernel's is a TID with a start time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from threadwatch.errors import ReadError
from threadwatch.names.memory.chain import Chain, Entry, Threads
from threadwatch.names.memory.gils import find_gils
from threadwatch.names.memory.roots import NO_WAY, PAGES, TRIES, Entries, Root, find_way
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.names.slots import Gil

CONFIRM_AFTER_NS = 2_000_000
"""How much later than the second reading the third has to be."""
CHAIN_COST = 4
"""What a chain is charged with: it costs four times what a slot of a table does."""

_ALL = 64
"""As many names are compared in each poll; of more, those of threads that have run, and the rest in turns."""
_IN_TURN = 32
_MOST_RAN = 256
_BATCH = 256
"""Chains that are followed in one snapshot."""
_ROOTS_COST = 16
_LONGEST_WAIT = 32
_MAIN = "MainThread"


class Budget(Protocol):
    """The reads that a process has paid for."""

    def allows(self) -> bool:
        """Return whether more may be read."""

    def spend(self, slots: int) -> None:
        """Note that this much has been read, in slots of a table."""


@dataclass(frozen=True, slots=True)
class Told:
    """The name of a thread."""

    start_ticks: int
    """When it started (``starttime`` of proc_pid_stat(5))."""
    name: str
    cut: bool


@dataclass(slots=True)
class _Held:
    """A chain that has been read twice or more."""

    chain: Chain
    start_ticks: int
    read_ns: int
    confirmed: bool = False


@dataclass(slots=True)
class _Followed:
    """The state of the entries of one interpreter's ``threading._active``."""

    root: Root
    entries: Entries
    held: dict[Entry, _Held] = field(default_factory=dict)
    failed: dict[Entry, tuple[int, int]] = field(default_factory=dict)
    """Entries that lead to no thread: when to try again, and after how many polls more."""
    turn: list[Entry] = field(default_factory=list)


class Following:
    """The names of the threads of one process, whose Python has been found."""

    def __init__(self, python: Python, ns_pid: int) -> None:
        self.python = python
        self._ns_pid = ns_pid
        self._followed: list[_Followed] = []
        self._way = NO_WAY
        self._told: dict[int, Told] = {}
        self._changed: set[int] = set()
        self._updates = 0
        self._nameless: frozenset[int] = frozenset()

        self.gils: tuple[Gil, ...] = ()
        """The GILs that are in use, the main interpreter's first."""
        self._unconfirmed: Counter[int] = Counter()
        """By TID, how often a third reading was not the same, since a name was told last."""

    @property
    def pending(self) -> bool:
        """Return whether there are names that are told as soon as they have been read a third time."""
        if self._way.lacks_threading and self._ns_pid not in self._told:
            return True
        return any(not held.confirmed for one in self._followed for held in one.held.values())

    def name_of(self, tid: int, start_ticks: int) -> Told | None:
        """Return the name of the thread with this TID, in its own PID namespace, and start time."""
        told = self._told.get(tid)
        return told if told is not None and told.start_ticks == start_ticks else None

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether a name of that thread has been read twice, and none has been told.

        Not if it is renamed all the time, so that none can be.
        """
        return self._unconfirmed[tid] < TRIES and any(
            held.chain.tid == tid and held.start_ticks == start_ticks and not held.confirmed
            for one in self._followed
            for held in one.held.values()
        )

    def find_gils(self, memory: Memory) -> tuple[Gil, ...]:
        """Return the GILs that are in use now. Raises Gone or ReadError."""
        return find_gils(Snapshot(memory, PAGES), self.python)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in its own PID namespace, of the living thread with this ident."""
        for one in self._followed:
            for held in one.held.values():
                if held.chain.ident == ident:
                    return held.chain.tid
        return None

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were given a name since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def update(
        self, memory: Memory, threads: Mapping[int, int], ran: Container[int], budget: Budget
    ) -> None:
        """Read what may have changed.

        ``threads``: the start time of each living thread by its TID, in the process's own PID namespace, as
        the kernel has just told. ``ran``: those that have run since the last time.

        :raises Gone: the program has ended.
        :raises ReadError: its list of threads cannot be read; what was told stays.
        """
        self._updates += 1
        for tid in [t for t, told in self._told.items() if threads.get(t) != told.start_ticks]:
            del self._told[tid]
        self._find_way(memory, threads, budget)
        for tid in self._unconfirmed.keys() - threads.keys():
            del self._unconfirmed[tid]
        nameless = frozenset(tid for tid in threads if tid not in self._told)
        if not nameless <= self._nameless:
            for one in self._followed:
                one.failed.clear()  # one of them can be that thread's by now
        self._nameless = nameless
        for one in self._followed:
            one.entries.read(memory, len(threads))
            self._forget(one, threads)
            self._compare(memory, one, ran, budget)
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
            one = before.get(root.active) or _Followed(root, Entries(self.python, root.active))
            one.root = root
            self._followed.append(one)
        self._way, self.gils = way, way.gils

    def _tell_main(self, threads: Mapping[int, int]) -> None:
        """Name the main thread of a Python that has not imported threading: that will call it so."""
        start_ticks = threads.get(self._ns_pid)
        if self._way.lacks_threading and start_ticks is not None and self._ns_pid not in self._told:
            self._told[self._ns_pid] = Told(start_ticks, _MAIN, cut=False)
            self._changed.add(self._ns_pid)

    def _forget(self, one: _Followed, threads: Mapping[int, int]) -> None:
        """Let go of what is no entry any more, or whose thread has ended: another can have its addresses."""
        for entry, held in list(one.held.items()):
            if entry not in one.entries.now or threads.get(held.chain.tid) != held.start_ticks:
                del one.held[entry]
        if one.failed:
            one.failed = {e: wait for e, wait in one.failed.items() if e in one.entries.now}

    def _compare(self, memory: Memory, one: _Followed, ran: Container[int], budget: Budget) -> None:
        """Let go of chains whose threads have another name by now: they are followed anew."""
        due = [(entry, held.chain) for entry, held in one.held.items() if held.confirmed]
        if len(due) > _ALL:
            due = self._due(one, due, ran)
        budget.spend(len(due) // CHAIN_COST)
        contents = memory.read_each([place for _, chain in due for place in chain.watched])
        at = 0
        for entry, chain in due:
            end = at + len(chain.watched)
            if not chain.has_same_name(contents[at:end]):
                del one.held[entry]
            at = end

    def _due(
        self, one: _Followed, confirmed: list[tuple[Entry, Chain]], ran: Container[int]
    ) -> list[tuple[Entry, Chain]]:
        """Return of many those of threads that have run, and some of the others in turns."""
        due = dict([item for item in confirmed if item[1].tid in ran][:_MOST_RAN])
        if not one.turn:
            one.turn = [entry for entry, _ in confirmed]
        for entry in one.turn[-_IN_TURN:]:
            held = one.held.get(entry)
            if held is not None and held.confirmed:
                due[entry] = held.chain
        del one.turn[-_IN_TURN:]
        return list(due.items())

    def _confirm(self, memory: Memory, one: _Followed, threads: Mapping[int, int]) -> None:
        """Read a third time what has been read twice, a while ago; tell what is the same."""
        before_ns = time.monotonic_ns() - CONFIRM_AFTER_NS
        due = [
            (entry, held)
            for entry, held in one.held.items()
            if not held.confirmed and held.read_ns <= before_ns
        ]
        for (entry, held), same in zip(
            due, _are_same(memory, [held.chain for _, held in due]), strict=True
        ):
            chain = held.chain
            if not same or threads.get(chain.tid) != held.start_ticks:
                del one.held[entry]
                self._unconfirmed[chain.tid] += 1
                continue
            self._unconfirmed.pop(chain.tid, None)
            held.confirmed = True
            self._tell(one, chain, held.start_ticks)

    def _tell(self, one: _Followed, chain: Chain, start_ticks: int) -> None:
        told = Told(start_ticks, chain.name, chain.cut)
        for other in self._followed:
            if other is one:
                break
            if any(held.chain.tid == chain.tid for held in other.held.values()):
                return  # the main interpreter's name for it counts
        if self._told.get(chain.tid) != told:
            self._told[chain.tid] = told
            self._changed.add(chain.tid)

    def _resolve(
        self, memory: Memory, one: _Followed, threads: Mapping[int, int], budget: Budget
    ) -> None:
        """Follow the entries that are new, and read their chains a second time."""
        new = [e for e in one.entries.now - one.held.keys() if self._is_due(one, e)]
        for _ in range(TRIES):
            torn: list[Entry] = []
            for start in range(0, len(new), _BATCH):
                torn += self._follow(memory, one, new[start : start + _BATCH], threads, budget)
            if not torn:
                return
            one.entries.read(memory, len(threads))
            new = [entry for entry in torn if entry in one.entries.now]

    def _follow(
        self,
        memory: Memory,
        one: _Followed,
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
                self._failed(one, entry)
        torn: list[Entry] = []
        same = _are_same(memory, chains)
        now_ns = time.monotonic_ns()
        for chain, is_same in zip(chains, same, strict=True):
            start_ticks = threads.get(chain.tid)
            if not is_same:
                torn.append(chain.entry)
            elif start_ticks is None:
                self._failed(one, chain.entry)
            else:
                one.held[chain.entry] = _Held(chain, start_ticks, now_ns)
                one.failed.pop(chain.entry, None)
        return torn

    def _is_due(self, one: _Followed, entry: Entry) -> bool:
        wait = one.failed.get(entry)
        return wait is None or wait[0] <= self._updates

    def _failed(self, one: _Followed, entry: Entry) -> None:
        _, wait = one.failed.get(entry, (0, 0))
        wait = min(2 * wait or 1, _LONGEST_WAIT)
        one.failed[entry] = self._updates + wait, wait


def _are_same(memory: Memory, chains: list[Chain]) -> list[bool]:
    """Return for each chain whether all that was read is still there."""
    contents = memory.read_each([place for chain in chains for place in chain.places])
    same, at = [], 0
    for chain in chains:
        end = at + len(chain.places)
        same.append(chain.is_same(contents[at:end]))
        at = end
    return same
