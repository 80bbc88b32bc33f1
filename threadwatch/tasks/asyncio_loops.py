"""The loops of asyncio's own kind in one process: which threads run one, and what has each of them."""

from __future__ import annotations

from threadwatch.model.loops import UNKNOWN, Census, LoopSample
from threadwatch.names.memory.snapshot import Memory
from threadwatch.tasks.census import Censuses
from threadwatch.tasks.finding import Finding
from threadwatch.tasks.kind import Asleep, Shared
from threadwatch.tasks.look import Looks
from threadwatch.tasks.places import Places
from threadwatch.tasks.ready import Ready


class AsyncioLoops:
    """The loops of asyncio's own kind: see :class:`.LoopReader`."""

    def __init__(self, shared: Shared) -> None:
        """Begin with none."""
        self._shared = shared
        self._ready = Ready(shared.python, shared.objects)
        self._places: Places | None = None
        self._looks: Looks | None = None
        self._finding: Finding | None = None
        self._censuses: Censuses | None = None

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a loop."""
        if self._finding is None:
            return frozenset()
        return frozenset(loop.tid for loop in self._finding.loops.values())

    def find(self, memory: Memory, now_ns: int) -> None:
        """See which threads run a loop now."""
        shared = self._shared
        places = shared.asyncio.find(memory)
        if places != self._places:
            self._places, self._looks, self._finding = places, None, None
        if places is None:
            return
        if self._looks is None or self._finding is None:
            parts = shared.python, shared.objects, shared.frames, places
            self._finding = Finding(*parts)
            self._looks = Looks(shared, places)
            self._censuses = Censuses(shared.python, shared.objects, places, shared.layout)
        self._finding.update(memory, self._looks, now_ns)

    def sample(
        self, memory: Memory, now_ns: int, _: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each loop now. The memory tells whether it is at its selector."""
        if self._looks is None or self._finding is None:
            return []
        samples = []
        for loop in self._finding.loops.values():
            sample = self._looks.look(memory, loop, now_ns, functions=functions)
            loop.was_looked_at(now_ns, is_sure=sample is not None and sample.holder != UNKNOWN)
            if sample is not None:
                ready, queue = self._ready.count(memory, loop.address, loop.queue, now_ns)
                loop.waits_in(queue)
                samples.append(sample._replace(ready=ready))
        return samples

    def skip(self, now_ns: int) -> None:
        """Note that what the last sample has found holds until now."""
        if self._finding is not None:
            for loop in self._finding.loops.values():
                loop.was_looked_at(now_ns, is_sure=True)

    def iterations(self, _: Memory) -> dict[int, int]:
        """Return nothing: the memory tells when an iteration began."""
        return {}

    def census(self, memory: Memory, most: int) -> list[Census]:
        """Return all tasks of each loop, by name."""
        if self._censuses is None or self._finding is None or not self._finding.loops:
            return []
        return self._censuses.count(memory, self._finding.loops.values(), most)
