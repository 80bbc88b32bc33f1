"""Looks at one loop of trio at one moment, while the process runs on (docs/decisions/0045).

The frame of the generator ``unrolled_run`` stays where it is as long as the loop runs, and one read of it
tells all: it has been called by no frame while the loop waits for events; its local ``task`` is the task that
runs, and is deleted after the step; ``now`` is the time at which the iteration began. That read is believed
if the frame that has called it is that of ``run``, in the very thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from threadwatch.errors import ReadError
from threadwatch.model.loops import LOOP, UNKNOWN, LoopSample
from threadwatch.names.memory.snapshot import Memory, word
from threadwatch.tasks.functions import Functions, of_coroutine
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.layout import TAGS, malformed
from threadwatch.tasks.objects import words
from threadwatch.tasks.trio_frame import Now, TrioFrame
from threadwatch.tasks.trio_places import TrioPlaces

_TRIES = 3
_REREADS = 8
"""How often a loop that does its own work is read until it does something else."""
_COROUTINE_HEADS = range(32, 104, 8)
"""Where a generator of 3.11 or later may have its frame; the one that does has its code there."""
_LAST_WITH_FRAME_OBJECTS = 10
_FRAME_OBJECT = 16
"""Up to that version, a generator has the address of its frame there."""
_MOST_CALLERS = 2
"""From a generator to the frame that has resumed it: one may be the interpreter's own."""
_FLOAT = Struct("<Qd")
_LATEST_S = 1e10
"""No clock shows more seconds."""


@dataclass(slots=True)
class TrioLoop:
    """A thread, and the ``trio.run`` in it."""

    state: int
    """The address of its thread state."""
    ident: int
    tid: int
    frame: int
    """That of the frame of ``run``."""
    loop: int
    """That of the frame of ``unrolled_run``."""


class TrioLooks:
    """Looks at the loops of trio in one process."""

    def __init__(self, shared: Shared, places: TrioPlaces, interpreter: int) -> None:
        self._shared = shared
        self._places = places
        self._interpreter = interpreter
        self._functions = Functions(shared.objects, places.standard_files)
        self.frame = TrioFrame(shared, places)
        self._last_of_run = max(places.run_generator, shared.layout.frame_code) + 8
        self._clock_span = places.clock_offset + 8

    def follow(self, memory: Memory, state: int, ident: int, tid: int, frame: int) -> TrioLoop:
        """Return the loop that a frame of ``run`` runs.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such frame, or has no loop yet.
        """
        places = self._places
        data = memory.read(frame, self._last_of_run)
        generator = word(data, places.run_generator) & ~TAGS
        return TrioLoop(state, ident, tid, frame, self._frame_of(memory, generator))

    def _frame_of(self, memory: Memory, generator: int) -> int:
        """Return the address of the frame of a generator, which has to be trio's loop."""
        shared = self._shared
        if not shared.objects.is_builtin(
            memory, shared.objects.type_at(memory, generator), "generator"
        ):
            raise malformed("trio's loop is no generator")
        if shared.python.offsets.minor <= _LAST_WITH_FRAME_OBJECTS:
            candidates = [words(memory, generator + _FRAME_OBJECT, 1)[0]]
        else:
            candidates = [generator + at for at in _COROUTINE_HEADS]
        for frame in candidates:
            if frame and shared.frames.step(memory, frame)[0] == self._places.loop:
                return frame
        raise malformed("trio's loop has no frame")

    def _offset(self, memory: Memory, runner: int) -> float | None:
        """Return by how much the clock of a loop is ahead of CLOCK_MONOTONIC; None: it is another clock.

        Raises Gone or ReadError.
        """
        places = self._places
        (clock,) = words(memory, runner + places.runner_clock, 1)
        data = memory.read(clock, self._clock_span)
        if word(data, self._shared.python.offsets.ob_type) != places.clock_type:
            return None
        return self._float(memory, word(data, places.clock_offset))

    def _float(self, memory: Memory, address: int) -> float:
        """Return a time. Raises Gone or ReadError."""
        kind, value = _FLOAT.unpack(
            memory.read(address + self._shared.python.offsets.ob_type, _FLOAT.size)
        )
        if not self._shared.objects.is_builtin(memory, kind, "float") or not 0 <= value < _LATEST_S:
            raise malformed("a time is none")
        return float(value)

    def look(
        self, memory: Memory, loop: TrioLoop, now_ns: int, *, functions: bool
    ) -> LoopSample | None:
        """Return what has the loop now; None: its thread runs it no more. Raises Gone."""
        for tries_left in reversed(range(_TRIES)):
            try:
                now = self.frame.read(memory, loop.loop)
                if not now.caller:
                    if self._waits(memory, loop):
                        ready = self.frame.ready(memory, loop.loop, now)
                        return LoopSample(loop.tid, "trio", None, None, 0, ready)
                    if not tries_left:
                        return None
                    continue
                self._prove(memory, loop, now)
                if not now.task:
                    age_ns = self._age_without_task(memory, loop, now, now_ns)
                    ready = self.frame.ready(memory, loop.loop, now)
                    return LoopSample(loop.tid, "trio", LOOP, None, age_ns, ready)
                age_ns = self._age(memory, loop, now, now_ns)
                name = self._name(memory, now.task)
                function = self._function(memory, loop, now.task) if functions else None
                ready = self.frame.ready(memory, loop.loop, now)
                return LoopSample(loop.tid, "trio", name, function, age_ns, ready)
            except ReadError:
                continue
        if self._has_ended(memory, loop):
            return None
        return LoopSample(loop.tid, "trio", UNKNOWN, None, None, None)

    def _prove(self, memory: Memory, loop: TrioLoop, now: Now) -> None:
        """See that the thread's own frame of ``run`` has resumed the loop. Raises ReadError if not."""
        frame = now.caller
        for _ in range(_MOST_CALLERS):
            code, before = self._shared.frames.step(memory, frame)
            if frame == loop.frame and code == self._places.run:
                return
            frame = before
        raise malformed("trio's loop is run by another frame")

    def _waits(self, memory: Memory, loop: TrioLoop) -> bool:
        """Return whether a loop that has been resumed by no frame is still the thread's."""
        state = self._shared.frames.state(memory, loop.state, loop.ident, self._interpreter)
        found = self._shared.frames.walk(memory, state.frame, self._places.run).found
        if found is None or found.address != loop.frame:
            return False
        (generator,) = words(memory, loop.frame + self._places.run_generator, 1)
        return self._frame_of(memory, generator & ~TAGS) == loop.loop

    def _has_ended(self, memory: Memory, loop: TrioLoop) -> bool:
        """Return whether a loop's thread has ended, or runs no ``trio.run`` any more."""
        frames = self._shared.frames
        try:
            state = frames.state(memory, loop.state, loop.ident, self._interpreter)
        except ReadError:
            return True
        try:
            return frames.step(memory, loop.frame)[0] != self._places.run or not state.frame
        except ReadError:
            return True

    def _name(self, memory: Memory, task: int) -> str:
        """Return the name of a task: trio gives it that of its function, unless it was given another."""
        objects, places = self._shared.objects, self._places
        if objects.type_at(memory, task) != places.task_type:
            raise malformed("what should be a task of trio is none")
        (name,) = words(memory, task + places.task_name, 1)
        text = objects.text(memory, name)
        if (
            words(memory, task + places.task_name, 1)[0] != name
            or objects.type_at(memory, task) != places.task_type
        ):
            raise malformed("a task has ended")
        return text or UNKNOWN

    def _function(self, memory: Memory, loop: TrioLoop, task: int) -> str | None:
        """Return the outermost function of the application that runs in that task; None: not known.

        In a greenlet it is not known.
        """
        shared = self._shared
        for _ in range(_TRIES):
            try:
                state = shared.frames.state(memory, loop.state, loop.ident, self._interpreter)
                walk = shared.frames.walk(memory, state.frame, self._places.loop)
                (coroutine,) = words(memory, task + self._places.task_coroutine, 1)
                minor = shared.python.offsets.minor
                frames = of_coroutine(memory, minor, walk.frames, coroutine)
                if self.frame.read(memory, loop.loop).task != task:
                    return None
                if frames is not None:
                    return self._functions.outermost(memory, reversed(frames))
            except ReadError:
                continue
        return None

    def _age(self, memory: Memory, loop: TrioLoop, now: Now, now_ns: int) -> int | None:
        """Return how long the iteration runs in which a task takes a step; None: not known.

        An iteration that ends while its beginning is read has just begun, for all that can be known.
        """
        for _ in range(_TRIES):
            try:
                began_s = self._float(memory, now.now)
                offset_s = self._offset(memory, now.runner)
                again = self.frame.read(memory, loop.loop)
                # the loop that follows can have its own in the same places, with another offset
                same = self._float(memory, now.now) == began_s
            except ReadError:
                return None
            if offset_s is None:
                return None
            if same and (again.now, again.runner) == (now.now, now.runner):
                return max(0, now_ns - round((began_s - offset_s) * 1e9))
            if not again.task:
                break
            now = again
        return 0

    def _age_without_task(
        self, memory: Memory, loop: TrioLoop, now: Now, now_ns: int
    ) -> int | None:
        """Return the age of an iteration in which the loop itself works; None: not known.

        In its first moments, the time is still that of the iteration before. So it is believed once a task
        runs, or the loop waits again, and it is still the same.
        """
        if not now.now:
            return None
        for _ in range(_REREADS):
            try:
                again = self.frame.read(memory, loop.loop)
                if again.now != now.now:
                    return 0
                if again.task or not again.caller:
                    return self._age(memory, loop, again, now_ns)
            except ReadError:
                return None
        return None
