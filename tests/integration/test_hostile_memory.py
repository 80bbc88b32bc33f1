"""Targets that make every reader wait: neither poll nor sample waits, or breaks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.integration import sampling
from tests.integration.sampling import Watch
from tests.names_outside import Outside
from tests.stopwatch import Stopwatch
from threadwatch.config.parse import parse_config
from threadwatch.errors import ReadError
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ProcessKey
from threadwatch.model.view import GroupView, ProcessView, View
from threadwatch.names.slots import Gil
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS, parse_stat
from threadwatch.reading.reader import DEADLINE_S
from threadwatch.top.source import ProcSource

SECOND = 1_000_000_000


@contextlib.contextmanager
def trap(place: Path, *arguments: str) -> Iterator[dict[str, int]]:
    """Run the program, and yield the addresses and PIDs that it tells of."""
    place.touch()
    program = harness.TARGETS / "hostile_memory.py"
    with subprocess.Popen(
        [sys.executable, str(program), str(place), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        assert said, f"needs root and /dev/fuse: {process.stderr.read().decode()}"
        told: dict[str, int] = json.loads(said)
        try:
            yield {**told, "pid": process.pid}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(told["server"], signal.SIGKILL)  # else the other could not be ended
            process.kill()


def readers() -> list[threading.Thread]:
    """Return the threads of ours that targets may keep waiting."""
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


def wait_for_readers(count: int) -> None:
    """Wait until there are this many."""
    harness.until(lambda: len(readers()) == count, f"{count} readers")


def sample_at(watch: Watch, address: int, now_ns: int) -> float:
    """Sample with the GIL at that address; how long it took, in seconds."""
    begin = time.monotonic()
    watch.of(gils=(Gil(address, 208, 8, 0),)).sample(now_ns)
    return time.monotonic() - begin


@pytest.mark.parametrize("name", ["fault", "nowhere", "zero", "kernel", "good"])
def test_addresses_that_mean_nothing(name: str, tmp_path: Path) -> None:
    """A page that does not come, no page, the kernel's, a page of other things: one error at most."""
    with trap(tmp_path / "trap") as told, sampling.watching(told["pid"]) as watch:
        addresses = {**told, "nowhere": 2**46, "zero": 8, "kernel": 2**63 - 8}
        for tenth in range(10, 15):
            sample_at(watch, addresses[name], tenth * SECOND // 10)
        reasons = [(error.source, error.reason) for error in watch.errors]
        assert reasons == ([] if name == "good" else [("mem", "eio")])
        assert all(waits.gil_held_ns == 0 for waits in watch.take().values())


def test_an_address_that_keeps_readers_waiting(tmp_path: Path) -> None:
    """One sample is late by the deadline; then the process is left alone until its memory answers again."""
    with trap(tmp_path / "trap") as told, sampling.watching(told["pid"]) as watch:
        sample_at(watch, told["good"], 0)
        assert sample_at(watch, told["hung"], 1 * SECOND) >= DEADLINE_S
        for second in range(2, 20):
            sample_at(watch, told["good"], second * SECOND)
        assert [(error.source, error.reason) for error in watch.errors] == [("gil", "timeout")]
        assert len(readers()) == 2, "it has been read while a thread was stuck in it"
        os.kill(told["server"], signal.SIGKILL)
        wait_for_readers(1)
        sample_at(watch, told["good"], 20 * SECOND)
        # the threads have been sampled all the time
        assert {sum(waits.times.values()) for waits in watch.take().values()} == {20 * SECOND}
    wait_for_readers(0)


def test_one_target_does_not_spoil_another(tmp_path: Path) -> None:
    """While threads are stuck in four processes of a user, a fifth of that user is not read; others are."""
    with contextlib.ExitStack() as stack:
        traps = [stack.enter_context(trap(tmp_path / f"trap{number}")) for number in range(5)]
        first = stack.enter_context(sampling.watching(traps[0]["pid"]))
        targets = []
        for number, told in enumerate(traps):
            other = stack.enter_context(sampling.watching(told["pid"]))
            gil = (Gil(told["hung"], 208, 8, 0),)
            target = other.of(gils=gil).target
            begin = time.monotonic()
            first.sample_all([target], (number + 1) * SECOND)
            took = time.monotonic() - begin
            # were the fifth read, it would keep a reader as well, and be given up below
            assert took >= DEADLINE_S or number == 4
            targets.append(target)
        assert len(readers()) == 5, "four that are stuck, and one that reads"
        first.sample_all(targets, 10 * SECOND)
        assert [error.reason for error in first.errors] == ["timeout"] * 4
        sleeper = stack.enter_context(
            subprocess.Popen(["sleep", "100"], user=65534, group=65534, extra_groups=[])
        )
        stack.callback(sleeper.kill)
        bystander = stack.enter_context(sampling.watching(sleeper.pid)).of(
            gils=(Gil(8, 208, 8, 0),)
        )
        first.sample_all([bystander.target], 20 * SECOND)
        assert [(error.source, error.reason) for error in first.errors][4:] == [("mem", "eio")]


def test_threads_that_wait_for_a_file_system(tmp_path: Path) -> None:
    """A read that is not answered is ``file``; a page that is not brought cannot be interrupted: ``disk``."""
    with trap(tmp_path / "trap", "hang") as told, sampling.watching(told["pid"]) as watch:
        deadline = time.monotonic() + harness.DEADLINE
        states: list[str] = []
        while states != ["disk", "file", "pipe"]:
            assert time.monotonic() < deadline, states
            watch.of(tids=tuple(watch.target.dir.tids())).sample()
            states = sorted(waits.state for waits in watch.take().values())
            time.sleep(0.01)


def hang(pid: int, file: str) -> None:
    """Have the program spring its trap: every reader of that file of it has to wait then."""
    os.kill(pid, signal.SIGUSR1)
    harness.until(lambda: not _answers(pid, file), f"{file} cannot be read")


def _answers(pid: int, file: str) -> bool:
    """Return whether a file in ``/proc`` can be read: or else its reader sleeps in the kernel, and stays."""
    path = f"/proc/{pid}/{file}"
    with subprocess.Popen(
        ["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as reader:
        try:
            before = None
            while reader.poll() is None:
                now = _sleeps_in(reader.pid, path)
                if now is not None and now == before:
                    return False
                before = now
                with contextlib.suppress(subprocess.TimeoutExpired):
                    reader.wait(0.5)
        finally:
            reader.kill()
        return True


def _sleeps_in(pid: int, path: str) -> str | None:
    """Return what a process has run (schedstat) if it has opened this file and cannot be interrupted."""
    proc = Path(f"/proc/{pid}")
    try:
        if path not in {os.readlink(fd) for fd in (proc / "fd").iterdir()}:
            return None
        schedstat = (proc / "schedstat").read_text()
        state = parse_stat((proc / "stat").read_bytes()).state
    except (FileNotFoundError, ProcessLookupError):  # it has ended, or closed the file
        return None
    return schedstat if state == "D" else None


NAMED = """
import threading, time
def work():
 while True: sum(range(20000)); time.sleep(0.001)
threading.Thread(target=work, name="computes").start()
"""
WORKER = "import time\nwhile True: sum(range(20000)); time.sleep(0.001)"
HANGS = [("exec", "syscall", "process"), ("lock", "cmdline", "cmdline")]


def _group(view: View, pid: int) -> tuple[GroupView, ProcessView]:
    process = next(process for process in view.processes if process.key.pid == pid)
    return next(group for group in view.groups if group.name == process.group), process


@pytest.mark.parametrize(("how", "file", "source"), HANGS)
def test_polls_go_on(how: str, file: str, source: str, tmp_path: Path) -> None:
    """One process hangs while it is watched: polls are on time, and the others' numbers are right."""
    errors: list[ReadError] = []
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(trap(tmp_path / "trap", how))
        (tmp_path / "bystander.py").write_text(WORKER)
        worker = stack.enter_context(
            subprocess.Popen([sys.executable, str(tmp_path / "bystander.py")])
        )
        stack.callback(worker.kill)
        poller = Poller(ProcFS(), parse_config(b"{}", "test"), report=errors.append)
        stack.callback(poller.close)
        view = poller.poll()
        for _ in range(3):
            poller.sample_for(0.2)
            view = poller.poll()
        assert {worker.pid, told["pid"]} <= {process.key.pid for process in view.processes}
        before, _ = _group(view, worker.pid)
        hang(told["pid"], file)
        latest = 0.0
        for _ in range(40):
            poller.sample_for(0.1)
            watch = Stopwatch()
            view = poller.poll()
            latest = max(latest, watch.seconds())
        after, _ = _group(view, worker.pid)
        os.kill(worker.pid, signal.SIGSTOP)
        deadline = time.monotonic() + harness.DEADLINE
        while after.cpu_ns != time.clock_gettime_ns((~worker.pid << 3) | 2):
            assert time.monotonic() < deadline, "its time is not what the kernel says"
            after, _ = _group(poller.poll(), worker.pid)
        assert after.cpu_ns > before.cpu_ns
        assert told["pid"] in {process.key.pid for process in view.processes}, "it has been lost"
        # a look at its loops may come before the poll to memory that hangs
        told_of = {(error.source, error.reason) for error in errors}
        assert told_of & {(source, "timeout"), ("tasks", "timeout")}
        assert len(readers()) <= 3
        assert latest < 5, "it has waited"
        assert 0 < view.stats.sample_cpu_ns + view.stats.poll_cpu_ns < time.process_time_ns()
        os.kill(told["server"], signal.SIGKILL)
        wait_for_readers(1)


def test_the_detail_of_a_thread_goes_on(tmp_path: Path) -> None:
    """What is asked of one thread only is not waited for either, nor asked again meanwhile."""
    with trap(tmp_path / "trap", "exec") as told:
        source = ProcSource(procfs="/proc", config_file=None, interval=1, pids=frozenset())
        try:
            with ProcFS().open_process(told["pid"]) as process:
                start_ticks = parse_stat(process.read("stat", "stat")).start_ticks
            key = ProcessKey(told["pid"], start_ticks), told["pid"], start_ticks
            assert isinstance(source.examine(key), Examined)
            hang(told["pid"], "syscall")
            for _ in range(5):
                watch = Stopwatch()
                said = source.examine(key)
                assert isinstance(said, str)
                assert "timeout" in said
                assert watch.seconds() < 5
            assert len(readers()) <= 2
            os.kill(told["server"], signal.SIGKILL)
        finally:
            source.close()
    wait_for_readers(0)


@pytest.mark.parametrize(("how", "file", "source"), HANGS)
@pytest.mark.parametrize("command", ["ps", "doctor"])
def test_commands_go_on(how: str, file: str, source: str, command: str, tmp_path: Path) -> None:
    """A process that hangs before the first poll of it: the others are shown, and the command ends."""
    del source
    with trap(tmp_path / "trap", how) as told:
        (tmp_path / "bystander.py").write_text(WORKER)
        with subprocess.Popen([sys.executable, str(tmp_path / "bystander.py")]) as worker:
            try:
                hang(told["pid"], file)
                said = subprocess.run(
                    harness.threadwatch(command, "--json"),
                    stdout=subprocess.PIPE,
                    timeout=harness.DEADLINE,
                    check=False,
                ).stdout
            finally:
                worker.kill()
        shown = json.loads(said)
        processes = shown if command == "ps" else shown["processes"]
        assert worker.pid in {process["pid"] for process in processes}


def test_names_that_keep_readers_waiting(tmp_path: Path) -> None:
    """Where the way to names leads into a page that never comes, the names of other processes are read."""
    config = parse_config(b"{poll_interval: 1s}", "test")
    (tmp_path / "bystander.py").write_text(NAMED)
    errors: list[ReadError] = []
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(trap(tmp_path / "trap"))
        worker = stack.enter_context(
            subprocess.Popen([sys.executable, str(tmp_path / "bystander.py")])
        )
        stack.callback(worker.kill)
        outside = Outside(told["pid"])
        python = outside.look()
        with Path(f"/proc/{told['pid']}/mem").open("r+b", buffering=0) as memory:
            memory.seek(python.runtime + python.offsets.interpreters)
            memory.write(told["hung"].to_bytes(8, "little"))
        outside.close()
        poller = Poller(ProcFS(), config, report=errors.append)
        stack.callback(poller.close)
        poller.always_watch(frozenset({told["pid"], worker.pid}))

        def names(pid: int) -> dict[str, str]:
            shown = (p.threads for p in view.processes if p.key.pid == pid)
            return {thread.name: thread.source for threads in shown for thread in threads}

        expected = {"MainThread": "memory", "computes": "memory"}
        deadline = time.monotonic() + harness.DEADLINE
        view = poller.poll()
        while names(worker.pid) != expected or set(names(told["pid"]).values()) != {"comm"}:
            assert time.monotonic() < deadline, (names(worker.pid), names(told["pid"]), errors)
            poller.sample_for(0.05)
            view = poller.poll()
        assert f"memory: timeout: the memory of PID {told['pid']} does not answer" in map(
            str, errors
        )
        watch = Stopwatch()
        for _ in range(5):
            poller.poll()
        assert watch.seconds() < 5, "it has been waited for again"
        assert len(readers()) <= 2
        os.kill(told["server"], signal.SIGKILL)
        wait_for_readers(1)
