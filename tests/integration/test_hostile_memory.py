"""A target that lies about where its GIL is: nothing that it has there stops the sampler, or breaks it."""

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
from threadwatch.memory import DEADLINE_S
from threadwatch.procfs import Gil

SECOND = 1_000_000_000


@contextlib.contextmanager
def trap(place: Path, *arguments: str) -> Iterator[dict[str, int]]:
    """The program, as the addresses and PIDs that it tells of."""
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
                os.kill(told["server"], signal.SIGKILL)  # else nobody can end the other
            process.kill()


def readers() -> list[threading.Thread]:
    """The threads of ours that read memory."""
    return [thread for thread in threading.enumerate() if thread.name == "memory-reader"]


def wait_for_readers(count: int) -> None:
    """Wait until there are so many."""
    deadline = time.monotonic() + harness.DEADLINE
    while len(readers()) != count:
        assert time.monotonic() < deadline, readers()
        time.sleep(0.005)


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
        assert sample_at(watch, told["hung"], 1 * SECOND) >= DEADLINE_S
        assert len(readers()) == 1
        for second in range(2, 20):
            sample_at(watch, told["good"], second * SECOND)
        assert [(error.source, error.reason) for error in watch.errors] == [("gil", "timeout")]
        assert len(readers()) == 1, "it has been read while a thread was stuck in it"
        os.kill(told["server"], signal.SIGKILL)
        wait_for_readers(0)
        sample_at(watch, told["good"], 20 * SECOND)
        assert len(readers()) == 1, "it has not been read again"
        # the threads have been sampled all the time
        assert {sum(waits.times.values()) for waits in watch.take().values()} == {19 * SECOND}
    wait_for_readers(0)


def test_one_target_does_not_spoil_another(tmp_path: Path) -> None:
    """While threads are stuck in two processes of a user, a third of that user is not read; others are."""
    with contextlib.ExitStack() as stack:
        traps = [stack.enter_context(trap(tmp_path / f"trap{number}")) for number in range(3)]
        first = stack.enter_context(sampling.watching(traps[0]["pid"]))
        targets = []
        for number, told in enumerate(traps):
            other = stack.enter_context(sampling.watching(told["pid"]))
            gil = (Gil(told["hung"], 208, 8, 0),)
            target = other.of(gils=gil).target
            begin = time.monotonic()
            first.sampler.sample([target], (number + 1) * SECOND)
            took = time.monotonic() - begin
            assert (took >= DEADLINE_S) == (number < 2)
            targets.append(target)
        assert len(readers()) == 2
        first.sampler.sample(targets, 5 * SECOND)
        assert [error.reason for error in first.errors] == ["timeout", "timeout"]
        sleeper = stack.enter_context(
            subprocess.Popen(["sleep", "100"], user=65534, group=65534, extra_groups=[])
        )
        stack.callback(sleeper.kill)
        bystander = stack.enter_context(sampling.watching(sleeper.pid)).of(
            gils=(Gil(8, 208, 8, 0),)
        )
        first.sampler.sample([bystander.target], 10 * SECOND)
        assert [(error.source, error.reason) for error in first.errors][2:] == [("mem", "eio")]


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
