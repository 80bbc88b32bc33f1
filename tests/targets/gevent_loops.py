"""Runs greenlets of gevent, and writes down from inside which step each takes at which moment.

``gevent_loops.py DIRECTORY SCENARIO SECONDS``: as ``loops.py`` on uvloop: when the hub waits for events is
written down by the library of ``ring.c``, whose path is in the environment variable RING.
"""

import functools
import json
import os
import sys
import threading
import time

import gevent
from loops import NOTHING, NUMBERS, ring


class Program:
    """One hub and the greenlets of its thread."""

    def __init__(self, ring, end):
        self.ring = ring
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

    def run(self, scenario):
        """Run all kinds of greenlets and callbacks, or but two that leave the loop time to wait."""
        greenlet = gevent.Greenlet.spawn(named, self)
        greenlet.name = "named-é"
        if scenario == "few":
            gevent.joinall([greenlet, gevent.spawn(dear, self)])
            return
        timer = gevent.get_hub().loop.timer(0.006, repeat=0.006)
        timer.start(tick, self)
        works = [
            gevent.spawn(heavy, self),
            gevent.spawn(functools.partial(light, self)),
            gevent.spawn(Job(self).work),
            gevent.spawn(generations, self),
            greenlet,
        ]
        gevent.joinall(works)


class Job:
    """What has a greenlet as a method."""

    def __init__(self, program):
        self.program = program

    def work(self):
        """A method as a greenlet."""
        while self.program.goes_on():
            self.program.step("Job.work", 0.002)
            gevent.sleep(0.003)


def tick(program):
    """A callback of the loop, which runs in the hub."""
    program.step("(callback) tick", 0.001)


def heavy(program):
    """Hold the loop for long."""
    while program.goes_on():
        program.step("heavy", 0.005)
        gevent.sleep(0.004)


def light(program):
    """Hold the loop for short."""
    while program.goes_on():
        program.step("light", 0.0003)
        gevent.sleep(0.002)


def named(program):
    """Run under an explicit name."""
    while program.goes_on():
        program.step("named-é", 0.002)
        gevent.sleep(0.002)


def dear(program):
    """Hold the loop for longer, and not for most of the time."""
    while program.goes_on():
        program.step("dear", 0.012)
        gevent.sleep(0.02)


def generations(program):
    """Many short greenlets, whose memory is used again and again."""

    def short():
        program.step("generations.<locals>.short", 0.0004)

    while program.goes_on():
        gevent.joinall([gevent.spawn(short) for _ in range(3)])
        gevent.sleep(0.001)


def main():
    """Run the scenario."""
    directory, scenario, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    if scenario == "idle":
        print(json.dumps([os.getpid(), {}]), flush=True)
        gevent.sleep(float(seconds))
    names = ["one", "two"] if scenario == "threads" else ["one"]
    programs = {}
    started = threading.Barrier(len(names))

    def run(name):
        programs[name] = program = Program(ring(directory, name), end)
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
