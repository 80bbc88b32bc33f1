"""Loops whose threads sleep: one that waits is not read again, one that is held is."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from dataclasses import replace

from tests.harness import environ, until
from tests.testbed import require
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.model.loops import LoopSample
from threadwatch.model.view import View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import MemoryFile, ProcFS, parse_stat
from threadwatch.reading.reader import GuardedReader
from threadwatch.tasks.kind import Asleep
from threadwatch.tasks.source import LoopSource
from threadwatch.waits.loop_looks import LoopLooks
from threadwatch.waits.loop_records import LoopTarget
from threadwatch.waits.records import SampledProcess, SampledThread, Target

PROGRAM = """
import asyncio, sys

def hear():
    if not sys.stdin.readline():
        sys.exit()
    print("busy", flush=True)
    sys.stdin.readline()
    print("idle", flush=True)

async def main():
    asyncio.get_running_loop().add_reader(0, hear)
    print("idle", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""

HELD = """
import asyncio, sys

async def main():
    print("held", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


class Asked(LoopSource):
    """Counts how often the loops are read."""

    times = 0

    def sample(
        self, memory: MemoryFile, now_ns: int, asleep: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Do what a source does."""
        self.times += 1
        return super().sample(memory, now_ns, asleep, functions=functions)


def test_a_thread_that_sleeps_is_not_read_again() -> None:
    """A loop that waits for events is read twice, and again as soon as it works."""
    command = [*require(3, 12).command, "-c", PROGRAM]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=environ("plain", {}), text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "idle\n"
        pid = process.pid
        directory = ProcFS().open_process(pid)
        errors: list[ReadError] = []
        looks, source, key = LoopLooks(errors, GuardedReader()), Asked(pid), ProcessKey(pid, 0)
        loops = LoopTarget(source, chance=2, usual_ns=10**8, functions=False, clock_ns=0)
        target = Target(key, directory, (pid,), (), lambda _: None, None, loops=loops)
        sampled = SampledProcess(set())
        file = directory.open_task_file(pid, "syscall")
        thread = SampledThread(pid, file, 0)
        sampled.add(thread)

        def look() -> tuple[str | None, bool]:
            """Return what has the loop, and whether it was read."""
            before = source.times
            thread.see("running" if file.read().startswith(b"running") else "poll", 0)
            looks.look(sampled, target, loops, time.monotonic_ns())
            readings = looks.take(key) or {}
            assert not errors
            seen = readings[pid].looks[-1].holder if pid in readings else "(none)"
            return seen, source.times > before

        def rests() -> bool:
            return [look(), look(), look()] == [(None, False)] * 3

        for _ in range(2):
            until(rests, "the loop is not read while it waits")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "busy\n"
            assert look() == ("(callback) hear", True)
            assert look() == ("(callback) hear", True)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "idle\n"
        looks.close()
        file.close()
        directory.close()
        process.kill()


def test_a_loop_that_is_held_when_it_is_found() -> None:
    """A loop that is blocked by a call that sleeps is looked at again and again, though nothing has run."""
    command = [*require(3, 12).command, "-c", HELD]
    pipe = subprocess.PIPE
    procfs, config = ProcFS(), replace(DEFAULT_CONFIG, watch_unmatched=False)
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=environ("plain", {}), text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with procfs.open_process(process.pid) as directory:
            until(lambda: parse_stat(directory.read("stat", "stat")).state == "S", "it is blocked")
        with closing(Poller(procfs, config, report=lambda _error: None)) as poller:
            poller.always_watch(frozenset({process.pid}))

            def poll() -> View:
                """Return one more poll, and have samples taken before it."""
                poller.sample_for(0.3)
                return poller.poll()

            def holder() -> str | None:
                loops = [thread.loop for one in poll().processes for thread in one.threads]
                return next((one.holder for one in loops if one is not None), None)

            assert until(holder, "the loop is seen to be held") == "main"
            for _ in range(3):
                samples = poll().stats.samples
            until(lambda: poll().stats.samples > samples, "it is looked at again")
        process.kill()
