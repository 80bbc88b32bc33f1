"""What threads wait for, as a poller has it, against what they measure of themselves and the kernel's clocks.

How much a sampled share may be off: 3 standard errors of as many samples as there were. Where each of many
threads is held against that, and what it does lasts no longer than the time between two samples, 4.5: chance
exceeds that in one of 150,000. What comes on top is said where it is used.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import testbed
from tests.harness import DEADLINE
from tests.integration.sampling import promptly
from tests.loads import Load, Watch
from tests.testbed import Interpreter
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import SeriesTotals, View

RATE = 100
"""Samples per second: as many as there can be, so that few seconds are enough."""
POLL = 0.2
"""Seconds between two polls."""
CLOCKS = ("running", "runnable")


@dataclass(frozen=True, slots=True)
class Window:
    """What has come to pass between two views."""

    before: View
    after: View
    owed: Mapping[int, Mapping[SeriesKey, Mapping[str, int]]]
    """By view: what is to be taken from each state of a series, once it has so much that was not shown."""

    @property
    def elapsed_ns(self) -> int:
        """Return how long it was."""
        return self.after.monotonic_ns - self.before.monotonic_ns

    @property
    def samples(self) -> float:
        """Return the number of equal samples that would say as much. Their distances vary from 1/2 to 3/2."""
        processes = len(self.after.processes)
        taken = self.after.stats.samples - self.before.stats.samples
        return taken / processes / (1 + 1 / 12)

    def error(self, share: float) -> float:
        """Return the standard error of a share that was sampled."""
        return math.sqrt(max(share * (1 - share), 0) / self.samples)

    def states(self, load: Load, name: str) -> dict[str, float]:
        """Return the share of its time that a thread spent in each state; together they are 1.

        That is what is shown, less what has been shown too early: the kernel counts the time without a CPU
        when it is over, and until then the thread seems to wait on. What was shown is not taken back,
        but from what is shown next.
        """
        spent: Counter[str] = Counter()
        for view, sign in ((self.after, 1), (self.before, -1)):
            for state, passed in self.totals(view, load, name).states.items():
                spent[state] += sign * passed.at(view.monotonic_ns)
            for state, ns in self.owed[view.sequence].get(SeriesKey(name, load.pid), {}).items():
                spent[state] -= sign * ns
        assert sum(spent.values()) == self.elapsed_ns
        return {state: ns / self.elapsed_ns for state, ns in spent.items() if ns}

    def held(self, load: Load, name: str) -> float:
        """Return the share of the time that a thread held the GIL."""
        old, new = (self.totals(view, load, name) for view in (self.before, self.after))
        assert old.gil_held_ns is not None
        assert new.gil_held_ns is not None
        return (new.gil_held_ns - old.gil_held_ns) / self.elapsed_ns

    def noted(self, said: Mapping[str, Any], name: str) -> dict[str, float]:
        """Return the share of the time that a thread says that it spent in each state.

        What it ran or was ready to run meanwhile is left out where it says that, too: a wait can end long
        before its thread gets a CPU.
        """
        shares: dict[str, float] = {}
        for state, began, ended, clocks in said["noted"][name]:
            end = self.after.monotonic_ns if ended is None else ended
            inside = min(end, self.after.monotonic_ns) - max(began, self.before.monotonic_ns)
            if inside > 0:
                ns = inside * (1 - clocks / (end - began))
                shares[state] = shares.get(state, 0.0) + ns / self.elapsed_ns
        return shares

    @staticmethod
    def totals(view: View, load: Load, name: str) -> SeriesTotals:
        """Return what a view has of a thread."""
        (group,) = view.groups
        return group.series[SeriesKey(name, load.pid)]


class Lab:
    """Loads, and the poller that watches them as a daemon would."""

    def __init__(self, stack: ExitStack, rate: int = RATE, **settings: Any) -> None:
        self.stack = stack
        self.watch = Watch(waits={"rate": rate}, threads={"per": "process"}, **settings)
        self.stack.callback(self.watch.close)
        self.loads: list[Load] = []
        self.owed: dict[int, dict[SeriesKey, dict[str, int]]] = {}

    def start(self, interpreter: Interpreter, *arguments: str, **options: Any) -> Load:
        """Start a load."""
        load = Load(interpreter, "load_states.py", self.watch.mark, *arguments, **options)
        self.stack.callback(load.close)
        self.loads.append(load)
        return load

    def begin(self) -> None:
        """Wait until all are known, and let them go on."""
        for load in self.loads:
            self.watch.meet(load)
            self.tids = load.hear("begun")["tids"]

    def follow(self, seconds: float) -> View:
        """Poll and sample for so long; gives the last view."""
        end = time.monotonic() + seconds
        first = True
        while first or time.monotonic() < end:
            first = False
            self.watch.poller.sample_for(POLL)
            self.poll()
        return self.watch.views[-1]

    def poll(self) -> View:
        """Poll, and remember what is owed."""
        view = self.watch.poll()
        (group,) = self.watch.poller._account._groups.values()
        self.owed[view.sequence] = {key: dict(s.corrections) for key, s in group.series.items()}
        return view

    def follow_until(self, condition: Callable[[View], bool], why: str) -> View:
        """Poll and sample until something shows."""
        deadline = time.monotonic() + DEADLINE
        while not condition(view := self.follow(0)):
            assert time.monotonic() < deadline, f"never: {why}; {self.watch.group}"
        return view

    def window(self, seconds: float) -> Window:
        """Return what is seen in this many seconds, after half a second to find out which threads run."""
        before = self.follow(0.5)
        return Window(before, self.follow(seconds), self.owed)

    def end(self) -> list[dict[str, Any]]:
        """Return what the loads have to say."""
        for load in self.loads:
            load.go()
        return [load.hear("done") for load in self.loads]


def clocks_of(pid: int) -> dict[str, tuple[int, int]]:
    """CPU time and time without a CPU, in ns, of threads that are called "worker 0" and so on.

    They were started in this order.
    """
    tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))[1:]
    found = {}
    for number, tid in enumerate(tids):
        cpu, runqueue, _ = Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()
        found[f"worker {number}"] = int(cpu), int(runqueue)
    return found


def have_run(load: Load) -> bool:
    """Return whether each worker has computed for some ms."""
    return all(cpu_ns > 10_000_000 for cpu_ns, _ in clocks_of(load.pid).values())


@contextmanager
def lab(**settings: Any) -> Iterator[Lab]:
    """Loads and a poller, which samples when it has chosen to and not when a CPU is free."""
    with ExitStack() as stack:
        yield Lab(stack, **settings)


def test_threads_that_share_the_gil(interpreter: Interpreter) -> None:
    """Of N threads that only compute, each runs, is ready to, or waits for the GIL, and one always holds it.

    The truth is the kernel's: schedstat, read before and after the polls. To wait for the GIL is
    all that such a thread does beside, so that share has no sampling error; it is off by a tick of
    the scheduler. The holder of the GIL is sampled. A running thread holds it, but for the moments
    in which a waiter wakes up to ask for it.
    """
    with lab() as it:
        loads = {count: it.start(interpreter, "count", str(count)) for count in (2, 4)}
        with promptly():
            it.begin()
            # Time without a CPU that began before would be taken from "sleeping", in which they began.
            it.follow_until(lambda _: all(map(have_run, it.loads)), "all workers to have run")
            it.follow(0.5)
            clocks, views = [], []
            for seconds in (1.5, 0):
                clocks.append({load.pid: clocks_of(load.pid) for load in it.loads})
                views.append(it.poll())
                clocks.append({load.pid: clocks_of(load.pid) for load in it.loads})
                if seconds:
                    it.follow(seconds)
            window = Window(views[0], views[1], it.owed)
        it.end()
    for count, load in loads.items():
        ran = held = 0.0
        for name in (f"worker {number}" for number in range(count)):
            states = window.states(load, name)
            busy = sum(states.get(state, 0) for state in CLOCKS)
            least, most = (
                sum(clocks[last][load.pid][name]) - sum(clocks[first][load.pid][name])
                for first, last in ((1, 2), (0, 3))
            )
            print(f"{count}: {name}: {states}, held {window.held(load, name):.3f}")
            waited = states.get("gil", 0)
            assert waited == pytest.approx(1 - busy, abs=0.02)
            assert waited < 1 - least / window.elapsed_ns + 0.02
            assert waited > 1 - most / window.elapsed_ns - 0.02
            assert window.held(load, name) < busy + 4.5 * window.error(busy) + 0.01
            ran += states["running"]
            held += window.held(load, name)
        ran = min(ran, 0.99)
        assert ran - 0.02 - 4.5 * window.error(ran) < held < 1.01


def test_the_convoy() -> None:
    """What a thread that wakes often loses to one that computes is what it measures itself.

    It knows when it wanted to go on and when it could. Of that, the kernel says how long it ran and was ready
    to; the rest was the wait for the GIL, and that the timer is late, by 50 µs unless told otherwise.
    """
    with lab() as it:
        for version in testbed.MATRIX:
            it.start(testbed.require(*version), "convoy")
        with promptly():
            it.begin()
            window = it.window(3.0)
        told = it.end()
    for load, said in zip(it.loads, told, strict=True):
        states = window.states(load, "visitor")
        noted = window.noted(said, "visitor")
        cycles = len([1 for what, *_ in said["noted"]["visitor"] if what == "wake"])
        truth = noted["wake"] + noted["work"] - sum(states.get(state, 0) for state in CLOCKS)
        print(f"{load.interpreter}: {states}, {cycles} cycles, by its own measure {truth:.4f}")
        assert truth > 0.05
        assert states["gil"] == pytest.approx(
            truth, abs=4.5 * window.error(truth) + observed(window)
        )
        assert window.held(load, "visitor") < 0.1
        assert window.held(load, "hog") > 0.8


def observed(window: Window) -> float:
    """Return the share of the time in which samples are taken: a thread that wakes up then does not run."""
    before, after = window.before.stats, window.after.stats
    return (after.sample_cpu_ns - before.sample_cpu_ns) / window.elapsed_ns


@pytest.mark.parametrize("version", [(3, 9), (3, 15)])
def test_threads_that_do_without_the_gil(version: tuple[int, int]) -> None:
    """Threads that hash and compress run side by side, if there are CPUs, and hardly wait for the GIL."""
    with lab() as it:
        load = it.start(testbed.require(*version), "hash", "2")
        with promptly():
            it.begin()
            window = it.window(1.5)
        it.end()
    most = 0.05 + 4.5 * window.error(0.05)
    ran = 0.0
    for name in ("worker 0", "worker 1"):
        states = window.states(load, name)
        print(f"{name}: {states}, held {window.held(load, name):.3f}")
        assert states.get("gil", 0) < most
        assert window.held(load, name) < most
        # a wait for a CPU is counted when it is over; until then its kind is unknown
        ran += sum(states.get(state, 0) for state in ("running", "runnable", "sleeping"))
    # what they did not run side by side for want of the GIL would be missing here
    assert ran > 2 - 2 * most


def test_waits_by_a_plan() -> None:
    """Threads that wait for two or three things by turns, for random times, are in each as long as they say.

    They wait for longer than the time between two samples, so the error is well below the bound.
    """
    plans = "receiver,acceptor,locker,consumer,looper,parent"
    with lab() as it:
        for version in testbed.MATRIX:
            it.start(testbed.require(*version), "plan", plans)
        with promptly():
            it.begin()
            window = it.window(3.0)
        told = it.end()
    wrong = []
    for load, said in zip(it.loads, told, strict=True):
        for name in said["noted"]:
            states, noted = window.states(load, name), window.noted(said, name)
            start = noted.pop("start", 0)  # of a child, for which its parent may have to wait
            for state, truth in noted.items():
                off = states.get(state, 0) - truth
                bound = 3 * window.error(truth) + observed(window)
                print(f"{load.interpreter} {name}: {state} {truth:.4f} {off:+.4f} of {bound:.4f}")
                if not -bound <= off <= bound + (start if state == "child" else 0):
                    wrong.append((str(load.interpreter), name, state, truth, off, bound))
    assert not wrong


def test_files_that_are_brought_to_the_disk() -> None:
    """To write and sync is ``file`` or ``disk``, as the kernel has it, but for the time on the clocks.

    Such a thread is woken hundreds of times a second. From then until it is in a run queue it counts as
    running, but on no clock: if an idle CPU has to be told, in a virtual machine, that takes up to 0.1 ms.
    """
    with lab() as it:
        load = it.start(testbed.require(3, 12), "plan", "saver")
        with promptly():
            it.begin()
            window = it.window(3.0)
        (said,) = it.end()
    states, noted = window.states(load, "saver"), window.noted(said, "saver")
    waited, slept = noted["file"], noted["sleep"]
    print(f"{states}, by its own measure {noted}")
    slices = [
        window.totals(v, load, "saver").timeslices or 0 for v in (window.before, window.after)
    ]
    waking = (slices[1] - slices[0]) * 1e5 / window.elapsed_ns
    seen = states.get("file", 0) + states.get("disk", 0)
    off = 3 * window.error(waited) + observed(window)
    print(f"{seen - waited:+.4f}: {off:.4f} and {waking:.4f} for waking up")
    assert waited - off - waking < seen < waited + off
    off = 3 * window.error(slept) + observed(window)
    assert slept - off < states["sleep"] < slept + off + waking


def test_a_stopped_process() -> None:
    """While a process is stopped, its threads' time is ``stopped``; then it goes on where they wait."""
    right = {
        "sleeper": {"sleep"},
        "receiver": {"socket"},
        "locker": {"lock"},
        "looper": {"sleep", "gil", "running", "runnable"},
        "worker": {"gil", "running", "runnable"},
        "MainThread": {"pipe"},
    }

    def in_place(view: View) -> bool:
        (process,) = view.processes
        return all(thread.state in right[thread.name] for thread in process.threads)

    with lab(rate=50) as it, ExitStack() as priority:
        load = it.start(testbed.require(3, 13), "rest")
        priority.enter_context(promptly())
        it.begin()
        for _ in range(2):
            it.follow_until(in_place, "where they wait")
            window = it.window(0.5)
            for name, possible in right.items():
                states = window.states(load, name)
                if name == "worker":  # never seen to wait: what its clocks are behind has no reason
                    states.pop("sleeping", None)
                assert states.keys() <= possible, name
            os.kill(load.pid, signal.SIGSTOP)

            def is_stopped(view: View) -> bool:
                (process,) = view.processes
                return {thread.state for thread in process.threads} == {"stopped"}

            it.follow_until(is_stopped, "stopped")
            window = it.window(0.5)
            for name in right:
                assert window.states(load, name) == {"stopped": 1.0}, name
            os.kill(load.pid, signal.SIGCONT)
        it.follow_until(in_place, "where they wait, once more")
        it.end()


def test_a_random_schedule() -> None:
    """Whatever threads and processes do, no time in a state falls, and together it is what they lived.

    Between two polls that is the number of threads times the time. Threads that no poll saw have
    run beside.
    """
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    watch = Watch(waits={"rate": RATE})
    load = Load(testbed.require(3, 11), "load_random.py", watch.mark, str(seed), "4")
    try:
        with promptly():
            watch.meet(load)
            while not load.has_spoken():
                watch.poller.sample_for(chance.random() * chance.random())
                watch.poll()
        view = watch.views[-1]
        lived = sum(
            sum(sum(totals.now.values()) for totals in group.series.values())
            * (later.monotonic_ns - before.monotonic_ns)
            for before, later in pairwise(watch.views)
            for group in before.groups
        )
        shown = sum(
            passed.at(view.monotonic_ns)
            for totals in watch.group.series.values()
            for passed in totals.states.values()
        )
        (group,) = watch.poller._account._groups.values()
        owed = sum(sum(series.corrections.values()) for series in group.series.values())
        print(f"lived {lived / 1e9:.3f} s, shown {shown / 1e9:.3f} s, owed {owed / 1e9:.3f} s")
        # the time of processes that have ended goes on up to the moment in which that was seen
        assert -0.005 * lived <= shown - owed - lived <= watch.group.cpu_ns
        assert 0 <= owed <= 0.01 * lived
    finally:
        load.close()
        watch.close()
