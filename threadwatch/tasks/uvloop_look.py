"""Looks at one loop of uvloop at one moment, while the process runs on (docs/decisions/0044).

* A task has the loop if asyncio says so: uvloop runs asyncio's own tasks. Its name is believed as in
  :mod:`.look`.
* Without a task, what lies inside of the frame that runs the loop (:mod:`.bases`) is a callback. Its name is
  that of the outermost function of Python.
* If nothing lies there, the loop is at its selector, or does its own work, in C. Whether the thread sleeps in
  the loop's own epoll tells; one that does not sleep may only have been woken (:attr:`.LoopSample.woken`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.model.loops import CALLBACK, LOOP, UNKNOWN, LoopKind, LoopSample
from threadwatch.names.memory.snapshot import Memory, word
from threadwatch.tasks.bases import Base, Bases
from threadwatch.tasks.beginning import Beginning
from threadwatch.tasks.current import current_task
from threadwatch.tasks.frames import Frame, ThreadState
from threadwatch.tasks.functions import Functions, of_coroutine
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.labels import Labels
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.places import Places
from threadwatch.tasks.ready import length
from threadwatch.tasks.uvloop_layout import (
    COUNT,
    LOOP_SIZE,
    LoopLayout,
    parse_loop,
    parse_uv,
)

_TRIES = 3
_CLOCK_MONOTONIC_COARSE = 6
"""<time.h>"""
_COARSE_NS = round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e9)
_MS = 1_000_000
_ROUNDED_NS = round((_MS + (_COARSE_NS if _COARSE_NS <= _MS else 0)) / 2)
"""By how much libuv's time is too early, on average: it has milliseconds, and is from the coarse clock where
that is as fine (libuv: src/unix/linux.c, uv__hrtime())."""


@dataclass(slots=True)
class UvLoop:
    """A thread, and the loop of uvloop that it runs."""

    state: int
    """The address of its thread state."""
    ident: int
    tid: int
    address: int
    """That of the ``Loop``."""
    type: int
    """That of its type."""
    layout: LoopLayout
    base: Base | None = None
    """What runs the loop, if that is known."""
    perhaps: Base | None = None
    """What may be it: it has been seen once at the selector."""
    kind: LoopKind = "uvloop"
    counter: int = 0
    """The address of the number of its iteration, which is 0 if it does not count; 0: not known yet."""
    beginning: Beginning = field(default_factory=Beginning)


class _Now(NamedTuple):
    """The loop at the moment of a look."""

    state: ThreadState
    task: int
    """The address of the task that runs; 0: none does."""
    backend_fd: int
    time_ms: int
    iteration: int | None
    """The number of the iteration; None: the loop does not count."""
    ready: int | None
    """As :attr:`.LoopSample.ready`."""
    lasted: bool
    """It was the same before the task was read, and after the time was."""

    def sample(self, loop: UvLoop, holder: str | None, function: str | None = None) -> LoopSample:
        """Return a sample, whose age is still to be told."""
        return LoopSample(
            loop.tid, loop.kind, holder, function, None, self.ready, iteration=self.iteration
        )


class UvLooks:
    """Looks at the loops of uvloop in one process."""

    def __init__(self, shared: Shared, places: Places, uv_size: int) -> None:
        self._shared = shared
        self._places = places
        self._uv_size = uv_size
        self._labels = Labels(places, shared.layout, shared.objects, shared.python.offsets.ob_type)
        self._functions = Functions(shared.objects, places.standard_files)
        self._bases = Bases(shared.frames, shared.objects, shared.python.offsets.minor)

    def look(
        self, memory: Memory, loop: UvLoop, now_ns: int, slept: int | None, *, functions: bool
    ) -> LoopSample | None:
        """Return what has the loop now; None: its thread does not run it. Raises Gone.

        ``slept``: as :data:`.Asleep` returns.
        """
        for _ in range(_TRIES):
            try:
                now = self._now(memory, loop)
                if now is None:
                    loop.beginning.forget()
                    return None
                if now.task:
                    sample = self._with_task(memory, loop, now, functions=functions)
                else:
                    sample, now = self._without_task(memory, loop, now, slept, functions=functions)
            except ReadError:
                continue
            read_ns = now.time_ms * _MS + _ROUNDED_NS
            age_ns = loop.beginning.age_ns(sample, read_ns, now_ns, lasted=now.lasted)
            return sample._replace(age_ns=age_ns)
        return LoopSample(loop.tid, loop.kind, UNKNOWN, None, None, None)

    @staticmethod
    def iteration(memory: Memory, loop: UvLoop) -> int | None:
        """Return the number of a loop's iteration now; None: it does not count. Raises Gone."""
        try:
            return (word(memory.read(loop.counter, 8), 0) or None) if loop.counter else None
        except ReadError:
            return None

    def _now(self, memory: Memory, loop: UvLoop) -> _Now | None:
        """Return the loop now; None: the thread does not run it any more. Raises Gone or ReadError."""
        shared = self._shared
        number = self.iteration(memory, loop)
        try:
            state = shared.frames.state(memory, loop.state, loop.ident, self._places.interpreter)
        except ReadError:
            return None  # the thread has ended
        if state.running_loop not in (None, loop.address):
            return None
        task = state.running_task
        if task is None:
            task = current_task(memory, shared.python.offsets, self._places, loop.address)
        head = parse_loop(
            memory.read(loop.address, LOOP_SIZE),
            loop.layout,
            shared.python.offsets.ob_type,
            loop.ident,
        )
        if head is None or head.type != loop.type:
            return None
        uv = parse_uv(memory.read(head.uv, self._uv_size))
        if uv.loop != loop.address:
            raise malformed("a loop of libuv belongs to another loop")
        if loop.layout.counts and loop.counter != uv.internal_fields + COUNT:
            loop.counter = uv.internal_fields + COUNT
            loop.beginning.forget()
            raise malformed("a loop is new, or another has its address")
        lasted = self.iteration(memory, loop) == number
        ob_type = shared.python.offsets.ob_type
        ready = length(memory, shared.objects, ob_type, head.ready, "deque")
        return _Now(state, task, uv.backend_fd, uv.time_ms, number, ready, lasted)

    def _with_task(self, memory: Memory, loop: UvLoop, now: _Now, *, functions: bool) -> LoopSample:
        """Return the task that runs."""
        holder = self._labels.of_task(memory, now.task, loop.address)
        function = None
        if functions or loop.base is None:
            function = self._function(memory, loop, now, functions=functions)
        return now.sample(loop, holder, function)

    def _function(self, memory: Memory, loop: UvLoop, now: _Now, *, functions: bool) -> str | None:
        """Return the outermost function of the application that runs in that task; None: not known.

        On the way, learn what runs the loop.
        """
        frames = self._shared.frames
        for _ in range(_TRIES):
            try:
                coroutine = self._labels.coroutine_of(memory, now.task)
                walked = frames.walk_to(memory, now.state.frame, 0)
                if loop.base is None:
                    loop.base = self._bases.below_task(memory, walked, coroutine)
                if not functions:
                    return None
                minor = self._shared.python.offsets.minor
                inner = of_coroutine(memory, minor, walked, coroutine) or ()
                if not inner and loop.base is not None:
                    inner = self._bases.inside(memory, now.state.frame, loop.base) or ()
                found = self._functions.outermost(memory, reversed(inner))
                again = self._now(memory, loop)
            except ReadError:
                continue
            if again is None or again.task != now.task:
                break
            if found is not None:
                return found
            now = again
        return None

    def _without_task(
        self, memory: Memory, loop: UvLoop, now: _Now, slept: int | None, *, functions: bool
    ) -> tuple[LoopSample, _Now]:
        """Return what has a loop that runs no task, and the loop after that was read."""
        inner = None
        if loop.base is not None:
            inner = self._bases.inside(memory, now.state.frame, loop.base)
            if inner is None:
                loop.base = None
        if loop.base is None and slept == now.backend_fd:
            self._learn(memory, loop, now)
        if inner is None:
            if slept != now.backend_fd:
                raise malformed("what runs a loop is not known yet")
            inner = ()
        if not inner:
            if slept == now.backend_fd:
                return now.sample(loop, None), now
            return now.sample(loop, LOOP)._replace(woken=slept is None), now
        return self._callback(memory, loop, now, inner, functions=functions)

    def _learn(self, memory: Memory, loop: UvLoop, now: _Now) -> None:
        """Learn what runs the loop from a thread that has slept at the selector.

        It may have been woken since, and have called something. So two looks have to show the same.
        """
        address = now.state.frame
        code, _ = self._shared.frames.step(memory, address)
        base = self._bases.at(memory, Frame(address, code))
        if base == loop.perhaps:
            loop.base = base
        loop.perhaps = base

    def _callback(
        self,
        memory: Memory,
        loop: UvLoop,
        now: _Now,
        inner: tuple[Frame, ...],
        *,
        functions: bool,
    ) -> tuple[LoopSample, _Now]:
        """Return the callback that has those frames, the innermost first, and the loop after it was read."""
        for frame in reversed(inner):
            code = self._bases.code(memory, frame)
            if code is None:
                continue
            function = self._functions.outermost(memory, reversed(inner)) if functions else None
            if self._shared.frames.step(memory, frame.address)[0] != frame.code:
                raise malformed("a callback has ended")
            again = self._now(memory, loop)
            if again is None or again.task or again.iteration != now.iteration:
                raise malformed("a task has begun, or another iteration")
            return again.sample(loop, CALLBACK + code.name, function), again
        return now.sample(loop, LOOP), now
