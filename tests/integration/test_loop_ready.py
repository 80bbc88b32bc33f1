"""How many callbacks are ready in a loop is what the program itself has put there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from tests.harness import environ, until
from tests.loops_outside import GEVENTS, TRIOS, Outside
from tests.programs import environment, python
from tests.testbed import Interpreter, require

PROGRAM = """
import asyncio, collections, sys

class Other(collections.deque):
    pass

def tell(text):
    print(text, flush=True)
    sys.stdin.readline()

async def work():
    loop = asyncio.get_running_loop()
    for _ in range(7):
        loop.call_soon(int)
    task = loop.create_task(asyncio.sleep(0))
    tell("eight")
    await task
    asked = asyncio.Event()

    def hear():
        sys.stdin.readline()
        loop.remove_reader(0)
        asked.set()

    loop.add_reader(0, hear)
    print("idle", flush=True)
    await asked.wait()
    loop.call_soon(int)
    tell("one")
    loop._ready = collections.deque([loop._ready[0]] * 5)
    tell("five")
    loop._ready = Other(loop._ready)
    tell("other")

asyncio.run(work())
tell("ended")
"""

TRIO = """
import sys, trio, trio.testing

left = 0

def tell(ready):
    print(ready, flush=True)
    sys.stdin.readline()

async def waits(event):
    global left
    await event.wait()
    left -= 1
    tell(left)

async def work():
    event = trio.Event()
    await trio.testing.wait_all_tasks_blocked()  # those of trio itself have begun
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(trio.sleep_forever)
        tell(trio.lowlevel.current_statistics().tasks_runnable)
        global left
        for left in range(1, 4):
            nursery.start_soon(waits, event)
        await trio.testing.wait_all_tasks_blocked()
        print(0, flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        event.set()
        await trio.sleep_forever()

trio.run(work)
"""
GEVENT = """
import gevent, gevent.socket, sys

queue = gevent.get_hub().loop._callbacks

def rest():
    print(0, flush=True)
    gevent.socket.wait_read(0)
    sys.stdin.readline()

for count in (1, 7, 500, 501):
    rest()
    gevent.spawn(int)
    for _ in range(count - 1):
        gevent.get_hub().loop.run_callback(int)
    print(len(queue) if len(queue) <= 500 else None, flush=True)
    sys.stdin.readline()
rest()
"""


@pytest.mark.parametrize("version", [(3, 10), (3, 14)], ids=str)
@pytest.mark.parametrize("library", ["trio", "gevent"])
def test_what_is_ready_in_loops_of_others(version: tuple[int, int], library: str) -> None:
    """Tasks of trio count that are to take a step, in this iteration or the next, and callbacks of gevent."""
    interpreter = require(*version)
    release, program, numbers = {
        "trio": (dict(TRIOS)[str(interpreter)], TRIO, (7, 0, 2, 1, 0)),
        "gevent": (dict(GEVENTS)[str(interpreter)], GEVENT, (0, 1, 0, 7, 0, 500, 0, None, 0)),
    }[library]
    command = python(interpreter, environment(interpreter, release))
    with subprocess.Popen(
        [*command, "-W", "ignore", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ("plain", {}),
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        outside = None
        for ready in numbers:
            assert process.stdout.readline().strip() == str(ready)
            if outside is None:
                outside = Outside(process.pid)
                outside.find_all(1)
            until(_tells(outside, [ready]), f"{ready} are ready")
            process.stdin.write("\n")
            process.stdin.flush()
        assert outside is not None
        outside.close()
        process.kill()


def test_callbacks_that_are_ready(interpreter: Interpreter) -> None:
    """Callbacks and steps of tasks count until they run; a loop with another queue tells nothing."""
    with subprocess.Popen(
        [*interpreter.command, "-W", "ignore", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ("plain", {}),
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        expected: list[tuple[str, list[int | None]]] = [
            ("eight", [8]),
            ("idle", [0]),
            ("one", [1]),
            ("five", [5]),
            ("other", [None]),
            ("ended", []),
        ]
        outside = None
        for said, ready in expected:
            assert process.stdout.readline().strip() == said
            if outside is None:
                outside = Outside(process.pid)
                outside.find_all(1)
            until(_tells(outside, ready), f"{ready} are ready")
            process.stdin.write("\n")
            process.stdin.flush()
        assert outside is not None
        outside.close()


def _tells(outside: Outside, ready: list[int | None]) -> Callable[[], bool]:
    """Return what says whether the loops of the process tell this."""

    def told() -> bool:
        samples = outside.loops.sample(outside.memory, time.monotonic_ns(), functions=False)
        return [sample.ready for sample in samples] == ready

    return told
