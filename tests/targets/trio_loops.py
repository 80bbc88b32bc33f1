"""Runs loops of trio, and writes down from inside what each does at which moment.

``trio_loops.py DIRECTORY SCENARIO SECONDS``: as ``loops.py``, with fewer kinds of tasks.
"""

import json
import os
import sys
import threading
import time

import trio
import trio.lowlevel
import trio.testing
from loops import BACK, NOTHING, NUMBERS, SELECTS, Ring
from trio._core import _run

RINGS = threading.local()
"""Of each thread, what its loop does."""


def note_waits():
    """Have each loop write down when it waits."""
    get_events = _run.TheIOManager.get_events

    def noted(self, timeout):
        RINGS.ring.note(SELECTS)
        try:
            return get_events(self, timeout)
        finally:
            RINGS.ring.note(BACK)

    _run.TheIOManager.get_events = noted


class Job:
    """What has a task as a method."""

    def __init__(self, program):
        self.program = program

    async def work(self):
        """A method as a coroutine."""
        while self.program.goes_on():
            self.program.step("Job.work", 0.002)
            await trio.sleep(0.003)


async def heavy(program):
    """Hold the loop for long."""
    while program.goes_on():
        program.step("heavy", 0.005)
        await trio.lowlevel.checkpoint()


async def light(program):
    """Hold the loop for short."""
    while program.goes_on():
        program.step("light", 0.0003)
        await trio.sleep(0.002)


async def named(program):
    """Run under an explicit name."""
    while program.goes_on():
        program.step("named-é", 0.002)
        await trio.sleep(0.002)


async def dear(program):
    """Hold the loop for longer, and not for most of the time."""
    while program.goes_on():
        program.step("dear", 0.012)
        await trio.sleep(0.02)


async def innermost(program):
    """Run below another coroutine."""
    program.step("outer", 0.001)
    await trio.sleep(0.001)
    program.step("outer", 0.001)


async def outer(program):
    """Await another coroutine."""
    while program.goes_on():
        await innermost(program)
        program.step("outer", 0.001)
        await trio.sleep(0.002)


async def generations(program):
    """Many short tasks, whose memory is used again and again."""

    async def short():
        program.step("generations.<locals>.short", 0.0004)

    while program.goes_on():
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(short)
        await trio.sleep(0.001)


async def later(program, seconds):
    """What a loop that is run again and again for a short while runs."""
    end = time.monotonic() + seconds
    while program.goes_on() and time.monotonic() < end:
        program.step("later", 0.002)
        await trio.sleep(0.001)


async def many():
    """Have many tasks that wait."""
    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            nursery.start_soon(trio.sleep_forever)
        for _ in range(2):
            nursery.start_soon(trio.sleep_forever, name="named-é")
        await trio.testing.wait_all_tasks_blocked()
        print(json.dumps([os.getpid(), {}]), flush=True)
        await trio.sleep_forever()


class Program:
    """One loop and what runs on it."""

    def __init__(self, ring, end):
        self.ring = RINGS.ring = ring
        self._end = end
        self.tid = threading.get_native_id()

    def goes_on(self):
        """Whether to go on."""
        return time.monotonic() < self._end and not self.ring.full

    def step(self, label, seconds):
        """Hold the loop for a while."""
        self.ring.note(NUMBERS[label])
        time.sleep(seconds)
        self.ring.note(NOTHING)

    async def few(self):
        """Run two tasks that leave the loop time to wait."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dear, self)
            nursery.start_soon(named, self, name="named-é")

    async def mixed(self):
        """Run all kinds of tasks."""
        async with trio.open_nursery() as nursery:
            for work in (heavy, light, outer, generations):
                nursery.start_soon(work, self)
            nursery.start_soon(Job(self).work)
            nursery.start_soon(named, self, name="named-é")

    def deeper(self, depth, *work):
        """Run a loop below this number of frames."""
        if depth:
            self.deeper(depth - 1, *work)
        else:
            trio.run(*work)

    def run(self, scenario):
        """Run one loop, or loops one after the other, below more and fewer frames, with pauses."""
        if scenario != "again":
            trio.run(self.few if scenario == "few" else self.mixed)
            return
        depth = 0
        while self.goes_on():
            depth = (depth + 3) % 10
            self.deeper(depth, later, self, 0.05)
            self.ring.note(NOTHING)
            time.sleep(0.03)


def main():
    """Run the scenario."""
    directory, scenario, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    if scenario == "many":
        trio.run(many)
    note_waits()
    names = ["one", "two", "three"] if scenario == "threads" else ["one"]
    programs = {}
    started = threading.Barrier(len(names))

    def run(name):
        programs[name] = program = Program(Ring(directory, name), end)
        started.wait()
        if name == "one":
            found = {name: program.tid for name, program in programs.items()}
            print(json.dumps([os.getpid(), found]), flush=True)
        program.run(scenario)

    threads = [threading.Thread(target=run, args=(name,)) for name in names[1:]]
    for thread in threads:
        thread.start()
    run("one")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
