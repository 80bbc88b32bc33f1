"""What it costs to read names from the memory of processes that do not publish."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.estimate import differences, estimate
from benchmarks.report import Result, Table, against
from benchmarks.running import BenchmarkError, Load, configuration
from benchmarks.scenarios import load
from threadwatch.config.parse import load_config
from threadwatch.names.memory.following import CONFIRM_AFTER_NS, Following
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

WHAT = """\
Two pollers in the benchmark's own process watch the same load, which does not publish: one reads names from
memory, the other does not (`names: {from_memory: false}`). They poll by turns, after a pause of half a second
each, so that both meet cold caches; CPU per poll is what the process clock gains by `Poller.poll()`. The cost
of names is the difference between the two polls of a pair. No daemon, no exporter; nothing is sampled. The
processes are at work already when they are found, so births, ends and first looks are not in these
figures: a first look takes 1 to 3 ms of CPU. Other processes that start meanwhile are, 0.3 ms for each; where
many do, run it in a PID namespace of its own (`unshare --pid --fork --mount-proc`).

*Alone* is what reading the names of the first process takes (`Following.update`) when it is called again and
again, so with warm caches, by the clock of its thread; its active threads have run each time."""


@dataclass(frozen=True, slots=True)
class Awake:
    """A load, and how many of its processes run between two polls."""

    name: str
    what: str
    load: tuple[str, ...]
    processes: int
    each_goal_us: float | None = None
    """CPU time that the names of each of them are not to exceed."""
    poll_goal_ms: float | None = None
    """CPU time of a whole poll, names included."""
    share_goal: float | None = None
    """Per cent of a CPU that the names of all are not to exceed."""


LOADS = (
    Awake(
        "1 × 10",
        "1 process of 10 threads, 9 of which wake every 0.4 s",
        load(1, 9, active=9),
        1,
        each_goal_us=60,
    ),
    Awake(
        "1 × 1,001, 9 active",
        "1 process of 1,001 threads, 9 of which do the same",
        load(1, 1000, active=9),
        1,
    ),
    Awake(
        "10 × 1,001, 27 active",
        "10 processes of 1,001 threads; 27 threads in 3 of the processes do the same",
        load(10, 1000, active=27, in_processes=3),
        3,
        poll_goal_ms=3,
    ),
    Awake(
        "300 × 6",
        "300 processes of 6 threads, 5 of which do the same",
        load(300, 5, active=1500, in_processes=300),
        300,
        share_goal=2,
    ),
)
_WARM_UP = 40
"""Polls before the first that counts: the first ones read all threads."""
_AT_ONCE = 300


@dataclass(frozen=True, slots=True)
class Measured:
    """The CPU time of polls under one load, in seconds, poll after poll."""

    threads: int
    names: list[float]
    """With names from memory."""
    plain: list[float]
    """Without."""
    alone: list[float]
    """The names of one process, again and again."""


def run(*, full: bool) -> Result:
    """Return all loads."""
    pairs = 60 if full else 16
    measured = {}
    for one in LOADS:
        with (
            Load(one.load, published=False) as running,
            _polling(from_memory=False) as plain,
            _polling(from_memory=True) as names,
        ):
            for _ in range(_WARM_UP):
                for poller in (names, plain):
                    poller.poll(details=False)
                time.sleep(0.1)
            measured[one] = _measure(names, plain, running, pairs)
        gc.collect()
    raw = {one.name: asdict(found) for one, found in measured.items()}
    return Result("memory", WHAT, (_table(measured),), raw)


@contextmanager
def _polling(*, from_memory: bool) -> Iterator[Poller]:
    with configuration(itself=False, from_memory=from_memory) as path:
        poller = Poller(ProcFS(), load_config(path), report=lambda _error: None)
        try:
            yield poller
        finally:
            poller.close()


def _measure(names: Poller, plain: Poller, running: Load, pairs: int) -> Measured:
    times: dict[Poller, list[float]] = {names: [], plain: []}
    for number in range(pairs):
        for poller in (names, plain) if number % 2 else (plain, names):
            time.sleep(0.5)
            began = time.process_time_ns()
            poller.poll(details=False)
            times[poller].append((time.process_time_ns() - began) / 1e9)
    return Measured(running.threads(), times[names], times[plain], _alone(running.pids[0]))


class _Unlimited:
    """A process that may have everything read."""

    def allows(self) -> bool:
        return True

    def spend(self, slots: int) -> None:
        pass


def _alone(pid: int) -> list[float]:
    """Return the CPU seconds that it takes to read the names of a process, again and again."""
    with ProcFS().open_process(pid) as process:
        memory, budget = process.open_memory(), _Unlimited()
        python = find_python(Snapshot(memory, FIRST_LOOK), process.read("auxv", "auxv"), pid)
        following = Following(python, pid)
        threads = dict.fromkeys(process.tids(), 0)
        ran = sorted(threads)[:10]  # the active ones were started first
        for _ in range(3):
            following.update(memory, threads, ran, budget)
            time.sleep(2 * CONFIRM_AFTER_NS / 1e9)
        found = []
        for _ in range(_AT_ONCE):
            began = time.thread_time_ns()
            following.update(memory, threads, ran, budget, changed=())
            found.append((time.thread_time_ns() - began) / 1e9)
    if len([tid for tid in threads if following.name_of(tid, 0)]) < len(threads):
        raise BenchmarkError(f"not all threads of {pid} have names")
    return found


def _table(measured: dict[Awake, Measured]) -> Table:
    rows = []
    for one, found in measured.items():
        cost = estimate(differences(found.names, found.plain))
        mean = 1000 * statistics.fmean(found.names)
        alone = estimate(found.alone).scaled(1e6)
        share = cost.scaled(100)
        rows.append(
            (
                one.name,
                f"{found.threads:,}",
                estimate(found.plain).scaled(1000).text(),
                estimate(found.names).scaled(1000).text() + against(mean, one.poll_goal_ms),
                cost.scaled(1000).text(),
                cost.scaled(1e6 / one.processes).text(0),
                alone.text(1) + against(alone.median, one.each_goal_us),
                share.text(2) + against(share.median, one.share_goal),
            )
        )
    return Table(
        "polls, in ms of CPU",
        (
            "load",
            "threads",
            "without names",
            "with names",
            "names",
            "of each process that runs, µs",
            "alone, µs",
            "% of a CPU",
        ),
        tuple(rows),
        tuple(f"{one.name}: {one.what}." for one in measured),
    )
