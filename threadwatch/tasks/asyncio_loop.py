"""Keeps what is known of one thread and its loop of asyncio's own kind, from look to look."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.model.loops import LoopKind
from threadwatch.tasks.ready import ReadyQueue

_SURE_FOR = 4
"""How often a loop is not looked for, as long as looks see it."""


@dataclass(slots=True)
class Loop:
    """A thread, and the loop that it runs."""

    state: int
    """The address of its thread state."""
    ident: int
    looked_ns: int
    """When it was looked at last."""
    tid: int = 0
    address: int = 0
    """That of the loop; 0: the thread runs none."""
    frame: int = 0
    """That of the frame of ``_run_once``, as it was found last."""
    outermost: int = 0
    """That of the outermost frame of the thread, where the thread does not say which loop it runs."""
    kind: LoopKind = "asyncio"
    queue: ReadyQueue | None = None
    """Its callbacks that are ready, as they were found last."""
    clock_known: bool = False
    """Its clock is CLOCK_MONOTONIC: it is asyncio's own, or has been seen to be."""
    _seen: tuple[int, int] = (0, 0)
    """Its :attr:`address` and :attr:`frame` when it was found last."""
    _sure_for: int = 0
    """How often it need not be looked for."""
    _is_sure: bool = False
    """The last look since it was looked for has seen what has the loop, or that nothing has."""

    def runs(self, address: int, *, clock_known: bool) -> None:
        """Note which loop the thread runs."""
        self.address = address
        self.clock_known = clock_known

    def runs_none(self) -> None:
        """Note that the thread runs no loop."""
        self.address = 0

    def runs_in(self, frame: int) -> None:
        """Note where the frame of ``_run_once`` is."""
        self.frame = frame

    def begins_above(self, outermost: int) -> None:
        """Note the thread's outermost frame."""
        self.outermost = outermost

    def know_clock(self, *, known: bool) -> None:
        """Note whether its clock is ours."""
        self.clock_known = known

    def was_found(self, tid: int) -> None:
        """Note that the loop has just been looked for, and found in that thread."""
        self.tid = tid
        self._seen = self.address, self.frame
        self._sure_for = _SURE_FOR

    def was_looked_at(self, now_ns: int, *, is_sure: bool) -> None:
        """Note a look. ``is_sure``: it has seen what has the loop, or that nothing has."""
        self.looked_ns = now_ns
        self._is_sure = is_sure

    def waits_in(self, queue: ReadyQueue | None) -> None:
        """Note where its callbacks are that are ready."""
        self.queue = queue

    def need_not_be_found(self) -> bool:
        """Return whether looks have seen it since it was looked for, and it is not yet time to look again."""
        is_sure, self._is_sure = self._is_sure, False
        self._sure_for -= 1
        return is_sure and self._sure_for > 0 and self._seen == (self.address, self.frame)
