"""What is read of the loops of real processes is what those have written down themselves, or not known."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import environ, until
from tests.loops_outside import (
    APPLICATIONS,
    FRAMEWORKS,
    Outside,
    endpoints,
    started,
    watch_enough,
)
from tests.loops_truth import check_functions
from tests.testbed import Interpreter, require
from threadwatch.errors import Gone, ReadError
from threadwatch.model.loops import TaskCount
from threadwatch.names.memory.snapshot import Memory, Place
from threadwatch.names.ownership import clocks_ahead
from threadwatch.procfs import ProcFS
from threadwatch.tasks.kind import not_known
from threadwatch.tasks.source import LoopSource

CALLED = "(callback) run_later.<locals>.inner"
"""A callback that runs in each iteration."""


def test_tasks_and_callbacks(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each sample has the task or callback that held the loop, and the age of its iteration."""
    with started(interpreter, tmp_path, "mixed") as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        watch_enough(outside, files, {"heavy", "named-é", CALLED})
        outside.close()


@pytest.mark.parametrize("version", [(3, 9), (3, 12), (3, 15)], ids=str)
def test_loops_of_several_threads(version: tuple[int, int], tmp_path: Path) -> None:
    """Each loop belongs to the thread that runs it."""
    with started(require(*version), tmp_path, "threads") as (pid, files):
        outside = Outside(pid)
        outside.find_all(3)
        assert outside.loops.tids == files.keys()
        watch_enough(outside, files, {"heavy"})
        outside.close()


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 14)], ids=str)
def test_loops_that_end_and_begin_again(version: tuple[int, int], tmp_path: Path) -> None:
    """No loop is seen where none runs, wherever on the stack the next one begins."""
    with started(require(*version), tmp_path, "again") as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        watch_enough(outside, files, {"later"})
        outside.close()


@pytest.mark.parametrize("version", [(3, 9), (3, 13)], ids=str)
def test_the_loop_of_a_forked_child(version: tuple[int, int], tmp_path: Path) -> None:
    """A child by fork has its own loop, under its own TID."""
    with started(require(*version), tmp_path, "fork") as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        assert outside.loops.tids == files.keys() == {pid}
        watch_enough(outside, files, {"heavy"})
        outside.close()
        os.kill(pid, 9)


def test_all_tasks_are_counted(interpreter: Interpreter, tmp_path: Path) -> None:
    """A census of a process at rest has each of its 2,004 tasks under its name, and those that wait."""
    with started(interpreter, tmp_path, "many") as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)
        expected = {
            "many": TaskCount(0, 1),
            "named-é": TaskCount(0, 2),
            "waits": TaskCount(0, 2_001),
        }
        if interpreter.version >= (3, 12):
            expected["eager"] = TaskCount(0, 1)

        def counted() -> bool:
            (census,) = outside.loops.census(outside.memory, time.monotonic_ns(), 5_000)
            assert (census.tid, census.kind) == (pid, "asyncio")
            return census.counts == expected

        until(counted, "all tasks are counted")
        with pytest.raises(ReadError, match="tasks: limit"):
            outside.loops.census(outside.memory, time.monotonic_ns(), 2_000)
        outside.close()


def test_the_application_s_function(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each sample of a task or callback has the outermost function of the program in it."""
    with started(interpreter, tmp_path, "mixed") as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        taken = watch_enough(outside, files, {"heavy", "light", CALLED}, functions=True)[pid]
        outside.close()
    assert len(check_functions(files[pid], taken, "loops", interpreter.version)) > 3


@pytest.mark.parametrize(
    "row",
    [row for row in FRAMEWORKS if row[0] in ("3.13", "3.14") and row[1][-1] in APPLICATIONS],
    ids=lambda row: row[1][-1],
)
def test_endpoints_of_real_servers(row: tuple[str, tuple[str, ...], str]) -> None:
    """Under Django and in the greenlets of SQLAlchemy, each sample has the endpoint that ran."""
    version, served, *requirements = row
    major, minor = map(int, version.split("."))
    told, wrong = endpoints(require(major, minor), served, requirements)
    assert not wrong
    assert {step for step, function in told if function} == {"dear", "cheap"}
    assert sum(function is None for _, function in told) <= len(told) // 10


FRAMEWORK = """
class View:
    def __init__(self, asked):
        self.answer(asked)

async def serve(view):
    for asked in range(200):
        view(asked)
"""
SHOP = """
import asyncio, sys

there = {}
exec(compile(sys.argv[1], "/usr/lib/python3/dist-packages/framework.py", "exec"), there)

class Basket(there["View"]):
    def answer(self, asked):
        if asked == 150:
            print(flush=True)
            sys.stdin.read()

asyncio.run(there["serve"](Basket))
"""


@pytest.mark.parametrize("version", [(3, 11), (3, 13), (3, 15)], ids=str)
def test_the_application_s_function_in_a_class(version: tuple[int, int], tmp_path: Path) -> None:
    """What the interpreter puts between a framework and the ``__init__`` of its class is no function."""
    (tmp_path / "shop.py").write_text(SHOP)
    command = [*require(*version).command, str(tmp_path / "shop.py"), FRAMEWORK]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environ("plain", {})) as process:
        assert process.stdout is not None
        process.stdout.readline()
        outside = Outside(process.pid)
        outside.find_all(1)
        (sample,) = outside.loops.sample(outside.memory, time.monotonic_ns(), functions=True)
        assert (sample.holder, sample.function) == ("serve", "shop.Basket.answer")
        outside.close()
        process.kill()


BLOCKS = """
import asyncio, os, time
async def blocks():
    while True:
        time.sleep(0.2)
        await asyncio.sleep(0)
print(os.getpid(), flush=True)
asyncio.run(blocks())
"""


@pytest.mark.parametrize("offset", ["-1000", "86400"])
def test_ages_in_a_time_namespace(offset: str) -> None:
    """Where a time namespace has set the monotonic clock otherwise, an iteration is as old as it is."""
    prefix = ("unshare", "--time", "--monotonic", offset, "--fork", "--kill-child")
    command = [*prefix, *require(3, 12).command, "-c", BLOCKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        directory = ProcFS().open_process(pid)
        memory = directory.open_memory()
        source = LoopSource(pid)
        source.begin(directory.read("auxv", "auxv"), clocks_ahead(directory).monotonic_ns)
        ages: list[int] = []

        def old_enough() -> bool:
            source.find(memory, time.monotonic_ns())
            samples = source.sample(memory, time.monotonic_ns(), not_known, functions=False)
            ages.extend(sample.age_ns for sample in samples if sample.age_ns is not None)
            return any(age_ns > 50_000_000 for age_ns in ages)

        until(old_enough, "a look in the middle of an iteration")
        assert max(ages) < 100_000_000_000
        directory.close()
        process.kill()


def test_a_process_that_ends_meanwhile(tmp_path: Path) -> None:
    """Looking at a process that has ended says Gone."""
    with started(require(3, 12), tmp_path, "mixed") as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)
        os.kill(pid, 9)

        def gone() -> bool:
            try:
                outside.loops.sample(outside.memory, time.monotonic_ns(), functions=True)
            except Gone:
                return True
            return False

        until(gone, "the end of the process")
        with pytest.raises(Gone):
            outside.find()
        outside.close()


class Counted:
    """A memory, and how often it is read."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        """Read, as a memory does."""
        self.reads += 1
        return self._memory.read(address, size)

    def read_each(self, places: Sequence[Place]) -> list[bytes]:
        """Read, as a memory does."""
        self.reads += len(places)
        return self._memory.read_each(places)


def test_a_process_without_asyncio_costs_three_reads(interpreter: Interpreter) -> None:
    """As long as a process imports nothing, looking for loops reads three places; then asyncio is found."""
    code = (
        "import sys; print(flush=True); sys.stdin.readline(); import asyncio;"
        " asyncio.run(asyncio.sleep(60))"
    )
    with subprocess.Popen(
        [*interpreter.command, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ("plain", {}),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        outside = Outside(process.pid)
        assert not outside.find()
        memory = Counted(outside.memory)
        outside.loops.find(memory, time.monotonic_ns())
        assert memory.reads == 3
        assert outside.loops.sample(memory, time.monotonic_ns(), functions=True) == []
        process.stdin.write(b"\n")
        process.stdin.flush()
        outside.find_all(1)

        def idle() -> bool:
            samples = outside.loops.sample(outside.memory, time.monotonic_ns(), functions=True)
            return [(s.tid, s.holder, s.age_ns) for s in samples] == [(process.pid, None, 0)]

        until(idle, "the loop waits for events")
        outside.close()
        process.kill()
