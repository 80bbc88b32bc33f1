"""What is read of loops of uvloop is what they have written down themselves, or not known."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import environ, until
from tests.loops_outside import Outside, started, uvloop_names, watch_enough
from tests.loops_truth import check_functions
from tests.programs import environment, python
from tests.testbed import require
from tests.unit.test_names_memory import Damaged
from threadwatch.errors import ReadError
from threadwatch.model.loops import UNKNOWN, TaskCount
from threadwatch.tasks.kind import ELSEWHERE

RELEASES = [
    ((3, 9), "uvloop==0.16.0"),
    ((3, 10), "uvloop==0.17.0"),
    ((3, 12), "uvloop==0.19.0"),
    ((3, 15), "uvloop==0.23.0"),
]
"""One for each way in which a loop is laid out, or said to run."""
MOST_READS = 20_000
COUNTS = "uvloop==0.19.0", "uvloop==0.23.0"
"""Those whose libuv counts its iterations."""


@pytest.mark.parametrize(("version", "release"), RELEASES, ids=str)
def test_tasks_and_callbacks(version: tuple[int, int], release: str, tmp_path: Path) -> None:
    """Each sample has what held the loop, the number of its iteration, and the application's function."""
    interpreter = require(*version)
    names = uvloop_names(interpreter)
    with started(interpreter, tmp_path, "mixed", release) as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        taken = watch_enough(outside, files, {"heavy", "named-é"}, names, functions=True)
        outside.close()
    samples = [sample for _, _, sample in taken[pid] if sample.holder != UNKNOWN]
    assert {sample.kind for sample in samples} == {"uvloop"}
    assert {sample.iteration is not None for sample in samples} == {release in COUNTS}
    check_functions(files[pid], taken[pid], "loops", version)


READY = """
import asyncio, sys, uvloop
async def work():
    for _ in range(7):
        asyncio.get_running_loop().call_soon(int)
    asyncio.get_running_loop().create_task(asyncio.sleep(0))
    print(flush=True)
    sys.stdin.readline()
    await asyncio.Event().wait()
uvloop.new_event_loop().run_until_complete(work())
"""


@pytest.mark.parametrize(("version", "release"), RELEASES, ids=str)
def test_callbacks_that_are_ready(version: tuple[int, int], release: str) -> None:
    """Callbacks and steps of tasks count until they run."""
    interpreter = require(*version)
    with subprocess.Popen(
        [*python(interpreter, environment(interpreter, release)), "-W", "ignore", "-c", READY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ("plain", {}),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            outside = Outside(process.pid)
            outside.find_all(1)
            (sample,) = outside.sample(time.monotonic_ns())
            assert (sample.holder, sample.ready) == ("work", 8)
            process.stdin.write(b"\n")
            process.stdin.flush()

            def is_idle() -> bool:
                (sample,) = outside.sample(time.monotonic_ns())
                return (sample.holder, sample.ready) == (None, 0)

            until(is_idle, "all callbacks have run")
            outside.close()
        finally:
            process.kill()


@pytest.mark.parametrize(("version", "release"), [RELEASES[0], RELEASES[-1]], ids=str)
def test_damaged_memory(version: tuple[int, int], release: str, tmp_path: Path) -> None:
    """Whatever words of the memory are changed, errors are ours, and reads are bounded."""
    with started(require(*version), tmp_path, "mixed", release) as (pid, _):
        for seed in range(10):
            outside = Outside(pid)
            outside.find_all(1)
            memory = Damaged(seed, 0.05, outside.memory)
            for slept in (None, ELSEWHERE, *range(3, 20)):
                now_ns = time.monotonic_ns()
                samples = outside.loops.sample(
                    memory, now_ns, functions=True, asleep={pid: slept}.get
                )
                for sample in samples:
                    assert sample.holder is None or sample.holder.encode()
                    assert sample.age_ns is None or sample.age_ns >= 0
                outside.loops.iterations(memory)
                try:
                    outside.loops.find(memory, now_ns)
                except ReadError as error:
                    assert error.source == "tasks"  # noqa: PT017  # other errors are not expected
            assert memory.reads < MOST_READS
            outside.close()


def test_a_loop_at_rest(tmp_path: Path) -> None:
    """A loop that waits for events is at its selector, and all its tasks are counted."""
    with started(require(3, 14), tmp_path, "many", "uvloop==0.22.1") as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)

        def at_rest() -> bool:
            (sample,) = outside.sample(time.monotonic_ns())
            return (sample.tid, sample.kind, sample.holder, sample.age_ns) == (
                pid,
                "uvloop",
                None,
                0,
            )

        until(at_rest, "it is at its selector")
        (census,) = outside.loops.census(outside.memory, time.monotonic_ns(), 5_000)
        assert (census.tid, census.kind) == (pid, "uvloop")
        assert census.counts["waits"] == TaskCount(0, 2_001)
        outside.close()
