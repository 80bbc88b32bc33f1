"""Programs that have a fault that an alert names, and programs that look like it: ``alerting.py NAME``.

Each runs until it is killed, or its standard input ends.
"""

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time


def start(name, target, *arguments):
    """Start a thread that does not keep the process."""
    threading.Thread(target=target, args=arguments, name=name, daemon=True).start()


def compute(seconds=None):
    """Hold the GIL, for some CPU time or for ever."""
    end = None if seconds is None else time.thread_time() + seconds
    while end is None or time.thread_time() < end:
        sum(range(200))


def now_and_then(work, rest):
    """Work a little, again and again."""
    while True:
        compute(work)
        time.sleep(rest)


def fresh():
    """Yield names that a program has made: each has a hex number of its own."""
    for number in itertools.count(1):
        yield "conn-%08x" % (number * 0x9E3779B1 % 2**32)


def keep_starting(names, per_second, most=None):
    """Start threads that never end."""
    for name in itertools.islice(names, most):
        start(name, time.sleep, 10_000)
        time.sleep(1 / per_second)


def burns():
    """Compute without a pause."""
    start("spinner", compute)


def busy_half():
    """Compute for half of the time."""
    start("half", now_and_then, 0.05, 0.05)


def saturated():
    """Have four threads compute, that share the GIL."""
    for number in range(4):
        start("worker_%d" % number, compute)


def releases():
    """Compute without the GIL, 60 % of the time, in a pool whose threads do not wait for each other."""

    def digest():
        data = bytes(4_000_000)
        while True:
            hashlib.sha256(data).digest()
            time.sleep(0.01)

    for number in range(2):
        start("digest_%d" % number, digest)


def convoy():
    """Have threads with little work beside one that computes."""
    start("report-builder", compute)
    for number in range(4):
        start("http_%d" % number, now_and_then, 0.0001, 0.01)


def polite():
    """Have the same small threads, beside one that computes in a process of its own."""
    for number in range(4):
        start("http_%d" % number, now_and_then, 0.0001, 0.01)
    child = [
        sys.executable,
        "-c",
        "import os\nwhile os.getppid() == %d: sum(range(200))" % os.getpid(),
    ]
    subprocess.Popen(child)


def leaks():
    """Start threads of one name."""
    start("conn_7", time.sleep, 10_000)
    start("leaker", keep_starting, itertools.repeat("conn_7"), 3)


def leaks_names():
    """Start threads with a name each."""
    start("leaker", keep_starting, fresh(), 3)


def fills():
    """Fill a pool, in less than a third of the time in which a leak shows."""
    start("conn_7", time.sleep, 10_000)
    time.sleep(40)
    start("filler", keep_starting, itertools.repeat("conn_7"), 10, 80)


def comes_and_goes():
    """Serve connections that have a name each, and end."""

    def serve():
        for name in itertools.cycle(itertools.islice(fresh(), 50)):
            start(name, time.sleep, 2)
            time.sleep(0.05)

    start("acceptor", serve)


def write():
    """Write to a file, on whatever is mounted at ALERTING_DISK."""
    with open(os.path.join(os.environ["ALERTING_DISK"], "file"), "wb", buffering=0) as file:
        while True:
            file.write(b"x")
            time.sleep(0.001)


def disk_stuck():
    """Write to a file system that has been frozen, as by a device that does not answer."""
    start("writer", write)


def disk_busy():
    """Write to one that is frozen for half of the time."""
    start("writer", write)


def too_many():
    """Have more names than the cap: a few short-lived threads in each second."""

    def serve():
        for number in itertools.count():
            start("request of %s" % "".join(chr(97 + int(d)) for d in str(number)), time.sleep, 0.3)
            time.sleep(0.05)

    start("acceptor", serve)


def few():
    """Do next to nothing."""
    start("reader", time.sleep, 10_000)


gone = script = few


def main():
    """Start what the argument names, and wait."""
    threading.Thread(target=globals()[sys.argv[1]], name="starter", daemon=True).start()
    while sys.stdin.read(1):
        pass


if __name__ == "__main__":
    main()
