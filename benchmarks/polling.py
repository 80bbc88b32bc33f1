"""What a poll and a scrape of a running daemon cost, under real loads."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass

from benchmarks.estimate import estimate, percentile
from benchmarks.report import Result, Table, against
from benchmarks.running import (
    BenchmarkError,
    Daemon,
    Load,
    descriptors,
    process_clock_ns,
    resident_bytes,
    sleep_until,
    watching,
)
from benchmarks.scenarios import SCENARIOS, Scenario

WHAT = """\
A real `threadwatch serve`, polling every second, under a load of real processes and threads that
[benchmarks/load.py](../benchmarks/load.py) makes. It watches the load and itself; other processes
of the machine are found and passed over. What threads wait for is not sampled here (`waits: {rate:
0}`): these are the polls alone, and what samples cost is measured by the benchmark `waits`.

CPU per poll is what the daemon's process clock gains from the middle between two polls to the next
such moment, read from outside: the whole poll, with waking up and waiting for the next. Nothing
scrapes meanwhile. The median has its 95 % confidence interval; the goals are
compared with the mean, which has the seldom costly polls in it. Share: the daemon's process clock
per second of real time. Duration: how long polls take in real time, by what
`threadwatch_poll_duration_seconds_sum` gains with each; waiting for a CPU is in it. Of less than a
hundred polls, the 99th percentile is the longest.

Under idle loads, what is left hangs on the machine and not on the load: waking up with cold caches, reading
the daemon's own process, which always runs, and looking at those of the machine's other processes that have
run. The list of all processes, read every 32 polls, is most of the dearest of these polls.

CPU per scrape is what the clocks of the daemon's other threads gain by a request, so HTTP is in it:
the first request after a poll, and the same again, on a connection that is kept, as Prometheus does.
Every scrape is in one format; gzip is OpenMetrics, compressed, as Prometheus asks for it. A series is a
line of the exposition.

The daemon's own account of its polls, `threadwatch_poll_cpu_seconds_total`, is compared with its
process clock over the same polls."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure, in polls."""

    warm_up: int
    polls: int
    scrapes: int
    many: int
    """Scrapes, and so durations, where a scenario is to have many."""


QUICK = Plan(warm_up=24, polls=8, scrapes=3, many=12)
FULL = Plan(warm_up=40, polls=60, scrapes=24, many=150)
# It takes 16 polls until a process counts as one that rests for long, and is cheap from then on.

FORMATS = {
    "text": {"Accept": "text/plain;version=0.0.4"},
    "OpenMetrics": {"Accept": "application/openmetrics-text;version=1.0.0"},
    "gzip": {
        "Accept": "application/openmetrics-text;version=1.0.0",
        "Accept_Encoding": "gzip",
    },
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario's figures. Times in seconds."""

    threads: int
    load_cpu_share: float
    """CPU seconds that the load used itself, per second."""
    first_poll_cpu: float
    first_poll_duration: float
    poll_cpu: list[float]
    """By its process clock, poll after poll."""
    polls_counted: float
    """How many polls there were in that time, as the daemon counts."""
    own_account: float
    """What threadwatch_poll_cpu_seconds_total gained in that time."""
    process_cpu: float
    """What its process clock gained."""
    seconds: float
    durations: list[float]
    scrapes: dict[str, list[tuple[float, float]]]
    """By format: the CPU time of the first scrape of a view, and of the second."""
    series: int
    resident: int
    descriptors: int


def measure(scenario: Scenario, plan: Plan) -> Measured:
    """Run a scenario."""
    with (
        Load(scenario.load, published=scenario.published) as load,
        watching(scenario.per) as daemon,
    ):
        first = daemon.metrics()
        sleep_until(time.time() + plan.warm_up)
        scrapes = plan.many if scenario.many_polls else plan.scrapes
        return _measure(daemon, load, first, plan.polls, scrapes)


def polls_cpu(daemon: Daemon, polls: int) -> list[float]:
    """CPU seconds of each of the next polls. To be called in the middle between two."""
    began, clock = time.time(), process_clock_ns(daemon.pid)
    found = []
    for number in range(1, polls + 1):
        sleep_until(began + number)
        before, clock = clock, process_clock_ns(daemon.pid)
        found.append((clock - before) / 1e9)
    return found


def _measure(
    daemon: Daemon, load: Load, first: dict[str, float], polls: int, scrapes: int
) -> Measured:
    daemon.between_polls()
    before = daemon.metrics()
    time.sleep(0.02)
    began, clock, load_cpu = time.time(), process_clock_ns(daemon.pid), load.cpu_seconds()
    poll_cpu = polls_cpu(daemon, polls)
    process_cpu = (process_clock_ns(daemon.pid) - clock) / 1e9
    seconds, load_cpu = time.time() - began, load.cpu_seconds() - load_cpu
    after = daemon.metrics()
    gained = {name: after[name] - before[name] for name in (_POLLS, _POLL_CPU)}
    durations, scraped, series = _scrape(daemon, scrapes)
    return Measured(
        threads=load.threads(),
        load_cpu_share=load_cpu / seconds,
        first_poll_cpu=first[_POLL_CPU],
        first_poll_duration=first[_DURATION],
        poll_cpu=poll_cpu,
        polls_counted=gained[_POLLS],
        own_account=gained[_POLL_CPU],
        process_cpu=process_cpu,
        seconds=seconds,
        durations=durations,
        scrapes=scraped,
        series=series,
        resident=resident_bytes(daemon.pid),
        descriptors=descriptors(daemon.pid),
    )


_POLLS = "threadwatch_polls_total"
_POLL_CPU = "threadwatch_poll_cpu_seconds_total"
_DURATION = "threadwatch_poll_duration_seconds_sum"


def _scrape(
    daemon: Daemon, count: int
) -> tuple[list[float], dict[str, list[tuple[float, float]]], int]:
    """Scrape twice after each of the next polls; their durations, the scrapes' CPU time, the series."""
    scrapes: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMATS}
    durations: list[float] = []
    daemon.between_polls()
    began, series = time.time(), 0
    known = daemon.metrics()
    for number in range(1, count + 1):
        sleep_until(began + number)
        name = tuple(FORMATS)[number % len(FORMATS)]
        first, body = daemon.cpu_of_get("/metrics", **FORMATS[name])
        again, _ = daemon.cpu_of_get("/metrics", **FORMATS[name])
        scrapes[name].append((first, again))
        lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
        series = len(lines)
        before, known = known, {key: float(value) for key, _, value in map(_parts, lines)}
        polls = known[_POLLS] - before[_POLLS]
        if polls:
            durations.append((known[_DURATION] - before[_DURATION]) / polls)
    return durations, scrapes, series


def _parts(line: str) -> tuple[str, str, str]:
    return line.rpartition(" ")


def run(*, full: bool) -> Result:
    """Return all scenarios."""
    plan = FULL if full else QUICK
    measured, missing = {}, [] if full else ["the loads that only the long version has (--full)"]
    for scenario in SCENARIOS:
        if full or scenario.quick:
            try:
                measured[scenario] = measure(scenario, plan)
            except BenchmarkError as error:
                missing.append(f"{scenario.name}: {error}")
    return Result(
        "poll",
        WHAT,
        (_poll_table(measured), _scrape_table(measured), _account_table(measured)),
        {s.name: asdict(m) for s, m in measured.items()},
        tuple(missing),
    )


def _poll_table(measured: dict[Scenario, Measured]) -> Table:
    rows = []
    for scenario, found in measured.items():
        cpu = [1000 * value for value in found.poll_cpu]
        mean = statistics.fmean(cpu)
        durations = [1000 * value for value in found.durations]
        resident = found.resident / 2**20
        rows.append(
            (
                scenario.name,
                f"{found.threads:,}",
                estimate(cpu).text(),
                f"{mean:,.2f}{against(mean, scenario.poll_goal_ms)}",
                f"{max(cpu):,.2f}",
                f"{100 * found.process_cpu / found.seconds:.2f} %",
                f"{percentile(durations, 50):,.2f}" if durations else "",
                f"{percentile(durations, 99):,.2f}" if durations else "",
                f"{resident:.1f}{against(resident, scenario.resident_goal_mib)}",
                str(found.descriptors),
                f"{1000 * found.first_poll_cpu:,.0f}",
            )
        )
    return Table(
        "polls",
        (
            "load",
            "threads",
            "CPU per poll, ms: median",
            "mean",
            "most",
            "share of a CPU",
            "duration, ms: median",
            "99 %",
            "RSS, MiB",
            "fds",
            "first poll, ms of CPU",
        ),
        tuple(rows),
        tuple(f"{scenario.name}: {scenario.what}." for scenario in measured),
    )


def _scrape_table(measured: dict[Scenario, Measured]) -> Table:
    rows = []
    for scenario, found in measured.items():
        cells = [scenario.name, f"{found.series:,}"]
        for pairs in found.scrapes.values():
            columns = zip(*pairs, strict=True)
            cells += [f"{1000 * statistics.median(column):,.2f}" for column in columns]
        text = statistics.median(first for first, _ in found.scrapes["text"])
        again = statistics.median(second for _, second in found.scrapes["text"])
        cells.append(f"{(text - again) / found.series * 1e6:.1f}")
        rows.append(tuple(cells))
    titles = [f"{name}{which}" for name in FORMATS for which in (" first", " again")]
    return Table(
        "scrapes: CPU time in ms",
        ("load", "series", *titles, "µs per series of a new view"),
        tuple(rows),
        (
            "Goals: again at most 1 ms; of a new view at most 8 µs per series (text, first less again).",
        ),
    )


def _account_table(measured: dict[Scenario, Measured]) -> Table:
    rows = []
    for scenario, found in measured.items():
        polls = max(found.polls_counted, 1)
        account, clock = found.own_account, found.process_cpu
        rows.append(
            (
                scenario.name,
                f"{found.polls_counted:.0f} in {found.seconds:.1f} s",
                f"{1000 * account / polls:,.3f}",
                f"{1000 * clock / polls:,.3f}",
                f"{100 * account / clock:.1f} %",
                f"{found.load_cpu_share:.2f}",
            )
        )
    return Table(
        "the daemon's own account, in ms per poll",
        (
            "load",
            "polls",
            "own account",
            "process clock",
            "accounted for",
            "CPUs that the load used",
        ),
        tuple(rows),
        ("What it leaves out is making the view ready to be served, and waking up once a second.",),
    )
