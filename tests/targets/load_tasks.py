"""A loop of asyncio with tasks that use CPU time by a plan, block it, and measure that.

With the argument ``plan``: two tasks and a callback that compute, and a task that blocks in ``time.sleep`` at
times. With ``blocked``: nothing but a task that has blocked the loop once it has said that it is ready. A
line on stdin asks for what has been measured so far. The loop is uvloop's where that of ``loops.py`` is.
"""

import asyncio
import json
import os
import sys
import tempfile
import time

import lab
import loops

lab.publish()

BOUNDS = (0.005, 0.05, 0.1)
"""In seconds."""
USED = {"heavy": 0.0, "light": 0.0, "(callback) beat": 0.0}
"""CPU time by task."""
AWAY = dict.fromkeys(BOUNDS, 0.0)
"""For how long the loop had been away from its selector for longer than each bound."""
SLEPT = [0.0]


def tell(step):
    """Say what has been measured."""
    if RING is not None:
        add_up_ring()
    said = {
        "step": step,
        "used": USED,
        "thread": time.thread_time(),
        "away": [AWAY[bound] for bound in BOUNDS],
        "slept": SLEPT[0],
        "time": time.monotonic(),
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


RING = loops.RingInC(tempfile.mkdtemp(), "ring") if "RING" in os.environ else None
"""Where it is written down when a loop of uvloop goes to its selector, and comes back."""
READ, CAME_BACK = [0], [None]
"""How much of that has been added up, and when the loop came back last."""


def add_up_ring():
    """Add up how long a loop of uvloop has been away from its selector."""
    end = len(RING)
    for at in range(READ[0], end, loops.PAIR.size):
        moment, what = loops.PAIR.unpack_from(RING.memory, at)
        if what == loops.BACK:
            CAME_BACK[0] = moment / 1e9
        elif what == loops.SELECTS and CAME_BACK[0] is not None:
            for bound in BOUNDS:
                AWAY[bound] += max(moment / 1e9 - CAME_BACK[0] - bound, 0.0)
    READ[0] = end


def compute(name, seconds):
    """Use this much CPU time."""
    began = now = time.thread_time()
    while now - began < seconds:
        now = time.thread_time()
    USED[name] += now - began


async def heavy():
    """Use CPU time in long pieces."""
    while True:
        compute("heavy", 0.012)
        await asyncio.sleep(0.05)


async def light():
    """Use CPU time in short pieces."""
    while True:
        compute("light", 0.004)
        await asyncio.sleep(0.05)


def beat(loop):
    """Use CPU time in a callback."""
    compute("(callback) beat", 0.004)
    loop.call_later(0.05, beat, loop)


async def sleeper():
    """Block the loop, without CPU time."""
    while True:
        await asyncio.sleep(0.6)
        began = time.monotonic()
        time.sleep(0.2)  # noqa: ASYNC251  # which is what no task should do
        SLEPT[0] += time.monotonic() - began


def measure_selector(loop):
    """Measure how long the loop is away from its selector."""
    select = loop._selector.select
    back = [time.monotonic()]

    def measured(timeout=None):
        away = time.monotonic() - back[0]
        for bound in BOUNDS:
            AWAY[bound] += max(away - bound, 0.0)
        ready = select(timeout)
        back[0] = time.monotonic()
        return ready

    loop._selector.select = measured


async def plan():
    """Run it all until stdin ends."""
    loop = asyncio.get_running_loop()
    if RING is None:
        measure_selector(loop)
    ended = loop.create_future()

    def on_input():
        if sys.stdin.readline():
            tell("measured")
        else:
            ended.cancel()

    loop.add_reader(0, on_input)
    tasks = [loop.create_task(work()) for work in (heavy, light, sleeper)]
    beat(loop)
    tell("ready")
    try:
        await ended
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()


async def blocked():
    """Run a task that blocks the loop until stdin ends, while three callbacks are ready."""

    async def stuck():
        for _ in range(3):
            asyncio.get_running_loop().call_soon(int)
        tell("ready")
        sys.stdin.read()

    await asyncio.get_running_loop().create_task(stuck())


SCENARIO = {"plan": plan, "blocked": blocked}[sys.argv[2]]
if RING is None:
    asyncio.run(SCENARIO())
else:
    import uvloop

    uvloop.new_event_loop().run_until_complete(SCENARIO())
