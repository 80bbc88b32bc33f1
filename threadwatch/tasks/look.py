"""Looks at one loop at one moment, while the process runs on (docs/decisions/0035).

* What has the loop is what had it when the look began: a task by the thread's state or the dict of current
  tasks, a callback by the frame of ``_run_once``.
* A task's name is believed if the task is the same after it has been read; a callback's, if the iteration and
  its handle are.
* The frame of ``_run_once`` is believed if a walk from the thread's running frame leads to it, or if its
  iteration has begun since the look before, or if its handle is a step of the task that runs.
* What does not fit is looked at again, :data:`_TRIES` times. Then it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.model.loops import LOOP, UNKNOWN, LoopSample
from threadwatch.names.memory.snapshot import Memory
from threadwatch.tasks.asyncio_loop import Loop
from threadwatch.tasks.current import current_task
from threadwatch.tasks.frames import Frame, ThreadState, Walk
from threadwatch.tasks.functions import Functions, of_coroutine
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.labels import Labels
from threadwatch.tasks.layout import TAGS, malformed
from threadwatch.tasks.owner import OF_ASYNCIO, Owners
from threadwatch.tasks.places import Places

GREENLET = b"greenlet"
"""The module without which there are no greenlets."""
_TRIES = 3
_AHEAD_NS = 1_000_000_000
"""A clock that is further ahead of ours than this is another clock."""
_OWN_LOOP = "_UnixSelectorEventLoop"
"""The class of asyncio's own loop on Linux, whose clock is known."""
_FLOAT = Struct("<Qd")
_LATEST_S = 1e10
"""No clock shows more seconds."""


class Iteration(NamedTuple):
    """An iteration of a loop, by the frame of ``_run_once`` at one moment."""

    loop: int
    """The address of the loop."""
    began_ns: int | None
    """When the loop came back from its selector, by the loop's clock; None: it is there, or on its way."""
    handle: int
    """The address of the handle that runs, or has run last."""
    key: tuple[int, int, int, float]
    """What is another in another iteration, or with another handle."""


class _Ended(Exception):
    """The thread has ended."""


class Looks:
    """Looks at the loops of one process."""

    def __init__(self, shared: Shared, places: Places) -> None:
        python, layout, objects = shared.python, shared.layout, shared.objects
        self._owners = Owners(python, places.interpreter, OF_ASYNCIO)
        self._offsets = python.offsets
        self._layout = layout
        self._objects = objects
        self._frames = shared.frames
        self._modules = shared.imports
        self._places = places
        last = max(places.at_self, places.at_handle, places.at_end_time, places.at_i)
        self._words = Struct(f"<{last + 1}Q")
        self._functions = Functions(objects, places.standard_files)
        self._labels = Labels(places, layout, objects, python.offsets.ob_type)

    def look(
        self, memory: Memory, loop: Loop, now_ns: int, *, functions: bool
    ) -> LoopSample | None:
        """Return what has the loop now; None: its thread runs none. Raises Gone.

        If the thread runs another loop by now, it is that one's.
        """
        holder, age_ns = UNKNOWN, None
        expected = loop.frame
        for _ in range(_TRIES):
            state: ThreadState | None = None
            try:
                if self._layout.running_task:
                    state = self._state(memory, loop)
                    task = state.running_task if state.running_loop == loop.address else 0
                else:
                    task = current_task(memory, self._offsets, self._places, loop.address)
                if task:
                    return self._with_task(memory, loop, task, now_ns, functions=functions)
                state = state or self._state(memory, loop)
                if state.running_loop == 0:
                    return None
                walk = self._frames.walk(memory, state.frame, self._places.run_once, expected)
                expected = 0
                if walk.found is not None:
                    return self._without_task(memory, loop, walk, now_ns, functions=functions)
            except _Ended:
                return None
            except ReadError:
                continue
            if any(frame.code == self._places.run_forever for frame in walk.frames):
                holder, age_ns = LOOP, 0  # between two iterations
            elif state.running_loop is None and walk.outermost == loop.outermost:
                return None
        return LoopSample(loop.tid, loop.kind, holder, None, age_ns, None)

    def follow(self, memory: Memory, loop: Loop, frame: int) -> Iteration:
        """Take note that the thread of a loop runs the one whose ``_run_once`` has that frame.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such frame, or of no loop, or of one that another thread runs.
        """
        now = self._iteration(memory, frame)
        if now.loop != loop.address:
            kind = self._objects.type_at(memory, now.loop)
            if not self._objects.is_a(memory, kind, self._places.loop_type):
                raise malformed("what runs _run_once is no loop")
            own = self._objects.type(memory, kind).name == _OWN_LOOP
            self._owners.prove(memory, now.loop, loop.ident)
            loop.runs(now.loop, clock_known=own)
        loop.runs_in(frame)
        return now

    def _iteration(self, memory: Memory, frame: int) -> Iteration:
        """Return what a frame of ``_run_once`` says. Raises Gone or ReadError."""
        places = self._places
        words = self._words.unpack(memory.read(frame, self._words.size))
        if words[self._layout.frame_code // 8] & ~TAGS != places.run_once:
            raise malformed("a frame is no more of _run_once")
        loop, handle = words[places.at_self] & ~TAGS, words[places.at_handle] & ~TAGS
        end, i = words[places.at_end_time] & ~TAGS, words[places.at_i]
        if not end:
            return Iteration(loop, None, handle, (handle, 0, i, 0.0))
        kind, began = _FLOAT.unpack(memory.read(end + self._offsets.ob_type, _FLOAT.size))
        if not self._objects.is_builtin(memory, kind, "float") or not 0 <= began < _LATEST_S:
            raise malformed("a time is none")
        return Iteration(loop, int(began * 1e9), handle, (handle, end, i, began))

    def _state(self, memory: Memory, loop: Loop) -> ThreadState:
        """Return the state of a loop's thread. Raises Gone, or _Ended."""
        try:
            return self._frames.state(memory, loop.state, loop.ident, self._places.interpreter)
        except ReadError:
            raise _Ended from None

    def _with_task(
        self, memory: Memory, loop: Loop, task: int, now_ns: int, *, functions: bool
    ) -> LoopSample:
        """Return the task that runs, and how old its iteration is."""
        holder = self._labels.of_task(memory, task, loop.address)
        function = self._function(memory, loop, task) if functions else None
        age_ns = self._age_with_task(memory, loop, task, now_ns)
        return LoopSample(loop.tid, loop.kind, holder, function, age_ns, None)

    def _without_task(
        self, memory: Memory, loop: Loop, walk: Walk, now_ns: int, *, functions: bool
    ) -> LoopSample:
        """Return what has a loop that runs no task, by the frames from ``_run_once`` inwards."""
        now = self.follow(memory, loop, walk.outermost)
        if now.began_ns is None:
            return LoopSample(loop.tid, loop.kind, None, None, 0, None)
        age_ns = self._age(loop, now.began_ns, now_ns)
        if not walk.frames or walk.frames[-1].code != self._places.handle_run:
            return LoopSample(loop.tid, loop.kind, LOOP, None, age_ns, None)
        label = self._labels.of_handle(memory, now.handle, loop.address)
        function = None
        if functions:
            function = self._functions.outermost(memory, reversed(walk.frames))
        if self._iteration(memory, loop.frame) != now:
            raise malformed("a callback has ended")
        return LoopSample(loop.tid, loop.kind, label.text, function, age_ns, None)

    def _function(self, memory: Memory, loop: Loop, task: int) -> str | None:
        """Return the outermost function of the application that runs in that task; None: not known."""
        for _ in range(_TRIES):
            try:
                frames = self._frames_of(memory, loop, self._labels.coroutine_of(memory, task))
                found = self._functions.outermost(memory, reversed(frames))
                running = self._state(memory, loop).running_task
                if running is None:
                    running = current_task(memory, self._offsets, self._places, loop.address)
            except (ReadError, _Ended):
                continue
            return found if running == task else None
        return None

    def _frames_of(self, memory: Memory, loop: Loop, coroutine: int) -> Sequence[Frame]:
        """Return the frames of the task with that coroutine, the innermost first.

        In a greenlet, frames end where that begins. Two walks have to end there, and the process has to have
        greenlets.

        :raises ReadError: they do not, or the task runs no more; :class:`_Ended`.
        """
        walk = self._walk(memory, loop)
        frames = of_coroutine(memory, self._offsets.minor, walk.frames, coroutine)
        if frames is not None:
            return frames
        own = self._places.run_forever
        if GREENLET in self._modules.found and all(frame.code != own for frame in walk.frames):
            again = self._walk(memory, loop)
            if walk.found is again.found is None and again.outermost == walk.outermost:
                return walk.frames
        raise malformed("a task runs no more")

    def _walk(self, memory: Memory, loop: Loop) -> Walk:
        """Walk the frames of a loop's thread to that of ``_run_once``. Raises ReadError or _Ended."""
        state = self._state(memory, loop)
        return self._frames.walk(memory, state.frame, self._places.run_once)

    def _age_with_task(self, memory: Memory, loop: Loop, task: int, now_ns: int) -> int | None:
        """Return how long the iteration runs in which that task takes a step; None: not known.

        One that has begun since the last look is believed as it is read: what is read wrong can be taken
        for a moment in so short a time only if it is one of the loop's.
        """
        age_ns = None
        for _ in range(_TRIES):
            try:
                now = self._iteration(memory, loop.frame)
                if now.loop != loop.address:
                    raise malformed("a frame is of another loop")
                if now.began_ns is None:
                    age_ns = 0  # it has ended meanwhile
                elif now.began_ns > loop.looked_ns or self._is_live(memory, loop, task, now):
                    return self._age(loop, now.began_ns, now_ns)
                elif self._iteration(memory, loop.frame) != now:
                    age_ns = 0  # iterations end faster than they can be read
            except ReadError:
                if not self._find_frame(memory, loop):
                    return None
        return age_ns

    def _find_frame(self, memory: Memory, loop: Loop) -> bool:
        """Walk to the frame of ``_run_once``; return whether there is one."""
        try:
            found = self._walk(memory, loop).found
        except (ReadError, _Ended):
            return False
        if found is not None:
            loop.runs_in(found.address)
        return found is not None

    def _is_live(self, memory: Memory, loop: Loop, task: int, now: Iteration) -> bool:
        """Return whether an iteration runs, and is not what is left of one.

        In a greenlet, or below very many frames, no walk leads to its frame. Then its handle has to be a
        step of the task.
        """
        frame = loop.frame
        try:
            if self._find_frame(memory, loop):
                if loop.frame != frame:
                    return False
            elif self._labels.of_handle(memory, now.handle, loop.address).task != task:
                return False
            return self._iteration(memory, loop.frame) == now
        except ReadError:
            return False

    def _age(self, loop: Loop, began_ns: int, now_ns: int) -> int | None:
        """Return how old an iteration is; None if the loop's clock is another than ours."""
        if began_ns > now_ns + _AHEAD_NS:
            loop.know_clock(known=False)
        elif began_ns > loop.looked_ns:
            loop.know_clock(known=True)
        return max(0, now_ns - began_ns) if loop.clock_known else None
