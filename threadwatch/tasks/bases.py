"""Finds where the frames of a loop's callbacks begin, for loops in C, which have no frame of their own.

Such a loop is run by a frame of Python that calls it: the **base**. What the loop calls lies inside. The base
is where the thread is while it sleeps in the loop's selector, and what resumes the coroutine of a task. It is
the base as long as it is in the same instruction: the call that runs the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.tasks.frames import Frame, Frames
from threadwatch.tasks.functions import of_coroutine
from threadwatch.tasks.objects import Code, Objects, Readable


class Base(NamedTuple):
    """The frame that runs a loop."""

    frame: Frame
    instruction: int


class Bases:
    """Frames between a loop in C and what it calls, in one process."""

    def __init__(self, frames: Frames, objects: Objects, minor: int) -> None:
        """``minor``: the version of Python."""
        self._frames = frames
        self._objects = objects
        self._minor = minor

    def code(self, memory: Readable, frame: Frame) -> Code | None:
        """Return the code of a frame; None: it is one of the interpreter's own. Raises Gone."""
        try:
            code = self._objects.code(memory, frame.code)
        except ReadError:
            return None
        return None if code.file.startswith("<shim") else code

    def at(self, memory: Readable, frame: Frame) -> Base:
        """Return a frame as a base. Raises Gone or ReadError."""
        return Base(frame, self._frames.instruction(memory, frame.address))

    def below_task(self, memory: Readable, frames: Sequence[Frame], coroutine: int) -> Base | None:
        """Return what has resumed a task, by its coroutine and the thread's frames, the innermost first.

        None: the frames are not those of the task. Raises Gone or ReadError.
        """
        inner = of_coroutine(memory, self._minor, frames, coroutine)
        if inner is None:
            return None
        for frame in frames[len(inner) :]:
            if self.code(memory, frame) is not None:
                return self.at(memory, frame)
        return None

    def inside(self, memory: Readable, innermost: int, base: Base) -> tuple[Frame, ...] | None:
        """Return the frames inside a base, from the thread's innermost one on; None: it is not the base.

        Raises Gone or ReadError.
        """
        frames = self._frames.walk_to(memory, innermost, base.frame.address)
        if not frames or frames[-1] != base.frame:
            return None
        if self._frames.instruction(memory, base.frame.address) != base.instruction:
            return None
        return frames[:-1]
