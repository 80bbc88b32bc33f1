"""Processes whose threads hardly run get a CPU timer, so that their clocks are cheap."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import until
from tests.serving import ready
from threadwatch.config.parse import parse_config
from threadwatch.poll.poller import Poller
from threadwatch.procfs import CpuTimer, ProcFS, parse_stat

SLEEPERS = """
import sys, threading, time
gate = threading.Barrier(101)
def sleep():
    while True:
        gate.wait()
for _ in range(100):
    threading.Thread(target=sleep, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    if line.strip() == "all":
        gate.wait()
    print("done", flush=True)
"""


@pytest.fixture
def sleepers() -> Iterator[subprocess.Popen[str]]:
    """Yield a process of 101 threads; one uses 50 ms of CPU time for each line, all run for ``all``."""
    with ready(sys.executable, "-c", SLEEPERS) as process:
        _let_all_sleep(process)
        yield process


def work(process: subprocess.Popen[str], who: str = "") -> None:
    """Make it work once, and wait until it sleeps again."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{who}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
    _let_all_sleep(process)


def _let_all_sleep(process: subprocess.Popen[str]) -> None:
    for file in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        until(partial(_sleeps, file), f"{file}: sleeps")


def _sleeps(file: Path) -> bool:
    return parse_stat(file.read_bytes()).state == "S"


def clock_ns(pid: int) -> int:
    """Return the process's CPU clock."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def threads_ns(pid: int) -> int:
    """Return the sum of its threads' CPU clocks."""
    return sum(
        int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def timers() -> int:
    """Return how many POSIX timers this process has (proc_pid_timers(5))."""
    return sum(
        line.startswith("ID:") for line in Path("/proc/self/timers").read_text().splitlines()
    )


def test_a_clock_with_a_timer_is_as_exact(sleepers: subprocess.Popen[str]) -> None:
    """With a timer and without, the clock is what the threads have used, to the nanosecond."""
    assert clock_ns(sleepers.pid) == threads_ns(sleepers.pid)
    timer = CpuTimer(sleepers.pid)
    assert timers() == 1
    for _ in range(3):
        before_ns = clock_ns(sleepers.pid)
        work(sleepers)
        assert clock_ns(sleepers.pid) - before_ns >= 50_000_000
        assert clock_ns(sleepers.pid) == threads_ns(sleepers.pid)
    timer.delete()
    timer.delete()
    assert timers() == 0
    assert clock_ns(sleepers.pid) == threads_ns(sleepers.pid)


def test_nobody_gets_a_timer_of_a_process_that_is_not_there() -> None:
    """A PID that no process has is an error of the kernel, and leaves nothing behind."""
    with pytest.raises(OSError, match="Invalid argument"):
        CpuTimer(2**22 - 1)
    assert timers() == 0


def test_a_clock_with_a_timer_moves_with_the_threads(sleepers: subprocess.Popen[str]) -> None:
    """While a thread runs, the clock lies between what its threads said before and what they say then."""
    timer = CpuTimer(sleepers.pid)
    assert sleepers.stdin is not None
    sleepers.stdin.write("\n")
    sleepers.stdin.flush()
    for _ in range(200):
        before_ns = threads_ns(sleepers.pid)
        now_ns = clock_ns(sleepers.pid)
        assert before_ns <= now_ns <= threads_ns(sleepers.pid)
    timer.delete()


def test_who_rests_has_a_timer_and_who_runs_much_has_none(sleepers: subprocess.Popen[str]) -> None:
    """After some polls at rest there is a timer; it stays while one of 101 threads runs, not if all do."""
    config = parse_config(b"unmatched: ignore", "test")
    poller = Poller(ProcFS(), config, report=lambda _error: None)
    poller.always_watch(frozenset({sleepers.pid}))
    for _ in range(2):
        for _ in range(40):
            poller.poll(details=False)
        assert timers() == 1
        work(sleepers)
        (process,) = poller.poll().processes
        assert timers() == 1
        assert process.cpu_ns == clock_ns(sleepers.pid) == threads_ns(sleepers.pid)
        work(sleepers, "all")
        poller.poll()
        assert timers() == 0
    for _ in range(40):
        poller.poll(details=False)
    assert timers() == 1
    os.kill(sleepers.pid, 9)
    sleepers.wait()
    assert poller.poll().processes == ()
    assert timers() == 0
    poller.close()


def test_processes_asleep_hear_of_another_configuration(
    sleepers: subprocess.Popen[str],
) -> None:
    """After many polls at rest, a reload gives a process another group, and no other figures."""
    poller = Poller(
        ProcFS(), parse_config(b"unmatched: ignore", "test"), report=lambda _error: None
    )
    poller.always_watch(frozenset({sleepers.pid}))
    for _ in range(40):
        poller.poll(details=False)
    (before,) = poller.poll().processes
    name = f"shop-{sleepers.pid}"
    groups = f"unmatched: ignore\ngroups: [{{name: {name}, match: {{cmdline: 'Barrier.101.'}}}}]"
    poller.reload(parse_config(groups.encode(), "test"))
    view = poller.poll()
    (after,) = view.processes
    assert (after.group, after.cpu_ns) == (name, before.cpu_ns)
    assert {group.name: group.processes for group in view.groups}[name] == 1
    work(sleepers)
    (worked,) = poller.poll().processes
    assert worked.cpu_ns == clock_ns(sleepers.pid)
    poller.close()
