"""A load generator: real processes with real threads that sleep, wake or come and go by a plan.

Run as a program, by any Python from 3.9 on. The first process forks the others before it starts
threads of its own, so that they share memory and a thousand of them fit on a small machine. When all
threads run it prints one line of JSON, ``{"pids": […], "threads": N}``, and it lives until its
standard input ends.

Four kinds of threads: *sleeping* ones wait for a lock that is never released, and never run again;
*active* ones wake every ``--period`` seconds (or at random, up to ``--longest``) and work for ``--work``
seconds of CPU (``--seldom`` of them wake only every 1 to 5 s); *busy* ones compute in Python all
the time; *short* ones are started by ``--spawners`` threads, ``--churn`` per second in all, work for
``--work`` seconds and end.
Threads are named after ``--roles`` roles in turn, ``role-03_17``, as pools name theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import threading
import time

_STACK = 64 * 1024
"""Bytes of stack per thread: as little as the C library and Python can do with."""
_SELDOM = (1.0, 5.0)
"""Seconds, at least and at most, from one time that a thread wakes seldom to the next."""


def main() -> None:
    """Start everything, say so, and wait to be told to end."""
    options = _options()
    threading.stack_size(_STACK)
    ready, started = os.pipe()
    number = 0
    pids = [os.getpid()]
    for other in range(1, options.processes):
        pid = os.fork()
        if pid == 0:
            number, pids = other, []
            break
        pids.append(pid)
    try:
        _start_threads(options, number)
    except RuntimeError as error:
        print(f"load: process {number}: {error}", file=sys.stderr)
        os.write(started, b"!")
    else:
        os.write(started, b".")
    if not number:
        for _ in range(options.processes):
            if os.read(ready, 1) != b".":
                os._exit(1)  # the others end with their standard input
        print(json.dumps({"pids": pids, "threads": _threads(options)}), flush=True)
    while os.read(0, 1):
        pass
    for pid in pids[1:]:
        os.waitpid(pid, 0)
    os._exit(0)  # threads that sleep for ever cannot be joined


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="per process, beside the main one")
    parser.add_argument("--active", type=int, default=0, help="in all processes together")
    parser.add_argument(
        "--active-processes", type=int, default=1, help="that the active ones are in"
    )
    parser.add_argument("--seldom", type=int, default=0, help="of the active ones")
    parser.add_argument("--period", type=float, default=0.2)
    parser.add_argument("--longest", type=float, default=0.0, help="0: always the period")
    parser.add_argument("--work", type=float, default=0.0)
    parser.add_argument("--busy", type=int, default=0, help="per process, beside the others")
    parser.add_argument("--churn", type=float, default=0.0, help="per process and second")
    parser.add_argument("--spawners", type=int, default=20, help="threads that start short ones")
    parser.add_argument("--roles", type=int, default=20)
    return parser.parse_args()


def _threads(options: argparse.Namespace) -> int:
    spawners = options.spawners if options.churn else 0
    return int(options.processes * (1 + options.threads + options.busy + spawners))


def _share(options: argparse.Namespace, number: int, count: int) -> int:
    """Return how many of ``count`` threads are in this process: the first processes share them evenly."""
    if number >= options.active_processes:
        return 0
    share, rest = divmod(count, options.active_processes)
    return int(share + (number < rest))


def _start_threads(options: argparse.Namespace, number: int) -> None:
    gate = threading.Lock()
    gate.acquire()
    active = _share(options, number, options.active)
    seldom = _share(options, number, options.seldom)
    for index in range(options.threads):
        name = f"role-{index % options.roles:02d}_{index // options.roles}"
        if index < active:
            often = options.period, max(options.longest, options.period)
            times = _SELDOM if index < seldom else often
            threading.Thread(
                target=_be_active, args=(*times, options.work), name=name, daemon=True
            ).start()
        else:
            threading.Thread(target=gate.acquire, name=name, daemon=True).start()
    for index in range(options.busy):
        threading.Thread(target=_work, args=(math.inf,), name=f"busy-{index}", daemon=True).start()
    if options.churn:
        for index in range(options.spawners):
            arguments = (options.churn / options.spawners, options.work, options.roles)
            name = f"spawner-{index}"
            threading.Thread(target=_spawn, args=arguments, name=name, daemon=True).start()


def _be_active(period: float, longest: float, work: float) -> None:
    time.sleep(random.random() * period)
    while True:
        time.sleep(random.uniform(period, longest))
        _work(work)


def _work(seconds: float) -> None:
    if seconds:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass


def _spawn(rate: float, work: float, roles: int) -> None:
    """Start ``rate`` threads per second, one after another; never in a hurry to catch up."""
    due = time.monotonic() + random.random() / rate
    number = 0
    while True:
        time.sleep(max(due - time.monotonic(), 0))
        due = max(due + 1 / rate, time.monotonic() - 1 / rate)
        name = f"request-{number % roles:02d}_{number}"
        number += 1
        thread = threading.Thread(target=_work, args=(work,), name=name, daemon=True)
        thread.start()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]  # None is success
