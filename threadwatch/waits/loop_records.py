"""Keeps the records of looks at loops: of one thread's loop, and of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.model.loops import (
    NO_LOOP,
    LoopKind,
    LoopLook,
    LoopReading,
    LoopSample,
    Ran,
    TaskCount,
)
from threadwatch.procfs import (
    MemoryFile,
    ProcessDir,
    TaskFile,
    parse_schedstat,
    parse_switches,
    read_again,
)
from threadwatch.tasks.source import LoopSource
from threadwatch.waits.ends import Ends
from threadwatch.waits.on_cpu import Turns

_CENSUS_FREE_NS = 2_000_000
"""CPU time that counting tasks may take, whatever the process has used."""
_LATE = 4
"""A look stands for the time since the look before, up to this many times the time that is usual."""


@dataclass(frozen=True, slots=True)
class LoopTarget:
    """The loops of a process to look at."""

    source: LoopSource
    chance: float
    """In which part of the samples to look."""
    usual_ns: int
    """The time from look to look, on average."""
    functions: bool
    """Whether to call tasks after functions of the application."""
    clock_ns: int
    """The CPU time of the process at the last poll."""


class SeenLoop:
    """The loop of one thread, and what looks at it have seen."""

    __slots__ = (
        *("_began_ns", "_counts", "_given", "_holds_for", "_last", "_looked_ns", "_looks"),
        *("_schedstat", "_slept", "_status", "ends"),
    )

    def __init__(self, directory: ProcessDir, tid: int) -> None:
        """Begin with it. Raises :class:`Gone` and :class:`ReadError`."""
        self._schedstat = directory.open_task_file(tid, "schedstat")
        try:
            self._status: TaskFile = directory.open_task_file(tid, "status")
        except (Gone, ReadError):
            self._schedstat.close()
            raise
        self._looked_ns = 0
        self._looks: list[LoopLook] = []
        self._last: LoopSample | None = None
        self._counts: Mapping[str, TaskCount] | None = None
        self._began_ns = 0
        self._given: int | None = None
        """How often it had been given a CPU when that was read last."""
        self._slept = False
        """It slept then, and had not been given a CPU since the time before."""
        self._holds_for: int | None = None
        """What the last look has read holds as long as this is the number; None: it does not."""
        self.ends = Ends()
        """The ends of its iterations, if it counts them."""

    def given(self) -> int | None:
        """Return how often the thread has been given a CPU; None: the kernel does not count that."""
        (data,) = read_again((self._schedstat.fileno(),))
        if data is None:
            raise Gone("schedstat: the thread has ended")
        return parse_schedstat(data)[2] or None

    def at_rest(self, given: int | None, *, sleeps: bool) -> LoopSample | None:
        """Return what the last look has found, if it need not be read again; None: it has to be read.

        ``given``: how often the thread has been given a CPU by now; ``sleeps``: whether it slept right before
        that was read. If it sleeps, and has not been given one since the look before, it has slept from
        that moment on. So what was read of its loop since then holds still. Only loops that wait for events
        are not read again: others can queue callbacks.
        """
        slept = sleeps and given is not None and given == self._given
        self._given, self._slept = given, slept
        last = self._last
        if not slept or given != self._holds_for or last is None:
            return None
        return last if last.holder is None and not last.age_ns else None

    def turns(self) -> Turns | None:
        """Return its turns on CPUs; None: the kernel does not count them."""
        wants, left = parse_switches(self._status.read())
        given = self.given()
        return None if given is None else Turns(given, left, wants)

    def see(
        self, sample: LoopSample, name: str | None, now_ns: int, usual_ns: int, *, ran: Ran
    ) -> None:
        """Note a look. ``name``: what has the loop; ``usual_ns``: as :attr:`LoopTarget.usual_ns`."""
        since_ns = now_ns - self._looked_ns if self._looked_ns else 0
        most_ns = max(_LATE * usual_ns, min(sample.age_ns or 0, since_ns))
        stands_for_ns = min(since_ns, most_ns)
        later = sample.iteration is not None and sample.holder is not None
        if sample.iteration is not None:
            if later:
                self.ends.look(sample.iteration, now_ns, name, sample.age_ns or 0, stands_for_ns)
            else:
                self.ends.see(sample.iteration, now_ns)
        self._add(LoopLook(name, ran, sample.age_ns, stands_for_ns, later), now_ns)
        self._looked_ns, self._last = now_ns, sample
        self._holds_for = self._given if self._slept else None

    def see_none(self, now_ns: int, *, ran: Ran) -> None:
        """Note a look that has found that the thread runs no loop."""
        self._add(LoopLook(NO_LOOP, ran, None, 0), now_ns)
        self.ends.see(None, now_ns)
        self._looked_ns, self._last = 0, None

    def _add(self, look: LoopLook, now_ns: int) -> None:
        if not self._looks:
            self._began_ns = now_ns
        self._looks.append(look)

    def count(self, counts: Mapping[str, TaskCount]) -> None:
        """Note how many tasks live, by name."""
        self._counts = counts

    @property
    def is_held(self) -> bool:
        """Return whether something had the loop at the last look."""
        return self._last is not None and self._last.holder is not None

    def take(self) -> LoopReading:
        """Return what looks have seen since the last call."""
        kind: LoopKind | None = None
        ready: int | None = None
        if self._last is not None:
            kind, ready = self._last.kind, self._last.ready
        reading = LoopReading(
            kind, tuple(self._looks), ready, self._counts, self._began_ns, self.ends.take()
        )
        self._looks, self._counts = [], None
        return reading

    def close(self) -> None:
        """Close its files."""
        self._schedstat.close()
        self._status.close()


class SeenLoops:
    """The loops of one process."""

    __slots__ = (
        "_find_ns",
        "_census_clock_ns",
        "_census_cost_ns",
        "_census_ns",
        "denied",
        "loops",
        "memory",
    )

    def __init__(self) -> None:
        self.denied = False
        """Permission hides its memory, or its Python is of an unknown kind."""
        self.loops: dict[int, SeenLoop] = {}
        """By TID."""
        self.memory: MemoryFile | None = None
        """The memory that was read last."""
        self._census_ns = 0
        self._census_cost_ns = 0
        self._census_clock_ns = 0
        self._find_ns = 0

    def deny(self) -> None:
        """Look no more."""
        self.denied = True
        self.close()

    def use(self, memory: MemoryFile) -> None:
        """Note which memory is read from now on."""
        self.memory = memory

    def is_due(self, now_ns: int) -> bool:
        """Return whether to look: there are loops, or it is time to look for some."""
        return not self.denied and (bool(self.loops) or now_ns >= self._find_ns)

    def is_find_due(self, now_ns: int) -> bool:
        """Return whether to look for loops now."""
        return now_ns >= self._find_ns

    def find_next(self, at_ns: int) -> None:
        """Look for loops again at that time."""
        self._find_ns = at_ns

    def is_census_due(self, clock_ns: int, now_ns: int) -> bool:
        """Return whether to count tasks now: it is time, and the process has paid for it with CPU time.

        ``clock_ns``: the CPU time that it has used.
        """
        if now_ns < self._census_ns:
            return False
        cost_ns = self._census_cost_ns
        return cost_ns <= _CENSUS_FREE_NS or clock_ns - self._census_clock_ns >= cost_ns

    def counted(self, cost_ns: int, clock_ns: int, next_ns: int) -> None:
        """Note what counting has cost when the process had used ``clock_ns``; the next is at ``next_ns``."""
        self._census_cost_ns, self._census_clock_ns = cost_ns, clock_ns
        self._census_ns = next_ns

    def follow(self, directory: ProcessDir, tids: frozenset[int]) -> None:
        """Begin with the loops of these threads; those that are known stay. Raises :class:`ReadError`."""
        for tid in tids:
            if tid not in self.loops:
                try:
                    self.loops[tid] = SeenLoop(directory, tid)
                except Gone:
                    continue

    def drop(self, tid: int) -> None:
        """Forget the loop of a thread that has ended."""
        self.loops.pop(tid).close()

    def close(self) -> None:
        """Close all files, and forget the loops."""
        for loop in self.loops.values():
            loop.close()
        self.loops.clear()
