"""threadwatch beside its peers, and how the cost of all of them grows: ratios of CPU time in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks.estimate import estimate, ratios
from benchmarks.peers import SCRAPE, Peer, all_peers
from benchmarks.polling import FULL, QUICK, polls_cpu
from benchmarks.report import Result, Table
from benchmarks.running import BenchmarkError, Daemon, Load, watching
from benchmarks.scenarios import PERIOD, SWEEP_ACTIVE, SWEEP_THREADS, load
from benchmarks.svg import Line, Panel, plot

POLLS = 3
"""Polls in each round of taking turns."""

WHAT_PEERS = f"""\
CPU time of one cycle on 10,010 threads in 10 processes, of which 27 wake every {PERIOD} s. All
programs look at the same processes in the same minutes, taking turns: in each round the daemon's
polls ({POLLS} in a row, their mean, measured as by the benchmark `poll`) and one scrape of it (text,
gzip), then a cycle of each peer. An exporter's cycle is a scrape,
by its process clock (user and system, garbage collection included); `top` and `ps` are run from
start to end; psutil's cycle is `threads()` of every process in a Python that is running already.
The ratio is that of each round: their median, with its 95 % confidence interval. The daemon watches
the load and itself, the peers everything on the machine: it has little else. It does not sample what
threads wait for (`waits: {{rate: 0}}`), which none of the peers can say.

Peers that read less do less work: node_exporter's collector counts threads by state, `ps` reads no
CPU time but in whole seconds. None of them but threadwatch knows Python names."""

WHAT_SWEEP = f"""\
CPU time per poll against the number of threads, all asleep, in processes of 1,000; and against how
many of 10,010 threads are active, waking every {PERIOD} s. Each point is a daemon and a load of its
own: the mean of the polls' CPU time, so that seldom costly ones count. Peers on the same loads, for
as long as it takes to see how they grow: the median of a few cycles."""

GOAL = 500
"""How many times less CPU than process-exporter."""


def run_peers(*, full: bool) -> Result:
    """Compare with every peer that is installed."""
    rounds = 15 if full else 5
    polls, scrapes = [], []
    with (
        Load(load(10, 1000, active=27, in_processes=3), published=True),
        watching() as daemon,
        all_peers() as (peers, missing),
    ):
        times: dict[str, list[float]] = {peer.name: [] for peer in peers}
        time.sleep((FULL if full else QUICK).warm_up)
        for _ in range(rounds):
            daemon.between_polls()
            polls.append(statistics.fmean(polls_cpu(daemon, POLLS)))
            scrapes.append(daemon.cpu_of_get("/metrics", **SCRAPE)[0])
            for peer in peers:
                times[peer.name].append(peer.cycle())
    table = _peers_table(polls, scrapes, times, peers)
    raw = {
        "versions": {peer.name: peer.version for peer in peers},
        "poll_seconds": polls,
        "scrape_seconds": scrapes,
        "peer_seconds": times,
    }
    return Result("peers", WHAT_PEERS, (table,), raw, tuple(missing))


def _peers_table(
    polls: Sequence[float],
    scrapes: Sequence[float],
    times: dict[str, list[float]],
    peers: Sequence[Peer],
) -> Table:
    both = [a + b for a, b in zip(polls, scrapes, strict=True)]
    rows = [
        ("threadwatch, a poll", "", estimate(polls).scaled(1e3).text(), "1", ""),
        ("threadwatch, a poll and a scrape", "", estimate(both).scaled(1e3).text(), "", "1"),
    ]
    for peer in peers:
        found = times[peer.name]
        to_poll = estimate(ratios(found, polls))
        goal = ""
        if peer.name.startswith("process-exporter"):
            goal = f" (goal {GOAL}: {'met' if to_poll.median >= GOAL else 'missed'})"
        rows.append(
            (
                peer.name,
                peer.version,
                estimate(found).scaled(1e3).text(),
                f"{to_poll.text(0)}{goal}",
                estimate(ratios(found, both)).text(0),
            )
        )
    columns = ("", "version", "CPU per cycle, ms", "times a poll", "times a poll and a scrape")
    return Table("one cycle", columns, tuple(rows))


def run_sweep(*, full: bool) -> Result:
    """Costs against numbers of threads and of active ones."""
    warm_up, polls = (FULL.warm_up, 30) if full else (QUICK.warm_up, 4)
    counts = SWEEP_THREADS if full else SWEEP_THREADS[:3]
    actives = SWEEP_ACTIVE if full else (0, 30, 300)
    by_threads: dict[str, list[tuple[float, float]]] = {}
    missing: list[str] = []
    absent: list[str] = []
    for count in counts:
        try:
            with Load(load(count // 1000, 999), published=True), watching() as daemon:
                time.sleep(warm_up)
                _add(by_threads, "threadwatch", count, _mean_poll(daemon, polls))
                with all_peers() as (peers, absent):
                    for peer in peers:
                        cycles = [peer.cycle() for _ in range(3 if full else 1)]
                        _add(by_threads, peer.name, count, statistics.median(cycles))
        except BenchmarkError as error:
            missing.append(f"{count:,} threads: {error}")
    missing += absent
    by_active: dict[str, list[tuple[float, float]]] = {}
    for active in actives:
        spread = 3 if active <= 100 else 10
        arguments = load(10, 1000, active=active, in_processes=spread, work=0)
        with Load(arguments, published=True), watching() as daemon:
            time.sleep(warm_up)
            _add(by_active, "threadwatch", active, _mean_poll(daemon, polls))
    panels = (
        _panel("CPU per cycle against threads, all asleep", "threads", by_threads),
        _panel("CPU per poll against active threads of 10,010", "active threads", by_active),
    )
    return Result(
        "sweep",
        WHAT_SWEEP,
        (
            _sweep_table("threads, all asleep: CPU per cycle in ms", by_threads),
            _sweep_table("active threads of 10,010: CPU per poll in ms", by_active),
        ),
        {"threads": by_threads, "active": by_active},
        tuple(missing),
        plot(panels, "CPU time, ms"),
    )


def _panel(title: str, x_label: str, lines: dict[str, list[tuple[float, float]]]) -> Panel:
    made = tuple(Line(name, tuple(points)) for name, points in lines.items())
    return Panel(title, x_label, made)


def _mean_poll(daemon: Daemon, polls: int) -> float:
    daemon.between_polls()
    return statistics.fmean(polls_cpu(daemon, polls))


def _add(lines: dict[str, list[tuple[float, float]]], name: str, x: float, seconds: float) -> None:
    lines.setdefault(name, []).append((x, 1000 * seconds))


def _sweep_table(title: str, lines: dict[str, list[tuple[float, float]]]) -> Table:
    columns = [f"{x:,.0f}" for x, _ in next(iter(lines.values()))]
    rows = [(name, *(f"{y:,.2f}" for _, y in points)) for name, points in lines.items()]
    return Table(title, ("", *columns), tuple(rows))
