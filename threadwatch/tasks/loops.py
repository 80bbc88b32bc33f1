"""The loops of one process: which threads run one, and what has each of them at a moment.

All functions take the memory of the process, which is open, and are called by the thread that may wait for it
(:mod:`threadwatch.reading`).
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.snapshot import Memory
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.census import Censuses
from threadwatch.tasks.finding import Finding
from threadwatch.tasks.frames import Frames
from threadwatch.tasks.layout import SOURCE, layout_of
from threadwatch.tasks.look import Looks
from threadwatch.tasks.objects import Objects
from threadwatch.tasks.places import Places, PlacesFinder


class Loops:
    """The loops of one process, whose Python has been found."""

    def __init__(self, python: Python) -> None:
        """Begin with none.

        :raises Unsupported: a version or build whose tasks cannot be read.
        """
        self._python = python
        self._layout = layout_of(python)
        self._objects = Objects(python, self._layout)
        self._frames = Frames(python, self._layout)
        self._finder = PlacesFinder(python, self._layout, self._objects)
        self._places: Places | None = None
        self._looks: Looks | None = None
        self._finding: Finding | None = None
        self._censuses: Censuses | None = None

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a loop, in the process's own PID namespace."""
        if self._finding is None:
            return frozenset()
        return frozenset(loop.tid for loop in self._finding.loops.values())

    def find(self, memory: Memory, now_ns: int) -> None:
        """See which threads run a loop now; about once a second. ``now_ns`` as in :meth:`sample`.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; what was found before stays.
        """
        self._objects.begin(now_ns)
        try:
            places = self._finder.find(memory)
            if places != self._places:
                self._places, self._looks, self._finding = places, None, None
            if places is None:
                return
            if self._looks is None or self._finding is None:
                parts = self._python, self._objects, self._frames, places
                self._finding = Finding(*parts)
                self._looks = Looks(*parts, self._layout)
                self._censuses = Censuses(self._python, self._objects, places, self._layout)
            self._finding.update(memory, self._looks, now_ns)
        except ReadError as error:
            raise ReadError(SOURCE, error.reason, error.detail) from None

    def sample(self, memory: Memory, now_ns: int, *, functions: bool) -> list[LoopSample]:
        """Return what has each loop now.

        ``now_ns``: CLOCK_MONOTONIC as the process sees it. ``functions``: whether to tell the function of the
        application as well, which costs some reads more for each frame.

        :raises Gone: the program has ended.
        """
        if self._looks is None or self._finding is None:
            return []
        self._objects.begin(now_ns)
        samples = []
        for loop in self._finding.loops.values():
            sample = self._looks.look(memory, loop, now_ns, functions=functions)
            loop.looked_ns = now_ns
            if sample is not None:
                samples.append(sample)
        return samples

    def census(self, memory: Memory, now_ns: int, most: int) -> list[Census]:
        """Return all tasks of each loop, by name. Other arguments as in :meth:`sample`.

        It costs some 10 µs for each task. ``most``: how many there may be in the whole process.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; with the reason ``limit``, there are more.
        """
        if self._censuses is None or self._finding is None or not self._finding.loops:
            return []
        self._objects.begin(now_ns)
        try:
            return self._censuses.count(memory, self._finding.loops.values(), most)
        except ReadError as error:
            raise ReadError(SOURCE, error.reason, error.detail) from None
