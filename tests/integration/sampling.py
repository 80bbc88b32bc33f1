"""What the tests of the sampler share: a sampler on a real process, as the poller would use it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from tests.harness import ExpectedProcess
from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.names.published import Published
from threadwatch.procfs import ProcFS, parse_stat
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.sampler import Target, Waits, WaitSampler


@dataclass(frozen=True, slots=True)
class Watch:
    """A sampler, and the one process that it samples."""

    sampler: WaitSampler
    target: Target
    errors: list[ReadError]
    guarded: GuardedReader
    published: Published

    def sample(self, now_ns: int | None = None) -> None:
        """Look at it once."""
        self.sample_all([self.target], time.monotonic_ns() if now_ns is None else now_ns)

    def sample_all(self, targets: Sequence[Target], now_ns: int) -> None:
        """Look once at each of these."""

        def go_on_without(target: Target, lock: Lock) -> None:
            self.sampler.go_on_without(target, lock, now_ns)
            self.guarded.give_up(target.hangs, lock, target.owner_uid(), now_ns)

        self.guarded.run_all(
            targets, lambda target: self.sampler.sample(target, now_ns), go_on_without
        )

    def take(self) -> Mapping[int, Waits]:
        """Return what it has seen."""
        return self.sampler.take(self.target.key)

    def of(self, **changes: object) -> Watch:
        """Return the same with another target."""
        return replace(self, target=replace(self.target, **changes))  # type: ignore[arg-type]  # by their names


@contextmanager
def watching(pid: int, *, keep: int | None = None) -> Iterator[Watch]:
    """Yield a sampler on all threads that the process has now, with the GILs that it publishes."""
    with ExitStack() as stack:
        directory = stack.enter_context(ProcFS().open_process(pid))
        start_ticks = parse_stat(directory.read("stat", "stat")).start_ticks
        published = Published(ns_pid=pid, start_ticks=start_ticks)
        stack.callback(published.close)
        published.find(directory)
        published.read(directory)
        errors: list[ReadError] = []
        guarded = GuardedReader()
        stack.callback(guarded.close)
        sampler = WaitSampler(errors, guarded, keep=keep)
        stack.callback(sampler.close)
        yield Watch(
            sampler,
            Target(
                key=ProcessKey(pid, start_ticks),
                dir=directory,
                tids=tuple(directory.tids()),
                gils=published.gils,
                tid_of_ident=published.tid_of_ident,
                ns_tids=None,
            ),
            errors,
            guarded,
            published,
        )


def tids(process: ExpectedProcess) -> dict[str, int]:
    """Return the threads that a target tells of, by name."""
    return {str(thread.name): thread.tid for thread in process.threads}


@contextmanager
def promptly() -> Iterator[None]:
    """Run before all other processes.

    A sampler that has to wait for a CPU samples when one is free, not at the moments that it has chosen.
    """
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@dataclass(frozen=True, slots=True)
class Clock:
    """What the kernel has counted of a thread, exactly (schedstat)."""

    cpu_ns: int
    runqueue_ns: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run of samples at random moments, beside the kernel's own clocks."""

    elapsed_ns: int
    samples: float
    """As many samples of equal weight would say as much."""
    waits: Mapping[int, Waits]
    ran: Mapping[int, float]
    """The share of the time that each thread was on a CPU, by the kernel's clocks."""
    busy: Mapping[int, float]
    """The same, and the time in which it was ready to run."""

    def share(self, tid: int, state: str) -> float:
        """Return the share of the time that a thread was seen in a state."""
        return self.waits[tid].times.get(state, 0) / self.elapsed_ns

    def held(self, tid: int) -> float:
        """Return the share of the time that a thread was seen to hold the GIL."""
        return self.waits[tid].gil_held_ns / self.elapsed_ns


def run(watch: Watch, seconds: float) -> Run:
    """Sample for so long."""
    with promptly():
        before = _clocks(watch)
        start_ns = now_ns = time.monotonic_ns()
        watch.sample(now_ns)
        weights = []
        while now_ns - start_ns < seconds * 1e9:
            time.sleep(random.uniform(0.002, 0.012))
            last_ns, now_ns = now_ns, time.monotonic_ns()
            weights.append(now_ns - last_ns)
            watch.sample(now_ns)
        after = _clocks(watch)
        clocks_ns = time.monotonic_ns() - start_ns
    ran = {tid: (after[tid].cpu_ns - clock.cpu_ns) / clocks_ns for tid, clock in before.items()}
    busy = {
        tid: ran[tid] + (after[tid].runqueue_ns - clock.runqueue_ns) / clocks_ns
        for tid, clock in before.items()
    }
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    return Run(now_ns - start_ns, effective, watch.take(), ran, busy)


def _clocks(watch: Watch) -> dict[int, Clock]:
    clocks = {}
    for tid in watch.target.tids:
        cpu, runqueue, _ = watch.target.dir.read_task(tid, "schedstat").split()
        clocks[tid] = Clock(int(cpu), int(runqueue))
    return clocks
