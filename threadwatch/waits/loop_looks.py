"""Looks at the loops of processes, in the samples of what their threads wait for.

Rules:

* A look comes right after the threads' files ``syscall`` have been read, so a task and the state of its
thread are of the same moment, but for some 0.1 ms. :mod:`.on_cpu` says what that means for CPU time.
* A thread that has slept since its loop was read has not changed it: it is not read again.
* **Time is credited by the clock**: what has a loop is credited with the time since the look before. A
look that comes late stands for four usual times at most, unless the loop itself says that it has been
held for longer.
* A process whose last look found its loop held is looked at even if it rests: a task that blocks in
``time.sleep`` uses no CPU. All others at rest wait for events.
* A thread whose loop has ended is not forgotten: what it uses until the next loop is counted as that. If
it runs, its loops are looked for at once, because it may run another one.
* Tasks are counted every 10 s, or as seldom as it takes to spend on that no more than 1 % of a CPU, and no
more CPU time than the process itself has used meanwhile, but for 2 ms.
* A loop that counts its iterations, and does not say when they began, is read again after a look, until the
iteration has ended (:mod:`.ends`).
* Permission that is missing, or a Python that is not known, is reported once; then there are no more looks.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from threadwatch.errors import Denied, Gone, ReadError, Unsupported
from threadwatch.model.keys import ProcessKey
from threadwatch.model.loops import Census, LoopReading, LoopSample, Ran
from threadwatch.names.ownership import clocks_ahead
from threadwatch.procfs import MemoryFile
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.asleep import slept_in
from threadwatch.waits.loop_records import LoopTarget, SeenLoop, SeenLoops
from threadwatch.waits.on_cpu import has_run
from threadwatch.waits.records import SampledProcess, Target
from threadwatch.waits.syscalls import epolls

SOURCE = "tasks"
"""The source of errors with what a process has in its memory of loops and tasks."""
_FIND_NS = 1_000_000_000
_CENSUS_NS = 10_000_000_000
_CENSUS_SHARE = 100
"""Counting tasks takes at most this part of the time."""
_MOST_TASKS = 20_000
"""Tasks of one process that are counted; a process with more has no counts."""


class LoopLooks:
    """Looks at loops on request. Not for several threads at once."""

    def __init__(self, errors: list[ReadError], guarded: GuardedReader) -> None:
        self._errors = errors
        self._epolls = epolls(os.uname().machine)
        self._guarded = guarded
        self._processes: dict[ProcessKey, SeenLoops] = {}
        self._followed: dict[ProcessKey, Target] = {}
        """Processes whose loops have been looked at in iterations that had not ended."""

    def look(self, process: SampledProcess, target: Target, loops: LoopTarget, now_ns: int) -> None:
        """Look at each loop of a process, whose threads have just been sampled.

        ``process``: what the sample has seen. ``now_ns``: as in the sample.
        """
        seen = self._processes.get(target.key)
        if seen is None:
            seen = self._processes[target.key] = SeenLoops()
        if not seen.is_due(now_ns) or random.random() >= loops.chance:  # noqa: S311  # no secret
            return
        if not self._guarded.may_read(target.hangs, "memory", target.owner_uid, now_ns):
            if target.hangs.memory.is_stuck(now_ns):
                self._complain(process, ReadError(SOURCE, "timeout", "its memory does not answer"))
            return
        try:
            memory = process.memory or target.dir.open_memory()
            if memory is not seen.memory:
                ahead_ns = clocks_ahead(target.dir).monotonic_ns
                loops.source.begin(target.dir.read("auxv", "auxv"), ahead_ns)
                seen.use(memory)
                process.keep_memory(memory)
            self._look(seen, process, target, loops, memory)
        except Gone:
            process.keep_memory(None)  # the program has ended, or the process
        except ReadError as error:
            self._tell(process, error)
            if isinstance(error, Denied | Unsupported) or error.reason in ("denied", "unsupported"):
                seen.deny()

    def _tell(self, process: SampledProcess, error: ReadError) -> None:
        """Report an error with what a process has in its memory."""
        if error.source != SOURCE:
            error = ReadError(SOURCE, error.reason, error.detail)
        self._complain(process, error)

    def _complain(self, process: SampledProcess, error: ReadError) -> None:
        if process.is_news(error):
            self._errors.append(error)

    def _look(
        self,
        seen: SeenLoops,
        process: SampledProcess,
        target: Target,
        loops: LoopTarget,
        memory: MemoryFile,
    ) -> None:
        source = loops.source
        now_ns = time.monotonic_ns()
        if seen.is_find_due(now_ns):
            seen.find_next(now_ns + _FIND_NS)
            source.find(memory, now_ns)
            seen.follow(target.dir, _ours(target, source.tids))
        if not seen.loops:
            return
        given = _given(seen)
        # What an event waits that comes now is told by the end of the iteration that is read next.
        now_ns = time.monotonic_ns()
        samples = _at_rest(seen, process, given)
        if samples is None:
            samples = self._sample(process, loops, target, memory)
        else:
            source.skip(now_ns)
        missing = seen.loops.keys() - samples.keys()
        if any(_wants(process, tid) for tid in missing):
            source.find(memory, now_ns)  # perhaps it runs another loop by now
            seen.follow(target.dir, _ours(target, source.tids))
            now_ns = time.monotonic_ns()
            again = self._sample(process, loops, target, memory)
            samples |= {tid: again[tid] for tid in missing & again.keys()}
        for tid, loop in list(seen.loops.items()):
            try:
                self._note(
                    loop,
                    samples.get(tid),
                    given.get(tid),
                    loops,
                    now_ns,
                    wanted=_wants(process, tid),
                )
            except Gone:
                seen.drop(tid)
        self._plan(seen, target)

        if seen.is_census_due(loops.clock_ns, now_ns):
            began_ns = time.thread_time_ns()
            try:
                self._count(seen, target, source.census(memory, now_ns, _MOST_TASKS))
            finally:
                cost_ns = time.thread_time_ns() - began_ns
                next_ns = now_ns + max(_CENSUS_NS, _CENSUS_SHARE * cost_ns)
                seen.counted(cost_ns, loops.clock_ns, next_ns)

    def _sample(
        self, process: SampledProcess, loops: LoopTarget, target: Target, memory: MemoryFile
    ) -> dict[int, LoopSample]:
        """Return what has each loop now, by TID."""

        def asleep(tid: int) -> int | None:
            return slept_in(process.threads.get(_ours_of(target, tid)), self._epolls)

        found = loops.source.sample(memory, time.monotonic_ns(), asleep, functions=loops.functions)
        return {_ours_of(target, sample.tid): sample for sample in found}

    def _count(self, seen: SeenLoops, target: Target, found: list[Census]) -> None:
        """Note how many tasks of which name live in each loop."""
        for census in found:
            loop = seen.loops.get(_ours_of(target, census.tid))
            if loop is not None:
                loop.count(census.counts)

    def _note(
        self,
        loop: SeenLoop,
        sample: LoopSample | None,
        given: int | None,
        loops: LoopTarget,
        now_ns: int,
        *,
        wanted: bool,
    ) -> None:
        at_work = sample is None or (sample.holder is not None and not sample.woken)
        ran = Ran.NO
        if wanted or at_work:
            ran = has_run(given, loop.turns(), wanted=wanted, at_work=at_work)
        if sample is not None and sample.woken and not ran:
            sample = sample._replace(holder=None, age_ns=None if sample.age_ns is None else 0)
        if sample is None:
            loop.see_none(now_ns, ran=ran)
            return
        name = sample.function if loops.functions and sample.function else sample.holder
        loop.see(sample, name, now_ns, loops.usual_ns, ran=ran)

    def _plan(self, seen: SeenLoops, target: Target) -> None:
        """Follow the loops of a process if the ends of their iterations are waited for."""
        if any(loop.ends.due_ns is not None for loop in seen.loops.values()):
            self._followed[target.key] = target
        else:
            self._followed.pop(target.key, None)

    def next_ns(self) -> int | None:
        """Return when :meth:`follow` is due for a process (CLOCK_MONOTONIC); None: not before a look."""
        return min((due_ns for due_ns, _ in self._due()), default=None)

    def followed(self, now_ns: int) -> list[Target]:
        """Return the processes for which :meth:`follow` is due."""
        return [target for due_ns, target in self._due() if due_ns <= now_ns]

    def _due(self) -> Iterator[tuple[int, Target]]:
        for key, target in self._followed.items():
            for loop in self._processes[key].loops.values():
                if loop.ends.due_ns is not None:
                    yield loop.ends.due_ns, target

    def follow(self, target: Target, now_ns: int) -> None:
        """See whether iterations have ended in which loops of a process were looked at."""
        seen, loops = self._processes.get(target.key), target.loops
        if seen is None or seen.memory is None or loops is None:
            self._followed.pop(target.key, None)
            return
        numbers: dict[int, int] = {}
        if self._guarded.may_read(target.hangs, "memory", target.owner_uid, now_ns):
            with suppress(Gone):
                numbers = loops.source.iterations(seen.memory)
        now_ns = time.monotonic_ns()
        ours = {_ours_of(target, tid): number for tid, number in numbers.items()}
        for tid, loop in seen.loops.items():
            loop.ends.see(ours.get(tid), now_ns)
        self._plan(seen, target)

    def is_due(self, key: ProcessKey, now_ns: int) -> bool:
        """Return whether to look at the loops of a process: it has some, or it is time to look for some."""
        seen = self._processes.get(key)
        return seen is None or seen.is_due(now_ns)

    def is_held(self, key: ProcessKey) -> bool:
        """Return whether something had a loop of the process at the last look."""
        seen = self._processes.get(key)
        return seen is not None and any(loop.is_held for loop in seen.loops.values())

    def tids(self, key: ProcessKey) -> list[int]:
        """Return the threads of a process that have run a loop."""
        seen = self._processes.get(key)
        return [] if seen is None else list(seen.loops)

    def take(self, key: ProcessKey) -> Mapping[int, LoopReading] | None:
        """Return what looks at a process's loops have seen since the last call, by TID; None: no loop."""
        seen = self._processes.get(key)
        if seen is None or not seen.loops:
            return None
        return {tid: loop.take() for tid, loop in seen.loops.items()}

    def forget(self, key: ProcessKey) -> None:
        """Forget a process that has ended or rests."""
        self._followed.pop(key, None)
        seen = self._processes.pop(key, None)
        if seen is not None:
            seen.close()

    def close(self) -> None:
        """Close all files."""
        for key in list(self._processes):
            self.forget(key)


def _given(seen: SeenLoops) -> dict[int, int | None]:
    """Return how often each thread has been given a CPU; threads that have ended are forgotten."""
    given: dict[int, int | None] = {}
    for tid, loop in list(seen.loops.items()):
        try:
            given[tid] = loop.given()
        except Gone:
            seen.drop(tid)
    return given


def _at_rest(
    seen: SeenLoops, process: SampledProcess, given: Mapping[int, int | None]
) -> dict[int, LoopSample] | None:
    """Return what the last look has found, by TID; None: a loop has to be read again."""
    found = {
        tid: loop.at_rest(given.get(tid), sleeps=_sleeps(process, tid))
        for tid, loop in seen.loops.items()
    }
    samples = {tid: sample for tid, sample in found.items() if sample is not None}
    return samples if len(samples) == len(found) else None


def _sleeps(process: SampledProcess, tid: int) -> bool:
    """Return whether a thread was seen asleep when the threads were sampled."""
    thread = process.threads.get(tid)
    return thread is not None and thread.state not in ("running", "other")


def _wants(process: SampledProcess, tid: int) -> bool:
    """Return whether a thread ran, or was ready to, when the threads were sampled."""
    thread = process.threads.get(tid)
    return thread is not None and thread.state == "running"


def _ours_of(target: Target, tid: int) -> int:
    """Return a TID of the process's own PID namespace in ours; 0: not known."""
    return tid if target.ns_tids is None else target.ns_tids.get(tid, 0)


def _ours(target: Target, tids: frozenset[int]) -> frozenset[int]:
    return frozenset(one for tid in tids if (one := _ours_of(target, tid)))
