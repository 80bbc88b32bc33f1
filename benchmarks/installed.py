"""What a daemon costs as it is installed: polls and samples by the default configuration, in all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks.estimate import estimate, ratios
from benchmarks.loops import Program
from benchmarks.peers import Peer, all_peers
from benchmarks.report import Result, Table, against
from benchmarks.running import Daemon, Load, process_clock_ns
from benchmarks.scenarios import PERIOD

WHAT = f"""\
A real `threadwatch serve` without a configuration: it polls every second, samples waits and looks at loops,
watches every Python process of the machine, this benchmark and itself included, and reads names from memory
where a process does not publish. CPU is what its process clock gains, read from outside. Nothing scrapes it
meanwhile.

The first half minute begins after the first poll, which has to read all threads once (see the
benchmark `poll`). The steady state is measured in windows of {{window:.0f}} s. Behind each window,
process-exporter (`-threads`) is scraped once, by its own process clock; the ratio is that of a scrape to a
second of the daemon, which polls once in it, of each window: their median, with its 95 % confidence interval.
What polls and samples cost of that is the daemon's own account of the same minutes; the rest is waking up,
making the view ready to be served, and what the kernel does in between.

Loads: *10 × 1,001, 27 active*: 10 processes of 1,001 threads; in 3 of them 3 threads wake 20 times a second,
and 6 every 1 to 5 s, and work for 0.1 ms. *200 × 6, 60 awake*: 200 processes of 6 threads; in 60 of them 5
threads wake every {PERIOD} s and work for 0.1 ms. *with 10 loops*: besides, in 10 more processes a task of
asyncio wakes ten times a second, and works for 0.2 ms."""

_WINDOW = 10.0
"""Seconds."""
_SETTLED = 45.0
"""Seconds from the first poll to the steady state, in which idle processes cost least."""
_FIRST = 30.0
_GOAL = 500
"""How many times less CPU than process-exporter."""

_ACTIVE = (
    *("--processes=10", "--threads=1000", "--active=27", "--active-processes=3"),
    *("--seldom=18", "--period=0.05", "--work=0.0001"),
)
_HOST = (
    *("--processes=200", "--threads=5", "--active=300", "--active-processes=60"),
    *(f"--period={PERIOD}", "--work=0.0001"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """A load, and what the daemon may cost under it, in ms of CPU per second."""

    name: str
    load: tuple[str, ...]
    published: bool
    steady_goal: float | None = None
    first_goal: float | None = None
    poll_goal: float | None = None
    loops: int = 0


HOSTS = (
    Host("10 × 1,001, 27 active", _ACTIVE, published=True, steady_goal=4, first_goal=6),
    Host("the same, not published", _ACTIVE, published=False, poll_goal=3),
    Host("200 × 6, 60 awake, not published", _HOST, published=False, steady_goal=20),
    Host("the same with 10 loops", _HOST, published=False, steady_goal=20, loops=10),
)

_POLLS = "threadwatch_polls_total"
_ACCOUNTS = {
    "poll_cpu": "threadwatch_poll_cpu_seconds_total",
    "sample_cpu": "threadwatch_wait_sample_cpu_seconds_total",
    "samples": "threadwatch_wait_samples_total",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the daemon has used under one load, in seconds of CPU per second of real time."""

    threads: int
    first: float
    """In the first half minute."""
    steady: list[float]
    """Window after window."""
    scrapes: list[float]
    """Seconds of CPU of process-exporter, one scrape behind each window."""
    exporter: str | None
    """Its version."""
    accounts: dict[str, float]
    """What the daemon's counters have gained per poll in the steady state; names as in :data:`_ACCOUNTS`."""


def run(*, full: bool) -> Result:
    """Return all loads."""
    windows = 24 if full else 6
    measured, missing = {}, []
    for host in HOSTS:
        with _running(host) as load, all_peers(exporter_alone=True) as (peers, absent):
            measured[host] = _measure(load, peers, windows)
            missing = absent
    raw = {host.name: asdict(found) for host, found in measured.items()}
    return Result(
        "installed", WHAT.format(window=_WINDOW), (_table(measured),), raw, tuple(missing)
    )


@contextlib.contextmanager
def _running(host: Host) -> Iterator[Load]:
    with Load(host.load, published=host.published) as load, contextlib.ExitStack() as stack:
        for _ in range(host.loops):
            stack.enter_context(Program("of-installed", "ticks", "0.1", "0.0002", "10"))
        yield load


def _measure(load: Load, peers: Sequence[Peer], windows: int) -> Measured:
    steady, scrapes = [], []
    with Daemon(None) as daemon:
        began = time.monotonic()
        first = _used(daemon, _FIRST)
        time.sleep(max(began + _SETTLED - time.monotonic(), 0))
        before = daemon.metrics()
        for _ in range(windows):
            daemon.between_polls()
            steady.append(_used(daemon, _WINDOW))
            scrapes += [peer.cycle() for peer in peers]
        after = daemon.metrics()
        polls = after[_POLLS] - before[_POLLS]
        return Measured(
            threads=load.threads(),
            first=first,
            steady=steady,
            scrapes=scrapes,
            exporter=peers[0].version if peers else None,
            accounts={
                short: (after[name] - before[name]) / polls for short, name in _ACCOUNTS.items()
            },
        )


def _used(daemon: Daemon, seconds: float) -> float:
    """Return what it uses in this time, in seconds of CPU per second."""
    began, clock_ns = time.monotonic(), process_clock_ns(daemon.pid)
    time.sleep(seconds)
    gained_ns = process_clock_ns(daemon.pid) - clock_ns
    return gained_ns / 1e9 / (time.monotonic() - began)


def _table(measured: dict[Host, Measured]) -> Table:
    rows = []
    for host, found in measured.items():
        steady = estimate(found.steady).scaled(1000)
        poll_ms = 1000 * found.accounts["poll_cpu"]
        scrape = times = ""
        if found.scrapes:
            scrape = estimate(found.scrapes).scaled(1000).text(0)
            ratio = estimate(ratios(found.scrapes, found.steady))
            times = ratio.text(0)
            if host is HOSTS[0]:
                times += f" (goal {_GOAL}: {'met' if ratio.median >= _GOAL else 'missed'})"
        rows.append(
            (
                host.name,
                f"{found.threads:,}",
                f"{1000 * found.first:,.2f}{against(1000 * found.first, host.first_goal)}",
                steady.text() + against(steady.median, host.steady_goal),
                f"{poll_ms:,.2f}{against(poll_ms, host.poll_goal)}",
                f"{1000 * found.accounts['sample_cpu']:,.2f}",
                f"{found.accounts['samples']:,.1f}",
                scrape,
                times,
            )
        )
    exporter = next((found.exporter for found in measured.values() if found.exporter), None)
    return Table(
        "CPU, in ms per second",
        (
            "load",
            "threads",
            "first half minute",
            "steady state",
            "of that polls",
            "samples",
            "samples of processes per s",
            f"process-exporter {exporter or ''}".strip() + ", ms per scrape",
            "times the daemon",
        ),
        tuple(rows),
    )
