"""Finds the threads of one process that run a loop: those with a frame of asyncio's ``_run_once``.

A thread of 3.13 and later says whether it runs a loop at all. Threads of older versions are walked, but for
those whose innermost frame is the one that was walked before. A loop that looks have just seen is not looked
for, but every fourth time.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.names.memory.snapshot import Memory, half, word
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.asyncio_loop import Loop
from threadwatch.tasks.frames import Frames
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.look import Looks
from threadwatch.tasks.objects import Objects
from threadwatch.tasks.places import Places
from threadwatch.tasks.states import State, States

Innermost = tuple[int, int, int]
"""A thread's innermost frame: its address, its code, and its caller."""
MOST_LOOPS = 256
"""Of one process; threads beyond have none."""

_TRIES = 3
_STATES_AT_ONCE = 512
"""Of a process with more threads, they are looked at less often."""


class Finding:
    """The threads of one process that run a loop, as they were found last."""

    def __init__(self, python: Python, objects: Objects, frames: Frames, places: Places) -> None:
        self._python = python
        self._objects = objects
        self._frames = frames
        self._places = places
        self.loops: dict[int, Loop] = {}
        """By the addresses of thread states."""
        self._without: dict[int, Innermost] = {}
        """By the same, where threads were that ran no loop."""
        self._states = States(python, places.interpreter, frames.state_size)
        self._pause = 0

    def update(self, memory: Memory, looks: Looks, now_ns: int) -> None:
        """See which threads run a loop now.

        :raises Gone: the program has ended.
        :raises ReadError: the threads cannot be read; what was found before stays.
        """
        if self._pause:
            self._pause -= 1
            return
        states = self._states.read(memory)
        self._pause = len(states) // _STATES_AT_ONCE
        loops: dict[int, Loop] = {}
        without: dict[int, Innermost] = {}
        for state in states:
            if len(loops) >= MOST_LOOPS:
                break
            loop = self.loops.get(state.address)
            if loop is None or loop.ident != state.ident:
                loop = Loop(state=state.address, ident=state.ident, looked_ns=now_ns)
            elif self._goes_on(loop, state):
                loops[state.address] = loop
                continue
            innermost = self._see(memory, looks, loop, state.data)
            if innermost is not None:
                without[state.address] = innermost
            elif loop.address:
                loop.was_found(loop.tid or tid_of(self._python, memory, state.ident, state.native))
                if loop.tid:
                    loops[state.address] = loop
        self.loops, self._without = loops, without

    def _goes_on(self, loop: Loop, state: State) -> bool:
        """Return whether a thread runs the loop that was found in it: looks have seen it since."""
        return loop.need_not_be_found() and self._frames.running_loop(state.data) in (
            None,
            loop.address,
        )

    def _see(self, memory: Memory, looks: Looks, loop: Loop, data: bytes) -> Innermost | None:
        """See which loop a thread runs. Its address is 0 after that if there is none.

        ``data``: the thread's state, as it has just been read. Return the innermost frame of a thread whose
        frames show that it runs none.
        """
        for attempt in range(_TRIES):
            try:
                if attempt:
                    data = memory.read(loop.state, self._frames.state_size)
                state = self._frames.parse(memory, data, loop.ident, self._places.interpreter)
                runs = state.running_loop is None or self._is_own(memory, loop, state.running_loop)
            except ReadError:
                loop.runs_none()
                return None
            if not runs or (not state.frame and attempt == _TRIES - 1):
                loop.runs_none()
                return None
            innermost: Innermost | None = None
            try:
                if not state.frame:  # up to 3.12, the way to it can lead over what has just ended
                    raise malformed("a thread has no frame")
                if state.running_loop is None:
                    innermost = state.frame, *self._frames.step(memory, state.frame)
                    if self._without.get(loop.state) == innermost:
                        return innermost
                walk = self._frames.walk(memory, state.frame, self._places.run_once)
                if walk.found is not None:
                    looks.follow(memory, loop, walk.found.address)
                    if state.running_loop is None:
                        loop.begins_above(self._outermost(memory, loop.frame))
                    elif state.running_loop != loop.address:
                        raise malformed("a thread says that it runs another loop")
                    return None
            except ReadError:
                continue
            between = any(frame.code == self._places.run_forever for frame in walk.frames)
            if innermost and not between and loop.outermost in (0, walk.outermost):
                loop.runs_none()
                return innermost if self._is_in(memory, loop, innermost) else None
        # It went on too fast, or is in a greenlet, or below too many frames: what it was stays.
        return None

    def _is_in(self, memory: Memory, loop: Loop, innermost: Innermost) -> bool:
        """Return whether a thread is still where it was: the walk from there was one of its own frames."""
        try:
            state = self._frames.state(memory, loop.state, loop.ident, self._places.interpreter)
            return (state.frame, *self._frames.step(memory, state.frame)) == innermost
        except ReadError:
            return False

    def _is_own(self, memory: Memory, known: Loop, address: int) -> bool:
        """Return whether a thread that says that it runs this loop, or 0, runs one of this kind."""
        if address in (0, known.address):
            return address != 0
        objects = self._objects
        return objects.is_a(memory, objects.type_at(memory, address), self._places.loop_type)

    def _outermost(self, memory: Memory, frame: int) -> int:
        """Return the outermost frame below a frame: two walks have to lead to it."""
        found = self._frames.walk(memory, frame, until=-1).outermost
        if found == frame or self._frames.walk(memory, frame, until=-1).outermost != found:
            raise malformed("a loop ends just now")
        return found


def tid_of(python: Python, memory: Memory, ident: int, native: int) -> int:
    """Return a thread's TID by the C library, else by its thread state; 0: it cannot be told."""
    if not python.tid_offset:
        return native
    try:
        if python.points_to_itself and word(memory.read(ident, 8), 0) != ident:
            return 0
        return half(memory.read(ident + python.tid_offset, 4), 0)
    except ReadError:
        return 0
