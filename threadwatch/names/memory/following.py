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

from threadwatch.errors import Malformed, ReadError
from threadwatch.names.memory.chain import Chain, Entry, Threads
from threadwatch.names.memory.gils import find_gils, gil_places
from threadwatch.names.memory.interpreter import Dicts, Python, interpreters, thread_states
from threadwatch.names.memory.objects import KEYS_HEAD, Keys, parse_keys
from threadwatch.names.memory.snapshot import SOURCE, Memory, Place, Snapshot, half, word
from threadwatch.names.slots import Gil

CONFIRM_AFTER_NS = 2_000_000
"""How much later than the second reading the third has to be."""
CHAIN_COST = 4
"""What a chain is charged with: it costs four times what a slot of a table does."""

_TRIES = 3
_ALL = 64
"""As many names are compared in each poll; of more, those of threads that have run, and the rest in turns."""
_IN_TURN = 32
_MOST_RAN = 256
_BATCH = 256
"""Chains that are followed in one snapshot."""
_PAGES = 4096
"""That may be read for these, or to find where they begin."""
_ENTRIES_OF_A_THREAD = 8
_ENTRIES = 4096
"""How many entries ``threading._active`` may have, and more by those of each thread: greenlets have some."""
_ROOTS_COST = 16
_LONGEST_WAIT = 32
_NAMES = frozenset({b"_active", b"_main_thread"})
_THREADING = frozenset({b"threading"})
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
class _Root:
    """``threading._active`` of one interpreter."""

    interpreter: int
    active: int
    main_thread: int
    places: tuple[Place, ...] = ()
    """Of the dict, and of its keys."""
    contents: tuple[bytes, ...] = ()
    entries: frozenset[Entry] = frozenset()
    held: dict[Entry, _Held] = field(default_factory=dict)
    failed: dict[Entry, tuple[int, int]] = field(default_factory=dict)
    """Entries that lead to no thread: when to try again, and after how many polls more."""
    turn: list[Entry] = field(default_factory=list)


class Following:
    """The names of the threads of one process, whose Python has been found."""

    def __init__(self, python: Python, ns_pid: int) -> None:
        self.python = python
        self._ns_pid = ns_pid
        self._roots: list[_Root] = []
        self._way: tuple[list[Place], list[bytes]] = [], []
        self._lacks_threading = False
        """The main interpreter has not imported it, and the main thread is Python's."""
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
        if self._lacks_threading and self._ns_pid not in self._told:
            return True
        return any(not held.confirmed for root in self._roots for held in root.held.values())

    def name_of(self, tid: int, start_ticks: int) -> Told | None:
        """Return the name of the thread with this TID, in its own PID namespace, and start time."""
        told = self._told.get(tid)
        return told if told is not None and told.start_ticks == start_ticks else None

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether a name of that thread has been read twice, and none has been told.

        Not if it is renamed all the time, so that none can be.
        """
        return self._unconfirmed[tid] < _TRIES and any(
            held.chain.tid == tid and held.start_ticks == start_ticks and not held.confirmed
            for root in self._roots
            for held in root.held.values()
        )

    def find_gils(self, memory: Memory) -> tuple[Gil, ...]:
        """Return the GILs that are in use now. Raises Gone or ReadError."""
        return find_gils(Snapshot(memory, _PAGES), self.python)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID, in its own PID namespace, of the living thread with this ident."""
        for root in self._roots:
            for held in root.held.values():
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
            for root in self._roots:
                root.failed.clear()  # one of them can be that thread's by now
        self._nameless = nameless
        for root in self._roots:
            self._read_entries(memory, root, len(threads))
            self._forget(root, threads)
            self._compare(memory, root, ran, budget)
            self._confirm(memory, root, threads)
            self._resolve(memory, root, threads, budget)

    def confirm(self, memory: Memory, threads: Mapping[int, int]) -> None:
        """Read a third time what can be told then, without waiting for the next :meth:`update`.

        :raises Gone: the program has ended.
        """
        for root in self._roots:
            self._confirm(memory, root, threads)
        if self._lacks_threading and self._is_the_way(memory):
            self._tell_main(threads)

    def _is_the_way(self, memory: Memory) -> bool:
        places, contents = self._way
        return bool(places) and memory.read_each(places) == contents

    def _find_way(self, memory: Memory, threads: Mapping[int, int], budget: Budget) -> None:
        """See that the dicts ``threading._active`` are those that are followed."""
        if self._is_the_way(memory):
            self._tell_main(threads)
            return
        budget.spend(_ROOTS_COST)
        before = {root.active: root for root in self._roots}
        self._way = [], []
        snapshot = Snapshot(memory, _PAGES)
        python, o = self.python, self.python.offsets
        dicts = Dicts(snapshot, python)
        way: list[Place] = [(python.runtime + o.interpreters, 8)]
        roots: list[_Root] = []
        # the newest come first in the list; where two know a thread, its name in the main one counts
        self._lacks_threading = False
        found_interpreters = interpreters(snapshot, python)
        main = found_interpreters[-1] if found_interpreters else 0
        for interpreter in reversed(found_interpreters):
            modules = snapshot.word(interpreter + o.modules)
            way += [(interpreter + o.next_interpreter, 8), (interpreter + o.modules, 8)]
            found = dicts.values(modules, _THREADING).get(b"threading") if modules else None
            if found is None:
                if modules:  # until more is imported
                    way.append((modules + o.object_size, 8))
                if interpreter == main:
                    self._lacks_threading = self._is_main_thread(snapshot, interpreter)
                continue
            place, module = found
            if snapshot.word(module + o.ob_type) != python.module_type:
                raise Malformed(SOURCE, "threading is no module")
            names = snapshot.word(module + o.object_size)
            own = dicts.values(names, _NAMES)
            way += [(modules + o.ma_keys, 8), (place, 8), (module + o.object_size, 8)]
            way += [(names + o.ma_keys, 8), *((at, 8) for at, _ in own.values())]
            if len(own) < len(_NAMES):  # it is being imported
                way.append((names + o.object_size, 8))
                continue
            active, main_thread = own[b"_active"][1], own[b"_main_thread"][1]
            if snapshot.word(active + o.ob_type) != python.dict_type:
                raise Malformed(SOURCE, "threading._active is no dict")
            root = before.get(active) or _Root(interpreter, active, main_thread)
            root.interpreter, root.main_thread = interpreter, main_thread
            roots.append(root)
        self._roots = roots
        self.gils = find_gils(snapshot, python)
        way += gil_places(snapshot, python, found_interpreters)
        self._way = way, [snapshot.read(*place) for place in way]

    def _is_main_thread(self, snapshot: Snapshot, interpreter: int) -> bool:
        """Return whether the process's main thread is one of the interpreter's."""
        offset = self.python.tid_offset
        for ident, (native, _) in thread_states(snapshot, self.python, interpreter).items():
            if native == self._ns_pid:
                return True
            if offset and half(snapshot.read(ident + offset, 4), 0) == self._ns_pid:
                return True
        return False

    def _tell_main(self, threads: Mapping[int, int]) -> None:
        """Name the main thread of a Python that has not imported threading: that will call it so."""
        start_ticks = threads.get(self._ns_pid)
        if self._lacks_threading and start_ticks is not None and self._ns_pid not in self._told:
            self._told[self._ns_pid] = Told(start_ticks, _MAIN, cut=False)
            self._changed.add(self._ns_pid)

    def _read_entries(self, memory: Memory, root: _Root, threads: int) -> None:
        """Read which entries ``_active`` has, if they are not those that it had."""
        if root.places and tuple(memory.read_each(root.places)) == root.contents:
            return
        root.places = ()
        o = self.python.offsets
        head = (root.active + o.ob_type, o.ma_values + 8 - o.ob_type)
        for _ in range(_TRIES):
            keys = word(memory.read(*head), o.ma_keys - o.ob_type)
            try:
                layout = parse_keys(o, memory.read(keys, KEYS_HEAD))
            except ReadError:
                continue  # it has others by now
            if layout.count > _ENTRIES + _ENTRIES_OF_A_THREAD * threads:
                raise Malformed(
                    SOURCE, f"threading._active has {layout.count} entries for {threads} threads"
                )
            places = head, (keys, max(layout.end, KEYS_HEAD))
            contents = tuple(memory.read_each(places))
            entries = self._parse_entries(contents, layout)
            if entries is not None and tuple(memory.read_each(places)) == contents:
                root.places, root.contents, root.entries = places, contents, entries
                return
        raise Malformed(SOURCE, "threading._active changes faster than it can be read")

    def _parse_entries(self, contents: tuple[bytes, ...], layout: Keys) -> frozenset[Entry] | None:
        """Return the entries in the bytes of a dict's head and keys; None if those are not of one time."""
        head, keys = contents
        o = self.python.offsets
        try:
            if not head or parse_keys(o, keys) != layout:
                return None
        except Malformed:
            return None
        if word(head, 0) != self.python.dict_type or word(head, o.ma_values - o.ob_type):
            raise Malformed(SOURCE, "threading._active is no dict")
        pairs = [p for p in layout.pairs(keys[layout.entries : layout.end]) if p[0] and p[1]]
        # ma_used follows the object's head
        return frozenset(pairs) if len(pairs) == word(head, o.object_size - o.ob_type) else None

    def _forget(self, root: _Root, threads: Mapping[int, int]) -> None:
        """Let go of what is no entry any more, or whose thread has ended: another can have its addresses."""
        for entry, held in list(root.held.items()):
            if entry not in root.entries or threads.get(held.chain.tid) != held.start_ticks:
                del root.held[entry]
        if root.failed:
            root.failed = {e: wait for e, wait in root.failed.items() if e in root.entries}

    def _compare(self, memory: Memory, root: _Root, ran: Container[int], budget: Budget) -> None:
        """Let go of chains whose threads have another name by now: they are followed anew."""
        due = [(entry, held.chain) for entry, held in root.held.items() if held.confirmed]
        if len(due) > _ALL:
            due = self._due(root, due, ran)
        budget.spend(len(due) // CHAIN_COST)
        contents = memory.read_each([place for _, chain in due for place in chain.watched])
        at = 0
        for entry, chain in due:
            end = at + len(chain.watched)
            if not chain.has_same_name(contents[at:end]):
                del root.held[entry]
            at = end

    def _due(
        self, root: _Root, confirmed: list[tuple[Entry, Chain]], ran: Container[int]
    ) -> list[tuple[Entry, Chain]]:
        """Return of many those of threads that have run, and some of the others in turns."""
        due = dict([item for item in confirmed if item[1].tid in ran][:_MOST_RAN])
        if not root.turn:
            root.turn = [entry for entry, _ in confirmed]
        for entry in root.turn[-_IN_TURN:]:
            held = root.held.get(entry)
            if held is not None and held.confirmed:
                due[entry] = held.chain
        del root.turn[-_IN_TURN:]
        return list(due.items())

    def _confirm(self, memory: Memory, root: _Root, threads: Mapping[int, int]) -> None:
        """Read a third time what has been read twice, a while ago; tell what is the same."""
        before_ns = time.monotonic_ns() - CONFIRM_AFTER_NS
        due = [
            (entry, held)
            for entry, held in root.held.items()
            if not held.confirmed and held.read_ns <= before_ns
        ]
        for (entry, held), same in zip(
            due, _are_same(memory, [held.chain for _, held in due]), strict=True
        ):
            chain = held.chain
            if not same or threads.get(chain.tid) != held.start_ticks:
                del root.held[entry]
                self._unconfirmed[chain.tid] += 1
                continue
            self._unconfirmed.pop(chain.tid, None)
            held.confirmed = True
            self._tell(root, chain, held.start_ticks)

    def _tell(self, root: _Root, chain: Chain, start_ticks: int) -> None:
        told = Told(start_ticks, chain.name, chain.cut)
        for other in self._roots:
            if other is root:
                break
            if any(held.chain.tid == chain.tid for held in other.held.values()):
                return  # the main interpreter's name for it counts
        if self._told.get(chain.tid) != told:
            self._told[chain.tid] = told
            self._changed.add(chain.tid)

    def _resolve(
        self, memory: Memory, root: _Root, threads: Mapping[int, int], budget: Budget
    ) -> None:
        """Follow the entries that are new, and read their chains a second time."""
        new = [e for e in root.entries - root.held.keys() if self._is_due(root, e)]
        for _ in range(_TRIES):
            torn: list[Entry] = []
            for start in range(0, len(new), _BATCH):
                torn += self._follow(memory, root, new[start : start + _BATCH], threads, budget)
            if not torn:
                return
            self._read_entries(memory, root, len(threads))
            new = [entry for entry in torn if entry in root.entries]

    def _follow(
        self,
        memory: Memory,
        root: _Root,
        entries: Iterable[Entry],
        threads: Mapping[int, int],
        budget: Budget,
    ) -> list[Entry]:
        """Hold what those entries lead to, as far as it is paid for; gives those that were just changing."""
        walk = Threads(
            Snapshot(memory, _PAGES),
            self.python,
            interpreter=root.interpreter,
            main_thread=root.main_thread,
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
                self._failed(root, entry)
        torn: list[Entry] = []
        same = _are_same(memory, chains)
        now_ns = time.monotonic_ns()
        for chain, is_same in zip(chains, same, strict=True):
            start_ticks = threads.get(chain.tid)
            if not is_same:
                torn.append(chain.entry)
            elif start_ticks is None:
                self._failed(root, chain.entry)
            else:
                root.held[chain.entry] = _Held(chain, start_ticks, now_ns)
                root.failed.pop(chain.entry, None)
        return torn

    def _is_due(self, root: _Root, entry: Entry) -> bool:
        wait = root.failed.get(entry)
        return wait is None or wait[0] <= self._updates

    def _failed(self, root: _Root, entry: Entry) -> None:
        _, wait = root.failed.get(entry, (0, 0))
        wait = min(2 * wait or 1, _LONGEST_WAIT)
        root.failed[entry] = self._updates + wait, wait


def _are_same(memory: Memory, chains: list[Chain]) -> list[bool]:
    """Return for each chain whether all that was read is still there."""
    contents = memory.read_each([place for chain in chains for place in chain.places])
    same, at = [], 0
    for chain in chains:
        end = at + len(chain.places)
        same.append(chain.is_same(contents[at:end]))
        at = end
    return same
