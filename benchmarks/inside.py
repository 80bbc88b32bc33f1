"""What is measured inside an application that publishes: ``python -m benchmarks.inside WHAT [NUMBER…]``.

Runs on every interpreter that can publish, so on CPython 3.9 and later, and prints one line of JSON.

With and without a publisher are compared in one process, by switching it on and off in turn, as pairs
(off, on; on, off; …): two processes differ by more than what is to be measured. What
switching itself costs is not in the figures; neither are the first threads after it.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable

import threadwatch
from threadwatch.publisher import publisher

Samples = dict[str, dict[str, list[float]]]
"""By "with" and "without", then by what was measured: one value per pair."""

_WARM_UP = 20


def _pairs(pairs: int, measure: Callable[[], dict[str, float]]) -> Samples:
    """Return ``measure`` with and without the publisher, in turn."""
    samples: Samples = {"with": {}, "without": {}}
    for pair in range(pairs):
        for publishing in (True, False) if pair % 2 else (False, True):
            if publishing:
                assert threadwatch.publish()
            else:
                threadwatch.unpublish()
            found = samples["with" if publishing else "without"]
            for key, value in measure().items():
                found.setdefault(key, []).append(value)
    threadwatch.unpublish()
    return samples


def starts(pairs: int, batch: int, neighbours: int) -> Samples:
    """Per thread that is started and joined: CPU and real time, and context switches of the process.

    ``neighbours`` threads want the GIL all the time.
    """
    for _ in range(neighbours):
        threading.Thread(target=_spin, daemon=True).start()

    def measure() -> dict[str, float]:
        _start_and_join(_WARM_UP // (1 + 9 * neighbours))
        before = resource.getrusage(resource.RUSAGE_SELF)
        cpu, real = time.process_time_ns(), time.perf_counter_ns()
        _start_and_join(batch)
        cpu, real = time.process_time_ns() - cpu, time.perf_counter_ns() - real
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_us": cpu / batch / 1e3,
            "real_us": real / batch / 1e3,
            "voluntary": (after.ru_nvcsw - before.ru_nvcsw) / batch,
            "involuntary": (after.ru_nivcsw - before.ru_nivcsw) / batch,
        }

    return _pairs(pairs, measure)


def _start_and_join(count: int) -> None:
    for _ in range(count):
        thread = threading.Thread(target=_nothing)
        thread.start()
        thread.join()


def _nothing() -> None:
    pass


def _spin() -> None:
    while True:
        pass


class _Newborn:
    """What the publisher sees of a thread that starts: this one, as if it were another."""

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._native_id = threading.get_native_id()
        self._name = "newborn"


def hooks(batches: int, batch: int) -> dict[str, list[float]]:
    """Per thread: what the publisher does at its birth and at its death, called in a loop."""
    assert threadwatch.publish()
    acting = publisher._publisher
    now = time.perf_counter_ns

    def do_nothing(_thread: object) -> None:
        acting._guards.guard = None

    def loop(born: Callable[[object], None]) -> tuple[float, float, float]:
        """Median real time of a birth and of a death, and CPU time of both with the loop."""
        births, deaths = [], []
        cpu = time.thread_time_ns()
        for number in range(batch):
            thread = _Newborn()
            thread._name = f"Thread-{number} (work)"
            began = now()
            born(thread)
            middle = now()
            del acting._guards.guard  # as the thread's end does
            births.append(middle - began)
            deaths.append(now() - middle)
        cpu = time.thread_time_ns() - cpu
        return statistics.median(births) / 1e3, statistics.median(deaths) / 1e3, cpu / batch / 1e3

    found: dict[str, list[float]] = {"birth_us": [], "death_us": [], "both_cpu_us": []}
    for _ in range(batches):
        bare = loop(do_nothing)
        for key, value, without in zip(found, loop(acting.started), bare):  # noqa: B905  # not on 3.9
            found[key].append(value - without)
    return found


def handovers(count: int) -> dict[str, int]:
    """Return in how many of ``count`` births and deaths a thread that waits for the GIL gets it.

    No thread is made to give up the GIL meanwhile (the switch interval is a thousand seconds), so
    the waiter can get it only where it is released. ``control`` calls fstat instead, which releases
    it once, too briefly for most attempts to succeed; ``nothing`` does nothing.
    """
    assert threadwatch.publish()
    acting = publisher._publisher
    thread = _Newborn()
    taken = 0

    def want() -> None:
        nonlocal taken
        while True:
            taken += 1
            time.sleep(0)

    def birth_and_death() -> None:
        acting.started(thread)
        del acting._guards.guard

    birth_and_death()  # the first finds the main thread's own entry
    sys.setswitchinterval(1000)
    threading.Thread(target=want, daemon=True).start()
    found = {}
    steps: dict[str, Callable[[], object]] = {
        "nothing": _nothing,
        "hooks": birth_and_death,
        "control": lambda: os.fstat(1),
    }
    for name, step in steps.items():
        time.sleep(0.01)
        found[name] = 0
        for _ in range(count):
            before = taken
            step()
            found[name] += taken != before
    return found


def renames(pairs: int, batch: int) -> Samples:
    """Per new name of a living thread: CPU time."""
    gate = threading.Lock()
    gate.acquire()
    thread = threading.Thread(target=gate.acquire, daemon=True)
    threadwatch.publish()  # so that it is guarded as any other
    thread.start()
    names = ["worker for customer %d" % number for number in range(batch)]  # noqa: UP031  # dear in the loop alone

    def measure() -> dict[str, float]:
        began = time.thread_time_ns()
        for name in names:
            thread.name = name
        return {"cpu_us": (time.thread_time_ns() - began) / batch / 1e3}

    return _pairs(pairs, measure)


def forks(pairs: int, batch: int) -> Samples:
    """Per fork of a child that ends at once: real time, and the CPU time of both."""

    def measure() -> dict[str, float]:
        children = 0.0
        cpu, real = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(batch):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            _, _, usage = os.wait4(pid, 0)
            children += usage.ru_utime + usage.ru_stime
        cpu, real = time.process_time_ns() - cpu, time.perf_counter_ns() - real
        return {
            "parent_us": cpu / batch / 1e3,
            "child_us": children / batch * 1e6,
            "real_us": real / batch / 1e3,
        }

    return _pairs(pairs, measure)


def rest(threads: int, publishing: int) -> dict[str, int]:
    """Threads that sleep until standard input ends; measured from outside."""
    if publishing:
        assert threadwatch.publish()
    gate = threading.Lock()
    gate.acquire()
    for _ in range(threads):
        threading.Thread(target=gate.acquire, daemon=True).start()
    print(json.dumps({"pid": os.getpid()}), flush=True)
    sys.stdin.read()
    return {}


def main() -> None:
    """Measure what the first argument names."""
    known = {
        function.__name__: function for function in (starts, hooks, handovers, renames, forks, rest)
    }
    found = known[sys.argv[1]](*map(int, sys.argv[2:]))
    print(json.dumps(found), flush=True)
    os._exit(0)  # threads that spin or sleep for ever cannot be joined


if __name__ == "__main__":
    main()
