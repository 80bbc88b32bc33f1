"""Runs loops of asyncio, and writes down from inside what each does at which moment.

``loops.py DIRECTORY SCENARIO SECONDS``. The loops are those of uvloop if the environment variable RING is the
path of the library of ``ring.c``, which is loaded already. Each loop has a file in the directory, an array of
pairs: a moment of CLOCK_MONOTONIC in ns, and the number of what begins then (see LABELS;
:mod:`tests.loops_outside` reads it).
Prints a line of JSON once the loops run: its PID, and by file the TID of the loop's thread.

Most steps sleep instead of computing, as a blocking call does: that holds the loop as well, and leaves the
machine's CPUs to others.
"""

import asyncio
import ctypes
import functools
import json
import mmap
import os
import selectors
import struct
import sys
import threading
import time

NOTHING, SELECTS, BACK = 0, 1, 2
LABELS = [
    "",
    "",
    "",
    "heavy",
    "light",
    "named-é",
    "outer",
    "Job.work",
    "(callback) tick",
    "(callback) Job.tick",
    "(callback) Callable",
    "member",
    "eager",
    "subclassed",
    "later",
    "(callback) run_later.<locals>.inner",
    "generations.<locals>.short",
    "dear",
    "cheap",
]
NUMBERS = {label: number for number, label in enumerate(LABELS) if label}
MOST = 400_000
PAIR = struct.Struct("=QQ")


class Ring:
    """What one loop does: written by its thread alone."""

    def __init__(self, directory, name):
        self.path = os.path.join(directory, name)
        with open(self.path, "w+b") as file:
            file.truncate(MOST * PAIR.size)
            self._memory = mmap.mmap(file.fileno(), MOST * PAIR.size)
        self._at = 0

    def note(self, number):
        """Write down what begins now."""
        if self._at < MOST * PAIR.size:
            PAIR.pack_into(self._memory, self._at, time.monotonic_ns(), number)
            self._at += PAIR.size

    @property
    def memory(self):
        """What has been written down."""
        return self._memory

    def __len__(self):
        return self._at

    @property
    def full(self):
        """Whether there is no more room."""
        return self._at > (MOST - 1000) * PAIR.size


class RingInC(Ring):
    """The same, written by C, which also writes down when the thread waits in an epoll."""

    def __init__(self, directory, name):
        super().__init__(directory, name)
        library = ctypes.PyDLL(os.environ["RING"])
        self._note = library.ring_note
        self._note.argtypes = [ctypes.c_uint64]
        self._note.restype = ctypes.c_size_t
        where = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        library.ring_begin.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        library.ring_begin(where, MOST)

    def __len__(self):
        return self._note(0) * PAIR.size

    def note(self, number):
        """Write down what begins now."""
        self._at = self._note(number) * PAIR.size


class Selector(selectors.DefaultSelector):
    """Writes down when the loop waits."""

    ring = None

    def select(self, timeout=None):
        """Wait for events."""
        self.ring.note(SELECTS)
        try:
            return super().select(timeout)
        finally:
            self.ring.note(BACK)


class Subclass(asyncio.Task):
    """A class of tasks of the program's own."""


class Job:
    """What has a task and a callback as methods."""

    def __init__(self, program):
        self.program = program

    async def work(self):
        """A method as a coroutine."""
        while self.program.goes_on():
            self.program.step("Job.work", 0.002)
            await asyncio.sleep(0.003)

    def tick(self):
        """A method as a callback."""
        self.program.step("(callback) Job.tick", 0.001)
        if self.program.goes_on():
            asyncio.get_running_loop().call_later(0.007, self.tick)


class Callable:
    """An object as a callback."""

    def __init__(self, program):
        self.program = program

    def __call__(self):
        """Hold the loop for a while."""
        self.program.step("(callback) Callable", 0.001)
        if self.program.goes_on():
            asyncio.get_running_loop().call_later(0.011, self)


def tick(program, *_):
    """A partial as a callback."""
    program.step("(callback) tick", 0.001)
    if program.goes_on():
        asyncio.get_running_loop().call_later(0.009, functools.partial(tick, program))


def run_later(program):
    """Have a nested function called in each iteration."""

    def inner():
        program.step("(callback) run_later.<locals>.inner", 0.0005)
        if program.goes_on():
            run_later(program)

    asyncio.get_running_loop().call_soon(inner)


async def heavy(program):
    """Hold the loop for long."""
    while program.goes_on():
        program.step("heavy", 0.005)
        await asyncio.sleep(0)


async def light(program):
    """Hold the loop for short."""
    while program.goes_on():
        program.step("light", 0.0003)
        await asyncio.sleep(0.002)


async def named(program):
    """Run under an explicit name."""
    while program.goes_on():
        program.step("named-é", 0.002)
        await asyncio.sleep(0.002)


async def innermost(program):
    """Run below another coroutine."""
    program.step("outer", 0.001)
    await asyncio.sleep(0.001)
    program.step("outer", 0.001)


async def outer(program):
    """Await another coroutine."""
    while program.goes_on():
        await innermost(program)
        program.step("outer", 0.001)
        await asyncio.sleep(0.002)


async def member(program):
    """Run in a TaskGroup."""
    program.step("member", 0.001)
    await asyncio.sleep(0.001)
    program.step("member", 0.001)


async def groups(program):
    """Run TaskGroups."""
    while program.goes_on():
        async with asyncio.TaskGroup() as group:
            group.create_task(member(program))
            group.create_task(member(program))


async def eager(program):
    """Begin within the step of another task."""
    program.step("eager", 0.001)
    await asyncio.sleep(0.001)
    program.step("eager", 0.001)


async def starts_eagerly(program):
    """Start tasks that begin at once."""
    loop = asyncio.get_running_loop()
    while program.goes_on():
        await asyncio.Task(eager(program), loop=loop, eager_start=True)
        await asyncio.sleep(0.002)


async def subclassed(program):
    """Run as a subclass of Task."""
    while program.goes_on():
        program.step("subclassed", 0.001)
        await asyncio.sleep(0.003)


async def generations(program):
    """Many short tasks, whose memory is used again and again."""

    async def short():
        program.step("generations.<locals>.short", 0.0004)

    while program.goes_on():
        for task in [asyncio.ensure_future(short()) for _ in range(3)]:
            await task
        await asyncio.sleep(0.001)


async def later(program, seconds):
    """What a loop that is run again and again for a short while runs."""
    end = time.monotonic() + seconds
    while program.goes_on() and time.monotonic() < end:
        program.step("later", 0.002)
        await asyncio.sleep(0.001)


async def waits(event):
    """Wait for an event."""
    await event.wait()


async def many(started):
    """Have many tasks: this one, MANY that wait, and some that have other names or classes."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(waits(event)) for _ in range(int(os.environ.get("MANY", "2000")))]
    tasks += [asyncio.create_task(waits(event), name="named-é") for _ in range(2)]
    tasks.append(Subclass(waits(event), loop=loop))
    if sys.version_info >= (3, 12):
        asyncio.Task(waits(event), loop=loop, eager_start=True, name="eager")
        tasks.append([task for task in asyncio.all_tasks() if task.get_name() == "eager"])
    await asyncio.sleep(0)
    started()
    await event.wait()


class Program:
    """One loop and what runs on it."""

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

    def loop(self):
        """Make a loop that writes down when it waits."""
        if "RING" in os.environ:
            import uvloop

            return uvloop.new_event_loop()
        selector = Selector()
        selector.ring = self.ring
        return asyncio.SelectorEventLoop(selector)

    async def mixed(self):
        """Run all kinds of tasks and callbacks."""
        loop = asyncio.get_running_loop()
        job = Job(self)
        loop.call_soon(job.tick)
        loop.call_soon(tick, self)
        loop.call_soon(Callable(self))
        run_later(self)
        work = [heavy(self), light(self), outer(self), job.work(), generations(self)]
        if sys.version_info >= (3, 11):
            work.append(groups(self))
        if sys.version_info >= (3, 12):
            work.append(starts_eagerly(self))
        tasks = [loop.create_task(coroutine) for coroutine in work]
        tasks.append(loop.create_task(named(self), name="named-é"))
        tasks.append(Subclass(subclassed(self), loop=loop))
        await asyncio.gather(*tasks)

    def run_mixed(self):
        """Run them on a loop."""
        self.loop().run_until_complete(self.mixed())

    def deeper(self, depth, call):
        """Call the function below this number of frames."""
        if depth:
            self.deeper(depth - 1, call)
        else:
            call()

    def run_again(self):
        """Run loops one after the other, below more and fewer frames, with pauses."""
        kept = self.loop()
        depth = 0
        while self.goes_on():
            depth = (depth + 3) % 10
            loop = kept if depth % 2 else self.loop()
            self.deeper(depth, functools.partial(loop.run_until_complete, later(self, 0.05)))
            self.ring.note(NOTHING)
            time.sleep(0.03)
            if loop is not kept:
                loop.close()


def ring(directory, name):
    """Make the ring of this thread's loop."""
    return (RingInC if "RING" in os.environ else Ring)(directory, name)


def main():
    """Run the scenario."""
    directory, scenario, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    if scenario == "fork":
        Program(ring(directory, "parent"), time.monotonic() + 0.05).run_mixed()
        if os.fork():
            os.wait()
            return
        scenario = "mixed"
    if scenario == "many":
        loop = (
            Program(Ring(directory, "one"), end).loop()
            if "RING" in os.environ
            else asyncio.new_event_loop()
        )
        loop.run_until_complete(many(lambda: print(json.dumps([os.getpid(), {}]), flush=True)))
    names = ["one", "two", "three"] if scenario == "threads" else ["one"]
    programs = {}
    started = threading.Barrier(len(names))

    def run(name):
        programs[name] = program = Program(ring(directory, name), end)
        started.wait()
        if name == "one":
            found = {name: program.tid for name, program in programs.items()}
            print(json.dumps([os.getpid(), found]), flush=True)
        program.run_again() if scenario == "again" else program.run_mixed()

    threads = [threading.Thread(target=run, args=(name,)) for name in names[1:]]
    for thread in threads:
        thread.start()
    run("one")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
