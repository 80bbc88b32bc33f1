"""How many callbacks are ready in a loop is what the program itself has put there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.harness import environ, until
from tests.loops_outside import Outside
from tests.testbed import Interpreter

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
