"""What it costs to look at loops, and what being looked at costs a server."""

from __future__ import annotations

import contextlib
import json
import math
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self

from benchmarks.estimate import differences, estimate, ratios
from benchmarks.report import Result, Table, against
from benchmarks.running import (
    CHECKOUT,
    DEADLINE,
    BenchmarkError,
    Daemon,
    process_clock_ns,
    sleep_until,
    watching,
)
from threadwatch.model.keys import ProcessKey
from threadwatch.procfs import ProcessDir, ProcFS
from threadwatch.reading.reader import GuardedReader
from threadwatch.tasks.source import LoopSource
from threadwatch.waits.loop_looks import LoopLooks
from threadwatch.waits.loop_records import LoopTarget
from threadwatch.waits.records import SampledProcess, SampledThread, Target

WHAT = """\
*Looks*: what one look at the loop of a process takes (`LoopLooks.look`), by the clock of the thread that
looks, in the benchmark's own process: ten times a second at random moments, so with cold caches, and again
and again, with warm ones. What is done only once a second, to see which threads run a loop, is part of the
mean.

*Census*: what it takes to count all tasks of a process, and the share of a CPU that it takes as often as it
is done: every 10 s, more rarely if it takes more than 1 % of the time.

*Processes*: what looking at tasks costs the daemon in all. Two real daemons watch the same processes in the
same seconds, one with `tasks: {rate: 0}`; both sample waits ten times a second.

*Requests*: CPU time of a server of asyncio for each of its answers. Two identical servers answer by turns; a
daemon watches one of them, and in the second half the other one, so that what distinguishes them cancels."""

_MARK = "loop_load-of-benchmark"
_LOOK_GOAL = 100.0
"""Microseconds of CPU for each look at ten looks a second: 0.1 % of a CPU for each loop."""
_CENSUS_GOAL = 1.0
"""Per cent of a CPU."""
_LOADS = {
    "rests": ("a task wakes every second and works for 0.2 ms", ("ticks", "1", "0.0002", "10")),
    "waits": ("a task wakes every 0.1 s and works for 0.2 ms", ("ticks", "0.1", "0.0002", "10")),
    "works": ("a task works for 10 ms of 30 ms", ("ticks", "0.02", "0.01", "10")),
    "computes": ("a task computes all the time", ("ticks", "0", "0.005", "10")),
}
_TASKS = 10_004
_CENSUS_NS = 10_000_000_000
_CENSUS_SHARE = 100
_PROCESSES = 20
_ASKED = 400
"""Requests of one turn."""


class Program:
    """A running :mod:`benchmarks.loop_load`; ends with its context."""

    def __init__(self, mark: str, *arguments: str) -> None:
        """Returns when it runs."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.loop_load", mark, *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise BenchmarkError("a program with a loop did not start")
        found = json.loads(said)
        self.pid: int = found["pid"]
        self.port: int = found["port"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=DEADLINE)


class Observed:
    """A process whose loops are looked at as the daemon looks at them."""

    def __init__(self, pid: int) -> None:
        self.dir: ProcessDir = ProcFS().open_process(pid)
        self.source = LoopSource(pid)
        self._key = ProcessKey(pid, 0)
        self._errors: list[Exception] = []
        self._looks = LoopLooks([], GuardedReader())
        self._loops = LoopTarget(self.source, chance=2, usual_ns=10**8, functions=False, clock_ns=0)
        self._target = Target(
            self._key, self.dir, (pid,), (), lambda _: None, ns_tids=None, loops=self._loops
        )
        self._process = SampledProcess(set())
        self._thread = SampledThread(pid, self.dir.open_task_file(pid, "syscall"), 0)
        self._process.add(self._thread)

    def look(self) -> float:
        """Look once; return the seconds of CPU that it took."""
        assert self._thread.file is not None
        running = self._thread.file.read().startswith(b"running")
        self._thread.see("running" if running else "poll", 0)
        began = time.thread_time_ns()
        self._looks.look(self._process, self._target, self._loops, time.monotonic_ns())
        return (time.thread_time_ns() - began) / 1e9

    def see(self) -> int:
        """Return how many looks have been seen since the last call, at how many loops; forget them."""
        taken = self._looks.take(self._key) or {}
        return sum(len(reading.looks) for reading in taken.values())

    def close(self) -> None:
        """Let go of it."""
        self._looks.close()
        if self._thread.file is not None:
            self._thread.file.close()
        self.dir.close()


@contextlib.contextmanager
def observed(pid: int) -> Iterator[Observed]:
    """Yield a process that is looked at; its loop has been found."""
    one = Observed(pid)
    try:
        end = time.monotonic() + DEADLINE
        while not one.see():
            if time.monotonic() > end:
                raise BenchmarkError(f"no loop was found in {pid}")
            one.look()
        yield one
    finally:
        one.close()


@dataclass(frozen=True, slots=True)
class Looks:
    """Seconds of CPU of single looks at one loop."""

    cold: list[float]
    hot: list[float]


def run(*, full: bool) -> Result:
    """Return all questions."""
    looks = {name: _looks(name, full=full) for name in _LOADS}
    census = _census(full=full)
    loops, none = (_watched(kind, full=full) for kind in ("ticks", "plain"))
    watched, unwatched = _requests(full=full)
    tables = (
        _table_of_looks(looks),
        _table_of_the_rest(census, loops, none, watched, unwatched),
    )
    raw = {
        "looks": {name: asdict(found) for name, found in looks.items()},
        "census": census,
        "watched, with loops": loops,
        "watched, without": none,
        "requests, watched": watched,
        "requests, unwatched": unwatched,
    }
    return Result("loops", WHAT, tables, raw)


def _looks(name: str, *, full: bool) -> Looks:
    cold, hot = (600, 4000) if full else (150, 1000)
    with Program(_MARK, *_LOADS[name][1]) as program, observed(program.pid) as one:
        found = Looks([], [])
        for number in range(cold):
            time.sleep(random.uniform(0.05, 0.15))
            found.cold.append(one.look())
            if not number % 10:
                one.see()
        end = time.monotonic() + (4 if full else 2)
        while len(found.hot) < hot or time.monotonic() < end:
            found.hot.append(one.look())
            one.see()
    return found


def _census(*, full: bool) -> list[float]:
    """Return the seconds of CPU of each count of all tasks."""
    found = []
    with (
        Program(_MARK, "ticks", "0.1", "0.0002", str(_TASKS - 1)) as program,
        observed(program.pid) as one,
    ):
        memory = one.dir.open_memory()
        for _ in range(24 if full else 8):
            time.sleep(0.2)
            began = time.thread_time_ns()
            (census,) = one.source.census(memory, time.monotonic_ns(), 2 * _TASKS)
            found.append((time.thread_time_ns() - began) / 1e9)
            counted = sum(map(sum, census.counts.values()))
            if counted < _TASKS - 1:  # the one that works can be in between
                raise BenchmarkError(f"{counted} tasks were counted, not {_TASKS}")
    return found


def _watched(kind: str, *, full: bool) -> list[float]:
    """Return seconds of CPU per second and process that looking at tasks costs, window after window."""
    windows, seconds = (24, 5.0) if full else (6, 4.0)
    with contextlib.ExitStack() as stack:
        for _ in range(_PROCESSES):
            stack.enter_context(Program(_MARK, kind, "0.1", "0.0002", "10"))
        daemons = [
            stack.enter_context(watching(rate=10, load=_MARK, itself=False, tasks=tasks))
            for tasks in (10, 0)
        ]
        time.sleep(8)
        began = time.time()
        clocks = [_clocks(daemons)]
        for number in range(1, windows + 1):
            sleep_until(began + number * seconds)
            clocks.append(_clocks(daemons))
    more, less = (differences(one[1:], one[:-1]) for one in zip(*clocks, strict=True))
    return [cost / seconds / _PROCESSES for cost in differences(more, less)]


def _clocks(daemons: list[Daemon]) -> tuple[float, ...]:
    return tuple(process_clock_ns(daemon.pid) / 1e9 for daemon in daemons)


def _requests(*, full: bool) -> tuple[list[float], list[float]]:
    """Return CPU seconds per request, turn after turn, of a server that is watched and of one that is not."""
    turns = 40 if full else 12
    marks = f"{_MARK}-one", f"{_MARK}-two"
    watched, unwatched = [], []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Program(mark, "serve")) for mark in marks]
        clients = [stack.enter_context(_client(server.port)) for server in servers]
        for number, mark in enumerate(marks):
            with watching(rate=10, load=mark, itself=False, tasks=10) as daemon:
                end = time.monotonic() + DEADLINE
                while not _is_seen(daemon):
                    if time.monotonic() > end:
                        raise BenchmarkError("the loop of the server was not seen")
                    _ask(clients[number], servers[number].pid)
                costs: tuple[list[float], ...] = ([], [])
                for turn in range(turns + 2):
                    for which in (0, 1) if turn % 2 else (1, 0):
                        cost = _ask(clients[which], servers[which].pid)
                        if turn >= 2:
                            costs[which].append(cost)
                watched += costs[number]
                unwatched += costs[1 - number]
    return watched, unwatched


def _is_seen(daemon: Daemon) -> bool:
    """Return whether a loop has been looked at."""
    name = "threadwatch_loop_lag_seconds_count"
    return any(found.startswith(name) for found in daemon.metrics())


@contextlib.contextmanager
def _client(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        yield client


def _ask(client: socket.socket, pid: int) -> float:
    """Have a number of requests answered; return the server's CPU seconds for each."""
    answers = client.makefile("rb")
    began = process_clock_ns(pid)
    for _ in range(_ASKED):
        client.sendall(b"what\n")
        if len(answers.read(int(answers.readline()) + 1)) < 2:
            raise BenchmarkError("a server has ended")
    return (process_clock_ns(pid) - began) / 1e9 / _ASKED


def _table_of_looks(looks: dict[str, Looks]) -> Table:
    rows = []
    for name, found in looks.items():
        cold, hot = estimate(found.cold).scaled(1e6), estimate(found.hot).scaled(1e6)
        mean = 1e6 * sum(found.cold) / len(found.cold)
        rows.append(
            (
                name,
                cold.text(0),
                f"{mean:.0f}{against(mean, _LOOK_GOAL)}",
                f"{mean / 1000:.3f}",
                hot.text(0),
            )
        )
    return Table(
        "looks at one loop, in µs of CPU",
        ("load", "10 per second", "mean", "% of a CPU", "again and again"),
        tuple(rows),
        tuple(f"{name}: {what}." for name, (what, _) in _LOADS.items()),
    )


def _table_of_the_rest(
    census: list[float],
    loops: list[float],
    none: list[float],
    watched: list[float],
    unwatched: list[float],
) -> Table:
    each = estimate(census)
    share = 100 * each.median / max(_CENSUS_NS / 1e9, _CENSUS_SHARE * each.median)
    half = len(watched) // 2
    first = ratios(watched[:half], unwatched[:half])
    second = ratios(watched[half:], unwatched[half:])
    both = estimate([math.sqrt(a * b) for a, b in zip(first, second, strict=True)])
    rows = (
        (f"a census of {_TASKS:,} tasks, ms of CPU", each.scaled(1000).text(1)),
        ("the same, % of a CPU", f"{share:.2f}{against(share, _CENSUS_GOAL)}"),
        (
            f"tasks of a process with a loop, one of {_PROCESSES}, % of a CPU",
            estimate(loops).scaled(100).text(3),
        ),
        (
            f"tasks of a process without one, of {_PROCESSES}, % of a CPU",
            estimate(none).scaled(100).text(3),
        ),
        ("a request to a server that is not watched, µs", estimate(unwatched).scaled(1e6).text(1)),
        ("a request to one that is watched", both.percent()),
    )
    return Table("census, processes and requests", ("what", "cost"), rows)
