"""Threads that spend their time in ways that they know, and measure it themselves.

Arguments: a word to be found by, and what to do: ``count N`` (run Python code), ``hash N`` (compute
outside of the GIL), ``convoy``, ``plan NAME,…``, ``rest``. A measured thread notes what it has done from
when to when, in ns of CLOCK_MONOTONIC, which the test reads as well: it can take any part of that.
"""

import contextlib
import hashlib
import os
import queue
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import lab
import load_lab

lab.publish()

MS = 1_000_000
cease = threading.Event()
noted = {}
"""By thread: what, from when, to when, and for how long of that the thread ran or was ready to."""
clock = time.monotonic_ns
own = threading.local()


def start(name, body, *arguments):
    """Start a thread that ends with the process."""
    thread = threading.Thread(target=body, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def note(notes, what):
    """Note what is done meanwhile; without an end, it is still going on."""
    noting = [what, clock(), None, 0]
    notes.append(noting)
    yield noting
    noting[2] = clock()


@contextlib.contextmanager
def note_wait(notes, what):
    """Note a wait, and how much of the time the thread ran or was ready to run, by the kernel's clocks."""
    before = clocks()
    with note(notes, what) as noting:
        yield
        noting[3] = clocks() - before


def clocks():
    """Return the time in ns that this thread has run or been ready to run in its life."""
    try:
        file = own.schedstat
    except AttributeError:
        file = own.schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    cpu, runqueue, _ = os.pread(file, 100, 0).split()
    return int(cpu) + int(runqueue)


def count():
    """Run Python code."""
    while not cease.is_set():
        sum(range(100))


def digest(number):
    """Run code that needs no GIL: half of the threads hash, the others compress."""
    data = random.Random(number).randbytes(1 << 20) * 4
    while not cease.is_set():
        if number % 2:
            zlib.compress(data, 1)
        else:
            hashlib.sha256(data).digest()


def visit(notes):
    """Sleep 10 ms, run Python code for 0.1 ms, and note what came between."""
    chance = random.Random()
    while not cease.is_set():
        due = clock() + 10 * MS + chance.randrange(MS)
        with note(notes, "wake") as waking:
            waking[1] = due
            time.sleep(max(due - clock(), 0) / 1e9)
        with note(notes, "work"):
            end = time.thread_time_ns() + MS // 10
            while time.thread_time_ns() < end:
                pass


class Feeder:
    """A thread that does something for another one after a time: until then, the other one waits."""

    def __init__(self, name, begin, end):
        self._orders = queue.SimpleQueue()
        self._begun = threading.Semaphore(0)
        self._begin, self._end = begin, end
        start(name, self._feed, noted.setdefault(name, []))

    def order(self, seconds):
        """Let the time begin."""
        self._orders.put(seconds)
        self._begun.acquire()

    def _feed(self, notes):
        while True:
            with note(notes, "lock"):
                seconds = self._orders.get()
            self._begin()
            self._begun.release()
            with note(notes, "sleep"):
                time.sleep(seconds)
            self._end()


def nothing():
    """Do nothing."""


def by_order(feeder, wait):
    """A wait that a feeder ends. To tell it is not part of the wait."""

    def run(seconds, notes, state):
        feeder.order(seconds)
        with note_wait(notes, state):
            wait()

    return run


def by_timeout(wait):
    """A wait that ends by itself."""

    def run(seconds, notes, state):
        with note_wait(notes, state):
            wait(seconds)

    return run


def sleep():
    """Wait for time to pass."""
    return by_timeout(time.sleep)


def held_lock():
    """Wait for a lock that another thread holds."""
    mutex = threading.Lock()
    feeder = Feeder("keeper", mutex.acquire, mutex.release)

    def wait():
        mutex.acquire()
        mutex.release()

    return by_order(feeder, wait)


def empty_queue():
    """Wait for a queue into which no thread puts anything."""
    waiting = queue.Queue()

    def wait(seconds):
        with contextlib.suppress(queue.Empty):
            waiting.get(timeout=seconds)

    return by_timeout(wait)


def receive():
    """Wait for data from a socket, without a timeout."""
    here, there = socket.socketpair()
    feeder = Feeder("sender", nothing, lambda: there.send(b"x"))
    return by_order(feeder, lambda: here.recv(1))


def accept():
    """Wait for a client that does not come: in accept itself, the timeout is the kernel's."""
    server = socket.create_server(("127.0.0.1", 0))

    def wait(seconds):
        timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6) + 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        with contextlib.suppress(BlockingIOError):
            server.accept()

    return by_timeout(wait)


def event_loop():
    """Wait for any of several events."""
    loop = select.epoll()
    here, there = socket.socketpair()
    loop.register(here, select.EPOLLIN)
    loop.register(there, select.EPOLLIN)
    return by_timeout(loop.poll)


def read_pipe():
    """Wait for data from a pipe."""
    reading, writing = os.pipe()
    feeder = Feeder("writer of a pipe", nothing, lambda: os.write(writing, b"x"))
    return by_order(feeder, lambda: os.read(reading, 1))


def write_file():
    """Write to a file and have it brought to the disk, again and again."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # it is open as long as the process lives
    data = bytes(1 << 18)

    def wait(seconds):
        end = clock() + seconds * 1e9
        while clock() < end:
            file.seek(0)
            file.write(data)
            os.fsync(file.fileno())

    return by_timeout(wait)


def child():
    """Wait for a child to end. To start it can be a wait for the child, too: until it has begun."""

    def run(seconds, notes, state):
        with note(notes, "start"):
            sleeping = subprocess.Popen(["sleep", "%.6f" % seconds], close_fds=False)
        with note_wait(notes, state):
            sleeping.wait()

    return run


# name, and by turns: the state, its mean time in ms, how to wait in it
PLANS = {
    "receiver": ((60, "socket", receive), (140, "sleep", sleep)),
    "acceptor": ((100, "socket", accept), (100, "sleep", sleep)),
    "locker": ((80, "lock", held_lock), (120, "sleep", sleep)),
    "consumer": ((60, "lock", empty_queue), (60, "pipe", read_pipe), (80, "sleep", sleep)),
    "looper": ((120, "poll", event_loop), (80, "sleep", sleep)),
    "saver": ((100, "file", write_file), (100, "sleep", sleep)),
    "parent": ((100, "child", child), (100, "sleep", sleep)),
}


def keep(plan, notes):
    """Wait for one after the other, for as long as chance has it."""
    while not cease.is_set():
        for mean, state, wait in plan:
            wait(random.expovariate(1e3 / mean), notes, state)


def rest():
    """Threads that wait for good, one that works, and one that wakes now and then."""
    here, there = socket.socketpair()
    lock = threading.Lock()
    lock.acquire()
    start("sleeper", time.sleep, 3600)
    start("receiver", here.recv, 1)
    start("locker", lock.acquire)
    start("looper", lambda: [time.sleep(0.02) for _ in iter(int, 1)])
    start("worker", count)
    return there


def main(what, number=0):
    """Do it until the test has seen enough; then say what it was."""
    threads = []
    if what == "count":
        threads = [start("worker %d" % i, count) for i in range(int(number))]
    elif what == "hash":
        threads = [start("worker %d" % i, digest, i) for i in range(int(number))]
    elif what == "convoy":
        threads = [start("hog", count), start("visitor", visit, noted.setdefault("visitor", []))]
    elif what == "plan":
        for name in number.split(","):
            plan = [(mean, state, make()) for mean, state, make in PLANS[name]]
            threads.append(start(name, keep, plan, noted.setdefault(name, [])))
    else:
        threads = [rest()]
    load_lab.tell("ready")
    load_lab.hold()
    load_lab.tell("begun", tids={t.name: t.native_id for t in threading.enumerate()})
    load_lab.hold()
    cease.set()
    for thread in threads:
        if isinstance(thread, threading.Thread):
            thread.join()
    load_lab.tell("done", noted={name: list(notes) for name, notes in noted.items()})
    load_lab.hold()
    os._exit(0)


main(*sys.argv[2:])
