"""The loops of uvloop in one process: which threads run one, and what has each of them.

Looked for only if the module ``uvloop.loop`` has been imported. A loop of uvloop is an object of that
module's type; the thread says which loop it runs. Up to 3.12 that is in a dict of its state (CPython,
Modules/_asynciomodule.c, set_running_loop()).
"""

from __future__ import annotations

import os

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Dicts, thread_states
from threadwatch.tasks.census import Censuses
from threadwatch.tasks.finding import MOST_LOOPS, tid_of
from threadwatch.tasks.imports import attribute
from threadwatch.tasks.kind import Asleep, Shared
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.objects import words
from threadwatch.tasks.places import Places
from threadwatch.tasks.uvloop_layout import (
    LAYOUTS,
    LOOP_SIZE,
    LoopLayout,
    parse_loop,
    uv_size,
)
from threadwatch.tasks.uvloop_look import UvLooks, UvLoop

UVLOOP = b"uvloop.loop"
"""The module that has its loops."""
_TYPE = b"Loop"
_RUNNING = b"__asyncio_running_event_loop__"
_HOLDER = "_RunningLoopHolder"
"""The type of what has the loop in that dict, up to 3.11."""
_DICT = -24
"""Where a thread state has its dict, from its ident on (Include/cpython/pystate.h, up to 3.12)."""
_MOST_PAGES = 4096
_TRIES = 3


class UvloopLoops:
    """The loops of uvloop: see :class:`.LoopReader`."""

    def __init__(self, shared: Shared) -> None:
        """Begin with none."""
        self._shared = shared
        self._places: Places | None = None
        self._looks: UvLooks | None = None
        self._censuses: Censuses | None = None
        self._loops: dict[int, UvLoop] = {}
        """By the addresses of thread states."""

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a loop."""
        return frozenset(loop.tid for loop in self._loops.values())

    def find(self, memory: Memory, _: int) -> None:
        """See which threads run a loop now."""
        shared = self._shared
        places = shared.asyncio.found
        if places != self._places:
            self._places, self._looks, self._loops = places, None, {}
        if places is None:
            return
        module = shared.imports.found.get(UVLOOP)
        if module is None:
            self._loops = {}
            return
        snapshot = Snapshot(memory, _MOST_PAGES)
        loop_type = attribute(snapshot, shared.python, module, _TYPE)
        if loop_type is None:
            return  # it is just being imported
        if self._looks is None:
            self._looks = UvLooks(shared, places, uv_size(os.uname().machine))
            self._censuses = Censuses(shared.python, shared.objects, places, shared.layout)
        loops: dict[int, UvLoop] = {}
        failed: ReadError | None = None
        for ident, (native, state) in thread_states(
            snapshot, shared.python, places.interpreter
        ).items():
            address = self._running_loop(memory, snapshot, state, ident, places.interpreter)
            if not address or len(loops) >= MOST_LOOPS:
                continue
            loop = self._loops.get(state)
            if loop is None or (loop.ident, loop.address) != (ident, address):
                try:
                    loop = self._see(memory, places, state, ident, native, address, loop_type)
                except ReadError as error:
                    failed = error.to_keep()
                    continue
            if loop is not None:
                loops[state] = loop
        self._loops = loops
        if failed is not None and not loops:
            raise failed

    def _running_loop(
        self, memory: Memory, snapshot: Snapshot, state: int, ident: int, interpreter: int
    ) -> int:
        """Return the loop that a thread says it runs, which may be of any kind.

        0: it says that it runs none, or has ended. Raises Gone.
        """
        shared = self._shared
        o = shared.python.offsets
        try:
            if shared.layout.running_loop:
                return shared.frames.state(memory, state, ident, interpreter).running_loop or 0
            a_dict = snapshot.word(state + o.ident + _DICT)
            if not a_dict:
                return 0
            found = Dicts(snapshot, shared.python).values(a_dict, frozenset({_RUNNING}))
            if _RUNNING not in found:
                return 0
            loop = found[_RUNNING][1]
            if shared.objects.type(snapshot, snapshot.word(loop + o.ob_type)).name == _HOLDER:
                return snapshot.word(loop + o.object_size)
        except ReadError:
            return 0
        return loop

    def _see(
        self,
        memory: Memory,
        places: Places,
        state: int,
        ident: int,
        native: int,
        address: int,
        loop_type: int,
    ) -> UvLoop | None:
        """Return the loop of a thread; None: it is none of uvloop, or does not run any more.

        :raises Gone: the program has ended.
        :raises ReadError: it is not laid out as uvloop's loops are.
        """
        shared = self._shared
        for _ in range(_TRIES):
            a_type = shared.objects.type_at(memory, address)
            if not shared.objects.is_a(memory, a_type, loop_type):
                return None
            for layout in LAYOUTS:
                if self._is_laid_out(memory, address, layout, ident):
                    tid = tid_of(shared.python, memory, ident, native)
                    return UvLoop(state, ident, tid, address, a_type, layout) if tid else None
            snapshot = Snapshot(memory, _MOST_PAGES)
            if self._running_loop(memory, snapshot, state, ident, places.interpreter) != address:
                return None
        raise malformed("a loop of uvloop is not as in 0.14 to 0.23")

    def _is_laid_out(self, memory: Memory, address: int, layout: LoopLayout, ident: int) -> bool:
        """Return whether what is at an address is a loop of that layout, which that thread runs."""
        o, objects = self._shared.python.offsets, self._shared.objects
        head = parse_loop(memory.read(address, LOOP_SIZE), layout, o.ob_type, ident)
        if head is None:
            return False
        try:
            kind = objects.type(memory, objects.type_at(memory, head.ready))
            return kind.name == "deque" and words(memory, head.uv, 1)[0] == address
        except ReadError:
            return False

    def sample(
        self, memory: Memory, now_ns: int, asleep: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each loop now."""
        samples = []
        if self._looks is not None:
            for loop in self._loops.values():
                sample = self._looks.look(
                    memory, loop, now_ns, asleep(loop.tid), functions=functions
                )
                if sample is not None:
                    samples.append(sample)
        return samples

    def skip(self, now_ns: int) -> None:
        """Note that what the last sample has found holds until now."""
        for loop in self._loops.values():
            loop.beginning.skip(now_ns)

    def iterations(self, memory: Memory) -> dict[int, int]:
        """Return by TID the number of the iteration that each loop is in."""
        found = {loop.tid: UvLooks.iteration(memory, loop) for loop in self._loops.values()}
        return {tid: number for tid, number in found.items() if number is not None}

    def census(self, memory: Memory, most: int) -> list[Census]:
        """Return all tasks of each loop, by name."""
        if self._censuses is None or not self._loops:
            return []
        return self._censuses.count(memory, self._loops.values(), most)
