"""The property that all accounting is for, held against real processes of every interpreter at once.

For any mixture of threads that are born, named, renamed, visit from C, fork, exec and end: the sum over
threads is the group's CPU time, that is the kernel's, and started less ended is the number that live.

``python -m tests.mixture [MINUTES [SEED]]`` goes on for so long, each round by another seed.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests import natives, testbed
from tests.books import cpu_by_name, threads_ns
from tests.harness import DEADLINE
from tests.loads import Load, Watch
from threadwatch.model.readings import NS_PER_TICK

INEXACT = 0.001
"""How much of the CPU time may be missing or too much: what is in no clock that can be read in the end."""
ENDED_NS = 2 * NS_PER_TICK
"""The same, of children that have ended: the kernel gives it in ticks, of user and of system time."""
ROUND_SECONDS = 20.0


def run(seed: int, seconds: float) -> list[str]:
    """Return one round: a plan for each interpreter, polled at random times; gives a line about each.

    Raises AssertionError where the property does not hold; says the seed.
    """
    chance = random.Random(seed)
    pairs: list[tuple[Watch, Load]] = []
    with tempfile.TemporaryDirectory() as directory:
        library = natives.visitors(Path(directory))
        try:
            for interpreter in testbed.interpreters():
                watch = Watch()
                # a thread that calls exec waits for the others to end, on a busy machine for long
                watch.tolerated = frozenset({"timeout"})
                plan = (str(library), str(chance.randrange(1 << 30)), str(seconds))
                load = Load(interpreter, "load_mixture.py", watch.mark, *plan)
                pairs.append((watch, load))
            for watch, load in pairs:
                watch.meet(load)
            talking = list(pairs)
            deadline = time.monotonic() + seconds + 2 * DEADLINE
            while talking:
                assert time.monotonic() < deadline, [load.complaint("hangs") for _, load in talking]
                watch, load = pair = chance.choice(talking)
                watch.poll()
                assert load.process.poll() is None, load.complaint("ended")
                if load.has_spoken(chance.choice((0.0, 0.01, 0.1)) * chance.random()):
                    talking.remove(pair)
            return [_check(watch, load) for watch, load in pairs]
        except AssertionError as error:
            error.add_note(f"seed {seed}: python -m tests.mixture 1 {seed}")
            raise
        finally:
            for watch, load in pairs:
                watch.close()
                load.close()


def _check(watch: Watch, load: Load) -> str:
    said = load.hear("done")
    pids, ended_ns = said["pids"], said["ended_ns"]
    watch.poll_until(
        lambda: watch.group.processes == len(pids), "the processes that have ended to go"
    )
    watch.settle()
    # a thread without a name is given some time to publish one
    watch.poll_until(partial(_is_charged, watch), "the last threads to be charged")
    group = watch.group
    what = f"{load}: {cpu_by_name(group)}"
    kernel_ns = sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) + ended_ns
    beyond_ns = group.cpu_ns - kernel_ns
    allowed_ns = round(kernel_ns * INEXACT) + (ENDED_NS if ended_ns else 0)
    assert abs(beyond_ns) <= allowed_ns, (beyond_ns, allowed_ns, kernel_ns, what)
    started, ended = (
        sum(getattr(totals, field) for totals in group.series.values())
        for field in ("started", "ended")
    )
    living = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)
    assert started - ended == living, (started, ended, living, what)
    return (
        f"{load}: {len(pids)} processes, {started} threads, {kernel_ns / 1e9:.2f} s, of it "
        f"{ended_ns / 1e9:.2f} s in ended children; beyond: {beyond_ns / 1e6:+.3f} ms, "
        f"{len(watch.views)} polls"
    )


def _is_charged(watch: Watch) -> bool:
    return threads_ns(watch.group) == watch.group.cpu_ns


def main(minutes: float = 10.0, seed: int | None = None) -> None:
    """Go on for this many minutes."""
    testbed.enter()
    print(testbed.matrix(), flush=True)
    end = time.monotonic() + minutes * 60
    number = 0
    while not number or time.monotonic() < end:
        chosen = random.randrange(1 << 30) if seed is None else seed + number
        number += 1
        print(f"round {number}, seed {chosen}", flush=True)
        for line in run(chosen, ROUND_SECONDS):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 10.0,
        int(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
