"""What it costs to sample, again and again, what threads wait for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.estimate import differences, estimate
from benchmarks.report import Result, Table, against
from benchmarks.running import Daemon, Load, process_clock_ns, sleep_until, watching

WHAT = """\
Two real daemons watch the same load in the same seconds: one samples what threads wait for, the
other does not (`waits: {rate: 0}`), and both poll every second. The cost of samples is how much more CPU
the first one has used (its process clock, read from outside), in windows of some seconds: so
what samples add to the polls, which account for them, is part of it. Their own account is
`threadwatch_wait_sample_cpu_seconds_total`, the samples alone. Neither daemon watches itself.

A thread is sampled as often as `threadwatch_wait_samples_total` says that its process is: each process
of a load has that number of awake threads, and all of them are looked at. The loads publish, so the
holder of the GIL is read, too.

A sample has a part that does not hang on the number of threads, most of it because code and data have left
the processor's caches since the sample before: eight threads that compute cost 25 µs together if samples
follow each other at once, and 76 µs after a pause of 10 ms. So the goal per thread can be met only for some
tens of awake threads; of fewer, what counts is the share of a CPU."""


@dataclass(frozen=True, slots=True)
class Awake:
    """A load, and how many of each process's threads are awake."""

    name: str
    what: str
    load: tuple[str, ...]
    threads: int
    share_goal: float | None = None
    """Per cent of a CPU that ten samples per second are not to exceed."""
    warm_up: int = 8
    """Seconds; processes at rest take longer until they count as such."""


_WAKING = ("--period=0.1", "--longest=0.2", "--work=0.0001")
LOADS = (
    Awake(
        "200 awake",
        "1 process, 200 threads of which wake every 0.1 to 0.2 s and work for 0.1 ms",
        ("--threads=200", "--active=200", *_WAKING),
        200,
        1.5,
    ),
    Awake(
        "10 × 20 awake",
        "10 processes, 20 threads of each of which do the same",
        ("--processes=10", "--threads=20", "--active=200", "--active-processes=10", *_WAKING),
        20,
        1.5,
    ),
    Awake(
        "8 that compute",
        "1 process, 8 threads of which compute in Python all the time, and want the GIL",
        ("--busy=8",),
        8,
    ),
    Awake("1,000 asleep", "1 process of 1,001 threads that sleep", ("--threads=1000",), 0, 0, 24),
)
RATES = (10, 100)
_THREAD_GOAL = 7.0
"""Microseconds of CPU per thread that is sampled."""
_SAMPLES = "threadwatch_wait_samples_total"
_SAMPLE_CPU = "threadwatch_wait_sample_cpu_seconds_total"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one rate costs under one load."""

    seconds: float
    """How long a window was."""
    with_samples: list[float]
    """CPU seconds of the daemon, window after window."""
    without: list[float]
    samples: float
    """Samples of a process per second."""
    own_account: float
    """CPU seconds per second, by the daemon's own account."""
    load_cpu_share: float

    def share(self) -> list[float]:
        """Return seconds of CPU per second that samples cost, of each window."""
        return [more / self.seconds for more in differences(self.with_samples, self.without)]


def run(*, full: bool) -> Result:
    """Return all loads."""
    windows, seconds = (24, 5.0) if full else (6, 3.0)
    measured: dict[tuple[Awake, int], Measured] = {}
    for load in LOADS:
        with Load(load.load, published=True) as running, watching(itself=False) as without:
            for rate in RATES:
                with watching(rate=rate, itself=False) as daemon:
                    time.sleep(load.warm_up)
                    measured[load, rate] = _measure(daemon, without, running, windows, seconds)
    raw = {f"{load.name}, {rate} per second": asdict(m) for (load, rate), m in measured.items()}
    return Result("waits", WHAT, (_table(measured),), raw)


def _measure(daemon: Daemon, without: Daemon, load: Load, windows: int, seconds: float) -> Measured:
    daemon.between_polls()
    before, load_cpu = daemon.metrics(), load.cpu_seconds()
    began = time.time()
    clocks = [_clocks(daemon, without)]
    for number in range(1, windows + 1):
        sleep_until(began + number * seconds)
        clocks.append(_clocks(daemon, without))
    elapsed, load_cpu = time.time() - began, load.cpu_seconds() - load_cpu
    after = daemon.metrics()
    with_samples, plain = zip(*clocks, strict=True)
    return Measured(
        seconds=seconds,
        with_samples=_gains(with_samples),
        without=_gains(plain),
        samples=(after[_SAMPLES] - before[_SAMPLES]) / elapsed,
        own_account=(after[_SAMPLE_CPU] - before[_SAMPLE_CPU]) / elapsed,
        load_cpu_share=load_cpu / elapsed,
    )


def _clocks(*daemons: Daemon) -> tuple[float, ...]:
    """CPU seconds that the daemons have used so far."""
    return tuple(process_clock_ns(daemon.pid) / 1e9 for daemon in daemons)


def _gains(values: Sequence[float]) -> list[float]:
    return differences(values[1:], values[:-1])


def _table(measured: dict[tuple[Awake, int], Measured]) -> Table:
    rows = []
    for (load, rate), found in measured.items():
        share = estimate(found.share()).scaled(100)
        goal = against(share.median, load.share_goal if rate == 10 and load.threads else None)
        threads = found.samples * load.threads
        per_thread = own = ""
        if threads:
            each = estimate(found.share()).scaled(1e6 / threads)
            per_thread = each.text(1) + against(each.median, _THREAD_GOAL if rate == 10 else None)
            own = f"{1e6 * found.own_account / threads:.1f}"
        rows.append(
            (
                load.name,
                str(rate),
                f"{found.samples:,.1f}",
                f"{threads:,.0f}",
                f"{share.text()}{goal}",
                f"{100 * found.own_account:.2f}",
                per_thread,
                own,
                f"{found.load_cpu_share:.2f}",
            )
        )
    return Table(
        "samples",
        (
            "load",
            "rate, 1/s",
            "processes sampled per s",
            "threads sampled per s",
            "CPU of samples, % of a CPU",
            "by their own account",
            "µs per sampled thread",
            "by their own account",
            "CPUs that the load used",
        ),
        tuple(rows),
        tuple(f"{load.name}: {load.what}." for load in LOADS),
    )
