"""Reads the frame of trio's loop: what it says at one moment, and how many tasks wait for a step."""

from __future__ import annotations

from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.names.memory.snapshot import Memory, word
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.layout import TAGS, malformed
from threadwatch.tasks.objects import words
from threadwatch.tasks.ready import length
from threadwatch.tasks.trio_places import TrioPlaces

_TRIES = 3


class Now(NamedTuple):
    """The frame of ``unrolled_run`` at one moment."""

    caller: int
    """The address of the frame that has called it; 0: none has, so the loop waits for events."""
    runner: int
    """The address of the ``Runner``."""
    task: int
    """The address of the task that takes a step; 0: none does."""
    now: int
    """The address of the time when the iteration began; of that before, in the first moments of one."""
    batch: int
    """The address of the list of tasks that are still to take a step in this iteration; 0: none yet."""


class TrioFrame:
    """The frames of ``unrolled_run`` in one process."""

    def __init__(self, shared: Shared, places: TrioPlaces) -> None:
        self._shared = shared
        self._places = places
        layout = shared.layout
        last = max(
            *(places.loop_runner, places.loop_task, places.loop_now, places.loop_batch),
            *(layout.frame_code, layout.frame_previous),
        )
        self._span = last + 8

    def read(self, memory: Memory, frame: int) -> Now:
        """Return what the frame at an address says now. Raises Gone or ReadError."""
        layout, places = self._shared.layout, self._places
        data = memory.read(frame, self._span)
        if word(data, layout.frame_code) & ~TAGS != places.loop:
            raise malformed("a frame is no more of trio's loop")
        return Now(
            word(data, layout.frame_previous) & ~TAGS,
            word(data, places.loop_runner) & ~TAGS,
            word(data, places.loop_task) & ~TAGS,
            word(data, places.loop_now) & ~TAGS,
            word(data, places.loop_batch) & ~TAGS,
        )

    def ready(self, memory: Memory, frame: int, now: Now) -> int | None:
        """Return how many tasks wait for a step, in this iteration and in the next; None: not known.

        ``now``: what the frame has said. Raises Gone.

        A new iteration takes all tasks out of the queue, in two instructions. Between both, they are in the
        batch as well. So while no task runs, the sum is known only if one of both is empty.
        """
        for _ in range(_TRIES):
            try:
                queued, taken = self._lengths(memory, now)
                before, now = now, self.read(memory, frame)
            except ReadError:
                return None
            if queued is None or taken is None:
                return None
            if now == before and (now.task or not queued or not taken):
                return queued + taken
        return None

    def _lengths(self, memory: Memory, now: Now) -> tuple[int | None, int | None]:
        """Return the length of the queue, and that of the batch. Raises Gone or ReadError."""
        objects, ob_type = self._shared.objects, self._shared.python.offsets.ob_type
        (queue,) = words(memory, now.runner + self._places.runner_queue, 1)
        queued = length(memory, objects, ob_type, queue, "deque")
        if not now.batch:
            return queued, 0
        return queued, length(memory, objects, ob_type, now.batch, "list")
