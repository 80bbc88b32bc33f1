"""Compares which threads hold the GIL, by threadwatch, profilers and the program, in the same seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from benchmarks.observers import (
    PROFILER,
    Attach,
    Service,
    attach_profiler,
    attach_py_spy,
    new_mark,
    own_interpreter,
)
from benchmarks.report import Result, Table
from benchmarks.running import BenchmarkError, Daemon, watching
from tests import testbed
from tests.testbed import Interpreter

WHAT = """\
Three threads of a program ([benchmarks/service.py](../benchmarks/service.py), `weights`) want the GIL:
*python* computes in Python all the time, *half* computes and hashes by turns, *seldom* sleeps, and computes
for 2 ms. How the time in which one of them holds the GIL is shared among them is asked three times for
the same seconds: of threadwatch, whose daemon samples 100 times per second
(`threadwatch_gil_held_seconds_total`); of a profiler that is attached meanwhile; and of the program,
whose threads write down every some microseconds that they run Python code. (When the GIL goes
from one to another, the time that this takes counts for the one before.)

Behind ± is the standard error of a share with this many samples. The differences are in standard
errors: of two things that are the same, 95 % of differences are below 2, and 99.7 % below 3."""

_HELD = "threadwatch_gil_held_seconds_total"
_SAMPLES = "threadwatch_wait_samples_total"
_UNEVEN = 1 + 1 / 12
"""Samples are credited with the time between two, which is drawn from half to one and a half times the
period: that makes the variance of a share larger by the square of their relative spread."""
THREADS = ("python", "half", "seldom")


@dataclass(frozen=True, slots=True)
class Shares:
    """How the GIL was shared, by one observer."""

    shares: Mapping[str, float]
    """By thread; they add up to 1."""
    samples: float
    """As many independent samples as these say as much; infinite: measured, not sampled."""

    def error(self, thread: str) -> float:
        """Return the standard error of that thread's share."""
        share = self.shares[thread]
        return math.sqrt(share * (1 - share) / self.samples)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in the same seconds."""

    truth: Shares
    ours: Shares
    peers: Mapping[str, Shares]
    held: float
    """Return the share of all time in which a thread held the GIL, by threadwatch."""


def differ(one: Shares, other: Shares, thread: str) -> float:
    """Return how far two observers are apart about a thread, in standard errors of the difference."""
    error = math.hypot(one.error(thread), other.error(thread))
    return (one.shares[thread] - other.shares[thread]) / error


def run(*, full: bool) -> Result:
    """py-spy on the daemon's own CPython, and CPython's profiler on the one that has it."""
    seconds = 60 if full else 20
    missing: list[str] = []
    try:
        testbed.enter()
    except testbed.TestbedError as error:
        missing.append(str(error))
    interpreters = testbed.interpreters()
    own = own_interpreter(interpreters)
    runs: list[tuple[Interpreter, dict[str, Attach]]] = []
    spies: dict[str, Attach] = {}
    try:
        spies["py-spy"] = attach_py_spy(100, blocking=False)
        runs += [(own, dict(spies)), (own, {"py-spy, blocking": attach_py_spy(100, blocking=True)})]
    except BenchmarkError as error:
        missing.append(str(error))
    for one in interpreters:
        if one.version == PROFILER:
            profiler = attach_profiler(one, 100, blocking=False)
            runs.append((one, {"profiling.sampling": profiler, **spies}))
    if not any(one.version == PROFILER for one, _ in runs):
        missing.append(f"CPython's profiler: {testbed.how_to_get(PROFILER)}")
    seen = [(one, measure(one, attach, seconds)) for one, attach in runs]
    raw = {f"{', '.join(m.peers)}, CPython {one.release}": asdict(m) for one, m in seen}
    return Result("agreement", WHAT, (table(seen),), raw, tuple(missing))


def measure(interpreter: Interpreter, peers: Mapping[str, Attach], seconds: float) -> Seen:
    """Let a program be watched by threadwatch and by profilers for so long."""
    mark = new_mark()
    with (
        watching(rate=100, load=mark, itself=False) as daemon,
        Service(interpreter, "weights", mark) as service,
    ):
        _wait_for_threads(daemon)
        with ExitStack() as stack:
            attached = {n: stack.enter_context(attach(service.pid)) for n, attach in peers.items()}
            before, truth = daemon.metrics(), service.ask()
            time.sleep(seconds)
            after, truth_after = daemon.metrics(), service.ask()
            counts = {name: one.end() for name, one in attached.items()}
    tids = truth["tids"]  # some call a thread by its name, others by its TID
    seen = {
        peer: {name: found[name] + found[str(tids[name])] for name in THREADS}
        for peer, found in counts.items()
    }
    held = {name: after[_series(name)] - before.get(_series(name), 0) for name in THREADS}
    elapsed = (truth_after["time_ns"] - truth["time_ns"]) / 1e9
    samples = (after[_SAMPLES] - before[_SAMPLES]) * min(sum(held.values()) / elapsed, 1)
    return Seen(
        truth=_shares(
            {n: truth_after["held_ns"][n] - truth["held_ns"][n] for n in THREADS}, math.inf
        ),
        ours=_shares(held, samples / _UNEVEN),
        peers={name: _shares(found, sum(found.values())) for name, found in seen.items()},
        held=sum(held.values()) / elapsed,
    )


def _wait_for_threads(daemon: Daemon) -> None:
    """Until the daemon has sampled the program for a while."""
    end = time.monotonic() + 60
    while not all(daemon.metrics().get(_series(name)) for name in THREADS):
        if time.monotonic() > end:
            raise BenchmarkError("threadwatch does not see which thread holds the GIL")
        time.sleep(0.5)


def _series(thread: str) -> str:
    return f'{_HELD}{{group="load",thread="{thread}"}}'


def _shares(values: Mapping[str, float], samples: float) -> Shares:
    whole = sum(values.values())
    if not whole:
        raise BenchmarkError("an observer has seen no thread hold the GIL")
    return Shares({name: value / whole for name, value in values.items()}, samples)


def table(seen: Sequence[tuple[Interpreter, Seen]]) -> Table:
    """Return a row for each thread that a peer has seen."""
    rows = [
        (
            f"{name}, CPython {interpreter.release}: {thread}",
            f"{100 * found.truth.shares[thread]:.1f} %",
            _percent(found.ours, thread),
            _percent(peer, thread),
            f"{differ(found.ours, found.truth, thread):+.1f}",
            f"{differ(peer, found.truth, thread):+.1f}",
            f"{differ(found.ours, peer, thread):+.1f}",
            f"{found.ours.samples:,.0f} / {peer.samples:,.0f}",
        )
        for interpreter, found in seen
        for name, peer in found.peers.items()
        for thread in THREADS
    ]
    return Table(
        "shares of the GIL",
        (
            "peer and thread",
            "the program itself",
            "threadwatch",
            "the peer",
            "threadwatch less program, in standard errors",
            "peer less program",
            "threadwatch less peer",
            "samples",
        ),
        tuple(rows),
        tuple(
            f"Beside {', '.join(found.peers)} on {interpreter.release}, a thread held the GIL for"
            f" {100 * found.held:.1f} % of the time, by threadwatch."
            for interpreter, found in seen
        ),
    )


def _percent(shares: Shares, thread: str) -> str:
    return f"{100 * shares.shares[thread]:.1f} ± {100 * shares.error(thread):.1f} %"
