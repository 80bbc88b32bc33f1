"""Walks the frames of a thread, from the one that runs outwards, while the thread runs on.

A frame of 3.9 and 3.10 is an object; later ones lie in a stack of the thread, those of coroutines in the
coroutine. What was called last comes first. A walk can leave the path at any step, because a frame ends or a
coroutine waits meanwhile, so it has an end in any case, and the caller walks again.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from threadwatch.names.memory.snapshot import word
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.layout import TAGS, Layout, malformed
from threadwatch.tasks.objects import Readable

MOST_FRAMES = 200
"""A walk ends after as many: what lies further out is not seen."""


class Frame(NamedTuple):
    """One frame."""

    address: int
    code: int
    """The address of its code; of frames that the interpreter itself makes, of another object or 0."""


class Walk(NamedTuple):
    """The frames that a walk has met."""

    frames: tuple[Frame, ...]
    """The innermost first, without the one that was looked for."""
    found: Frame | None
    """The first frame with the code that was looked for."""

    @property
    def outermost(self) -> int:
        """Return the address of the last frame."""
        last = self.found or (self.frames[-1] if self.frames else None)
        return last.address if last else 0


class ThreadState(NamedTuple):
    """The part of a ``PyThreadState`` that each look needs."""

    frame: int
    """The address of the frame that runs; 0: none."""
    running_loop: int | None
    """The loop that runs in the thread, 0 for none; None: a version that does not say."""
    running_task: int | None
    """The task that runs in that loop, 0 for none; None: a version that does not say."""


class Frames:
    """Frames of one process's threads."""

    def __init__(self, python: Python, layout: Layout) -> None:
        o = python.offsets
        self._ident, self._interpreter = o.ident, o.state_interpreter
        self._layout = layout
        self.state_size = 8 + max(
            *(o.ident, o.state_interpreter),
            *(layout.current_frame[0], layout.running_loop, layout.running_task),
        )
        """Bytes of a thread state that :meth:`parse` needs."""
        first, last = sorted((layout.frame_code, layout.frame_previous))
        self._from = first
        self._pair = Struct(f"<Q{last - first - 8}xQ")
        self._code_first = first == layout.frame_code

    def state(self, memory: Readable, address: int, ident: int, interpreter: int) -> ThreadState:
        """Return what that thread does, whose ident and interpreter have to be those.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such thread, or no more.
        """
        return self.parse(memory, memory.read(address, self.state_size), ident, interpreter)

    def parse(self, memory: Readable, data: bytes, ident: int, interpreter: int) -> ThreadState:
        """Return the same of a thread state that has been read. Raises as :meth:`state`."""
        layout = self._layout
        if word(data, self._ident) != ident or word(data, self._interpreter) != interpreter:
            raise malformed("a thread has ended")
        frame = word(data, layout.current_frame[0])
        for offset in layout.current_frame[1:]:
            frame = word(memory.read(frame + offset, 8), 0) if frame else 0
        return ThreadState(
            frame,
            self.running_loop(data),
            word(data, layout.running_task) & ~TAGS if layout.running_task else None,
        )

    def running_loop(self, data: bytes) -> int | None:
        """Return the loop that runs in the thread with that state: see :attr:`ThreadState.running_loop`."""
        at = self._layout.running_loop
        return word(data, at) & ~TAGS if at else None

    def step(self, memory: Readable, frame: int) -> tuple[int, int]:
        """Return the addresses of a frame's code and of the frame that called it, 0 for none."""
        data = memory.read(frame + self._from, self._pair.size)
        one, other = self._pair.unpack(data)
        code, previous = (one, other) if self._code_first else (other, one)
        return code & ~TAGS, previous & ~TAGS

    def walk(self, memory: Readable, frame: int, until: int, expected: int = 0) -> Walk:
        """Walk from a frame outwards, until one has that code, or to the end. Raises as :meth:`step`.

        ``expected``: the frame that has it, if that is on the way. The caller has to see whether it has.
        """
        frames: list[Frame] = []
        while frame and len(frames) < MOST_FRAMES:
            if frame == expected:
                return Walk(tuple(frames), Frame(frame, until))
            code, previous = self.step(memory, frame)
            if code == until:
                return Walk(tuple(frames), Frame(frame, code))
            frames.append(Frame(frame, code))
            frame = previous
        return Walk(tuple(frames), None)

    def walk_to(self, memory: Readable, frame: int, last: int) -> tuple[Frame, ...]:
        """Walk from a frame outwards to another, which comes last; or to the end. Raises as :meth:`step`."""
        frames: list[Frame] = []
        while frame and len(frames) < MOST_FRAMES:
            code, previous = self.step(memory, frame)
            frames.append(Frame(frame, code))
            if frame == last:
                break
            frame = previous
        return tuple(frames)

    def instruction(self, memory: Readable, frame: int) -> int:
        """Return a number that stays the same as long as a frame is in the same instruction."""
        return word(memory.read(frame + self._layout.frame_instruction, 8), 0)
