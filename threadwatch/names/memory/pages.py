"""Sees changes in many small places of a target's memory, and reads as few pages for that as possible.

A read costs 1.6 µs, and hardly more for a whole page than for one word. Objects that were made together lie
together: the names of a hundred threads are in some twenty pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Generic, TypeVar

from threadwatch.names.memory.snapshot import PAGE, Memory, Place

Owner = TypeVar("Owner")
Step = tuple[Place, bytes]
"""A place, and what was there."""


class Pages(Generic[Owner]):
    """Places of several owners, and what was in them."""

    __slots__ = ("_ranges", "_wanted")

    def __init__(self, steps: Iterable[tuple[Owner, Step]]) -> None:
        """Take places with what was there; none of them is empty."""
        pages: dict[int, list[tuple[int, bytes, Owner]]] = {}
        for owner, ((address, _), data) in steps:
            pages.setdefault(address // PAGE, []).append((address, data, owner))
        self._ranges: list[Place] = []
        self._wanted: list[_Wanted[Owner]] = []
        for parts in pages.values():
            start = min(address for address, _, _ in parts)
            end = max(address + len(data) for address, data, _ in parts)
            self._ranges.append((start, end - start))
            self._wanted.append(_Wanted(start, parts))

    def __len__(self) -> int:
        """Return how many reads it takes."""
        return len(self._ranges)

    def changed(self, memory: Memory) -> set[Owner]:
        """Return the owners of those places where something else is now, or nothing.

        :raises Gone: the program has ended.
        """
        found: set[Owner] = set()
        for data, wanted in zip(memory.read_each(self._ranges), self._wanted, strict=True):
            if wanted.parts_of(data) != wanted.parts:
                found.update(wanted.changed(data))
        return found


class _Wanted(Generic[Owner]):
    """The bytes that are wanted in one range of memory."""

    __slots__ = ("_owners", "_slices", "parts", "parts_of")

    def __init__(self, start: int, parts: list[tuple[int, bytes, Owner]]) -> None:
        self._owners = [owner for _, _, owner in parts]
        self._slices = [slice(at - start, at - start + len(data)) for at, data, _ in parts]
        self.parts_of: Callable[[bytes], Any] = itemgetter(*self._slices)
        """Cuts these parts out of the range: a tuple of them, or one alone."""
        wanted = tuple(data for _, data, _ in parts)
        self.parts: Any = wanted if len(wanted) > 1 else wanted[0]

    def changed(self, data: bytes) -> set[Owner]:
        """Return whose parts of these bytes are not those that are wanted."""
        wanted = self.parts if len(self._slices) > 1 else (self.parts,)
        return {
            owner
            for owner, part, old in zip(self._owners, self._slices, wanted, strict=True)
            if data[part] != old
        }
