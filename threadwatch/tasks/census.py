"""Counts all tasks of one process by their names, and whether they wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, TaskCount
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.kind import LoopPlace
from threadwatch.tasks.labels import Labels, Task
from threadwatch.tasks.layout import Layout
from threadwatch.tasks.objects import Objects
from threadwatch.tasks.places import Places
from threadwatch.tasks.registry import Registry

_PAGES_OF_A_TASK = 8
"""How many pages may be read for each: itself, its coroutine, its name, what refers to it."""
_PAGES = 4096
"""And besides, for the threads and what is the same for all."""


class Censuses:
    """Counts the tasks of one process."""

    def __init__(self, python: Python, objects: Objects, places: Places, layout: Layout) -> None:
        self._registry = Registry(python, layout, objects, places)
        self._labels = Labels(places, layout, objects, python.offsets.ob_type)

    def count(self, memory: Memory, loops: Iterable[LoopPlace], most: int) -> list[Census]:
        """Return the tasks of those loops. A task that ends meanwhile may be counted or not.

        :raises Gone: the program has ended.
        :raises ReadError: there are more than ``most``, or they are not where they should be.
        """
        labels, pages = self._labels, _PAGES + _PAGES_OF_A_TASK * most
        snapshot = Snapshot(memory, pages)
        by_loop = {loop.address: (loop, Counter[tuple[str, bool]]()) for loop in loops}
        size = labels.task_size
        named: list[tuple[int, bytes, Task, str]] = []
        for address in self._registry.tasks(memory, snapshot, most):
            try:
                data = snapshot.read(address, size)
                task = labels.parse(data)
                if task.loop in by_loop and not task.state:
                    named.append((address, data, task, labels.of_parsed(snapshot, task, task.loop)))
            except ReadError:
                continue  # it has ended meanwhile
        # Those that are the same tasks now had these names when they were read.
        snapshot = Snapshot(memory, pages)
        for address, data, task, label in named:
            try:
                again = snapshot.read(address, size)
            except ReadError:
                continue
            now = task if again == data else labels.parse(again)
            if now[:4] == task[:4] and not now.state:
                by_loop[task.loop][1][label, now.waits_for != 0] += 1
        return [_census(loop, counter) for loop, counter in by_loop.values()]


def _census(loop: LoopPlace, counter: Counter[tuple[str, bool]]) -> Census:
    labels = {label for label, _ in counter}
    counts = {label: TaskCount(counter[label, False], counter[label, True]) for label in labels}
    return Census(loop.tid, loop.kind, counts)
