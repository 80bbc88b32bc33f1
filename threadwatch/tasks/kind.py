"""Says what a reader of one kind of loop has to be, and what the readers of one process share.

:mod:`.loops` asks all kinds, in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from threadwatch.model.loops import Census, LoopKind, LoopSample
from threadwatch.names.memory.snapshot import Memory
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.frames import Frames
from threadwatch.tasks.imports import Imports
from threadwatch.tasks.layout import Layout
from threadwatch.tasks.objects import Objects
from threadwatch.tasks.places import PlacesFinder

Asleep = Callable[[int], int | None]
"""Returns what a thread slept in right before a look, by its TID in the process's own PID namespace: the
descriptor of the epoll that it waited for, or :data:`ELSEWHERE`. None: it ran, was ready to run, or it is not
known."""

ELSEWHERE = -1
"""A thread sleeps in another system call than one of epoll's."""


def not_known(_: int) -> None:
    """Know of no thread whether it slept."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts that all kinds of loops of one process are read with."""

    python: Python
    layout: Layout
    objects: Objects
    frames: Frames
    asyncio: PlacesFinder
    """Has what asyncio consists of; asked first in each :meth:`.Loops.find`."""
    imports: Imports
    """Has the modules of all kinds of loops; asked before all kinds in each :meth:`.Loops.find`."""


class LoopPlace(Protocol):
    """The place of a loop whose tasks are asyncio's."""

    @property
    def tid(self) -> int:
        """Return the thread that runs it, in the process's own PID namespace."""

    @property
    def address(self) -> int:
        """Return the address of the loop."""

    @property
    def kind(self) -> LoopKind:
        """Return its kind."""


class LoopReader(Protocol):
    """Reads the loops of one kind in one process."""

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads that were found with such a loop, in the process's own PID namespace."""

    def find(self, memory: Memory, now_ns: int, /) -> None:
        """See which threads run such a loop now. A process that has none should cost next to nothing.

        :raises Gone: the program has ended.
        :raises ReadError: what was found before stays.
        """

    def sample(
        self, memory: Memory, now_ns: int, asleep: Asleep, /, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each loop now; a thread that runs none any more is missing. Raises Gone."""

    def skip(self, now_ns: int, /) -> None:
        """Note that what the last sample has found holds until now: all threads have slept since."""

    def iterations(self, memory: Memory, /) -> dict[int, int]:
        """Return by TID the number of the iteration of each loop, where samples have one. Raises Gone."""

    def census(self, memory: Memory, most: int, /) -> list[Census]:
        """Return all tasks of each loop, by name; those of a kind without tasks are none.

        ``most``: how many there may be in the whole process.

        :raises Gone: the program has ended.
        :raises ReadError: with the reason ``limit``, there are more.
        """
