"""The loops of one process, of all kinds: which threads run one, and what has each of them at a moment.

All functions take the memory of the process, which is open, and are called by the thread that may wait for it
(:mod:`threadwatch.reading`).
"""

from __future__ import annotations

from collections.abc import Iterable

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.snapshot import Memory
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.asyncio_loops import AsyncioLoops
from threadwatch.tasks.frames import Frames
from threadwatch.tasks.gevent_loops import GEVENT, GeventLoops
from threadwatch.tasks.imports import Imports
from threadwatch.tasks.kind import Asleep, LoopReader, Shared, not_known
from threadwatch.tasks.layout import SOURCE, layout_of
from threadwatch.tasks.look import GREENLET
from threadwatch.tasks.objects import Objects
from threadwatch.tasks.places import MODULES, PlacesFinder
from threadwatch.tasks.trio_loops import TRIO, TrioLoops
from threadwatch.tasks.uvloop_loops import UVLOOP, UvloopLoops


class Loops:
    """The loops of one process, whose Python has been found."""

    def __init__(self, python: Python) -> None:
        """Begin with none.

        :raises Unsupported: a version or build whose tasks cannot be read.
        """
        layout = layout_of(python)
        self._imports = imports = Imports(python, MODULES | {UVLOOP, TRIO, GEVENT, GREENLET})
        self._objects = Objects(python, layout)
        self._shared = shared = Shared(
            python,
            layout,
            self._objects,
            Frames(python, layout),
            PlacesFinder(python, layout, self._objects, imports),
            imports,
        )
        self._kinds: tuple[LoopReader, ...] = (
            AsyncioLoops(shared),
            UvloopLoops(shared),
            TrioLoops(shared),
            GeventLoops(shared),
        )
        """In this order; of a thread that runs loops of two kinds, the first is seen."""

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a loop, in the process's own PID namespace."""
        return frozenset().union(*(kind.tids for kind in self._kinds))

    def find(self, memory: Memory, now_ns: int) -> None:
        """See which threads run a loop now; about once a second. ``now_ns`` as in :meth:`sample`.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; what was found before stays.
        """
        self._objects.begin(now_ns)
        failed: ReadError | None = None
        try:
            self._imports.find(memory)
        except ReadError as error:
            raise ReadError(SOURCE, error.reason, error.detail) from None
        for kind in self._kinds:
            try:
                kind.find(memory, now_ns)
            except ReadError as error:
                failed = failed or error
        if failed is not None:
            raise ReadError(SOURCE, failed.reason, failed.detail) from None

    def sample(
        self, memory: Memory, now_ns: int, *, functions: bool, asleep: Asleep = not_known
    ) -> list[LoopSample]:
        """Return what has each loop now.

        ``now_ns``: CLOCK_MONOTONIC as the process sees it. ``functions``: whether to tell the function of the
        application as well, which costs some reads more for each frame. ``asleep`` tells which of
        its threads slept just now, and in what.

        :raises Gone: the program has ended.
        """
        self._objects.begin(now_ns)
        return _first_of_each(
            sample
            for kind in self._kinds
            for sample in kind.sample(memory, now_ns, asleep, functions=functions)
        )

    def skip(self, now_ns: int) -> None:
        """Note that what the last sample has found of all loops holds still: their threads sleep."""
        for kind in self._kinds:
            kind.skip(now_ns)

    def iterations(self, memory: Memory) -> dict[int, int]:
        """Return by TID the number of the iteration that each loop is in now, where samples have one.

        :raises Gone: the program has ended.
        """
        return {
            tid: number for kind in self._kinds for tid, number in kind.iterations(memory).items()
        }

    def census(self, memory: Memory, now_ns: int, most: int) -> list[Census]:
        """Return all tasks of each loop, by name. Other arguments as in :meth:`sample`.

        It costs some 10 µs for each task. ``most``: how many there may be in the whole process.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; with the reason ``limit``, there are more.
        """
        self._objects.begin(now_ns)
        try:
            return [one for kind in self._kinds for one in kind.census(memory, most)]
        except ReadError as error:
            raise ReadError(SOURCE, error.reason, error.detail) from None


def _first_of_each(samples: Iterable[LoopSample]) -> list[LoopSample]:
    """Return the first sample of each thread."""
    found: dict[int, LoopSample] = {}
    for sample in samples:
        found.setdefault(sample.tid, sample)
    return list(found.values())
