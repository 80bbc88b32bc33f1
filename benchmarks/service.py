"""Programs whose threads count their work, which observers must not slow down, and their time with the GIL.

Run as a program, by any Python from 3.9 on. It publishes, starts its threads, and prints a line of JSON;
then it answers every line of standard input with another: ``time_ns`` (CLOCK_MONOTONIC), ``cpu_ns`` of the
process, ``work`` (units done so far, by kind), ``held_ns`` and ``tids`` (by thread). It lives until its
input ends.

``compute``: four threads that compute in Python, and twenty that wait for a descriptor for some
milliseconds, again and again. ``requests``: four clients that put requests into a queue and wait for the
answers of eight workers. ``weights``: three threads that hold the GIL to different shares, and write down
which one holds it: only the holder can run Python code. So a thread that comes to write, and finds its own
entry as the last one, has held the GIL meanwhile, whether it ran or not; if the last entry is another's, that
thread has.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import select
import sys
import threading
import time
from collections.abc import Callable

import threadwatch

_WORK: dict[str, list[int]] = {}
"""Units of work by kind, and in it one number for each thread, which no other thread writes."""
_NOBODY = ""
_HELD: dict[str, int] = {_NOBODY: 0}
"""Nanoseconds by thread."""
_last, _last_ns = _NOBODY, time.monotonic_ns()
"""The thread that has written last, and when."""


def main(program: str) -> None:
    """Start it, and answer until there are no more questions."""
    threadwatch.publish()
    started = {"compute": _compute, "requests": _requests, "weights": _weights}[program]
    for name, body in started().items():
        threading.Thread(target=body, name=name, daemon=True).start()
    _say()
    for _ in sys.stdin:
        _say()
    os._exit(0)  # the others never end


def _say() -> None:
    work = {kind: sum(numbers) for kind, numbers in _WORK.items()}
    said = {"time_ns": time.monotonic_ns(), "cpu_ns": time.process_time_ns()}
    tids = {thread.name: thread.native_id for thread in threading.enumerate()}
    others = {"pid": os.getpid(), "tids": tids, "work": work, "held_ns": _HELD}
    print(json.dumps({**said, **others}), flush=True)


def _chunk() -> None:
    """Run Python code for a few tenths of a millisecond."""
    for _ in range(200):
        sum(range(100))


def _counter(kind: str, body: Callable[[], object]) -> Callable[[], None]:
    """Return a thread that does this for ever, and counts."""
    numbers = _WORK.setdefault(kind, [])
    mine = len(numbers)
    numbers.append(0)

    def run() -> None:
        while True:
            body()
            numbers[mine] += 1

    return run


def _compute() -> dict[str, Callable[[], None]]:
    threads = {f"compute-{i}": _counter("chunks computed", _chunk) for i in range(4)}
    for i in range(20):
        threads[f"wait-{i}"] = _counter("waits", _wait)
    return threads


_NEVER_READY = os.pipe()[0]


def _wait() -> None:
    select.select([_NEVER_READY], [], [], random.uniform(0.002, 0.01))


def _requests() -> dict[str, Callable[[], None]]:
    requests: queue.Queue[tuple[int, queue.SimpleQueue[int]]] = queue.Queue()

    def serve() -> None:
        while True:
            number, answer = requests.get()
            _chunk()
            answer.put(number)

    def client() -> Callable[[], object]:
        answer: queue.SimpleQueue[int] = queue.SimpleQueue()

        def ask() -> int:
            requests.put((1, answer))
            return answer.get()

        return ask

    threads = {f"client-{i}": _counter("requests", client()) for i in range(4)}
    return {**{f"worker-{i}": serve for i in range(8)}, **threads}


def _write(following: str) -> bool:
    """Credit the thread that has written last with the time since then; the named one is next.

    False: this has not been done, because another thread has written while this one looked at the clock. The
    GIL can change hands when a call returns, but not between the statements that follow (CPython 3.11
    and later).
    """
    global _last, _last_ns  # noqa: PLW0603  # calls would let others in
    now_ns = time.monotonic_ns()
    if now_ns < _last_ns:
        return False
    _HELD[_last] += now_ns - _last_ns
    _last = following
    _last_ns = now_ns
    return True


def _weights() -> dict[str, Callable[[], None]]:
    buffer = bytes(1 << 24)

    def compute(name: str, seconds: float) -> None:
        """Hold the GIL, or want it, until this thread has had this much CPU time."""
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            for _ in range(20):
                sum(range(1000))
                _write(name)

    def python() -> None:
        while True:
            compute("python", 1)

    def half() -> None:
        while True:
            compute("half", random.uniform(0.005, 0.015))
            while not _write(_NOBODY):
                pass
            hashlib.sha256(buffer).digest()

    def seldom() -> None:
        while True:
            compute("seldom", 0.002)
            while not _write(_NOBODY):
                pass
            time.sleep(random.uniform(0.01, 0.03))

    threads = {"python": python, "half": half, "seldom": seldom}
    _HELD.update(dict.fromkeys(threads, 0))
    return threads


if __name__ == "__main__":
    main(sys.argv[1])
