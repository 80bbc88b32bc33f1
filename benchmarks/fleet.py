"""What a fleet costs Prometheus: real daemons are scraped, panels are asked, and lines are drawn further."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import fleet_flow
from benchmarks.estimate import StraightLine, straight_line
from benchmarks.fleet_flow import Arrived
from benchmarks.fleet_nodes import APPLICATIONS, NAMES, Node, fleet
from benchmarks.fleet_prometheus import Answer, Prometheus, config, rules, scrape_config
from benchmarks.report import Result, Table
from benchmarks.running import sleep_until
from tests import grafana, prometheus, testbed
from tests.harness import until

WHAT = f"""\
What a fleet costs Prometheus 3, on this machine. Each host is a PID namespace of its own with a real daemon
and {APPLICATIONS} real applications of {NAMES} thread names and the main one, whose groups, as in
containers, are no other host's. So that many fit, threads work for 0.2 ms every 30 s on average, and the
daemons poll every 10 s and sample once a second: neither changes the number of series. Hosts beyond those
that run are the same daemons, scraped again as other hosts with other groups (relabeled).

*Scraping*: each number of hosts has a Prometheus of its own, all at the same time, which scrapes and
evaluates our rules every 15 s. Series are those of its head: what is scraped, Prometheus' own five of each
target, and what the rules record. CPU is the process clock's over the second half of the time, per second.
Memory is RSS at its end. *Rules* is the CPU time of all rules that are evaluated every 15 s, each asked once
as a query: with the text of the answer, which a rule does not make, so it is the most that they can cost.
Where there are fewer samples per second than a fifteenth of the series, this machine was too busy to scrape
and evaluate in time, and CPUs are too low as well.

*Panels*: then scraping and rules are switched off, and every query of the dashboards of all hosts is
asked as of the moment before, as Grafana does: tables and numbers at that moment, graphs over the range in
steps of 15 s. CPU time is what Prometheus' process clock gains by all queries of a panel, garbage collection
included: the median of three. Prometheus evaluates a query in one thread, so with free CPUs a panel takes
no longer.

*1,000 and 10,000 hosts* are on the straight line of least squares through what was measured. That assumes
hosts like these, one Prometheus with enough memory for all of them, and costs that grow in proportion. It
knows nothing of caches that become too small, of disks, and of other queries. Prometheus refuses a query
with more than 50 million samples in memory at once (`--query.max-samples`): *samples* is the most at once,
of the panel's largest query. Graphs over twice the range cost twice as much, and have twice the samples."""

_FURTHER = (1000, 10_000)
_REFUSED = 50e6
_MIB = 2**20
_STARTING = 300.0
"""Seconds in which all hosts answer, also on a busy machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    sizes: tuple[int, ...]
    """Numbers of hosts, from few to many."""
    hosts: int
    """Of these, how many run; the others are copies."""
    interval: float
    """Seconds between scrapes."""
    range: float
    """Seconds that graphs show: scraping takes as long, and two minutes more for the first rates."""
    federated: int
    """The number of hosts whose Prometheus is federated."""
    asked: int = 3
    """How often each query is asked."""


QUICK = Plan((10, 25, 50), 50, 15, 300, 50)
FULL = Plan((10, 25, 50, 100, 200), 50, 15, 480, 50)


@dataclass(frozen=True, slots=True)
class Scraped:
    """One Prometheus, over the second half of the time."""

    hosts: int
    scraped: float
    """Series of a host, by the daemon's page."""
    series: float
    samples_per_second: float
    cpu: float
    resident: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a panel, or all rules, cost one Prometheus."""

    hosts: int
    cpu_seconds: float
    series: int
    """Of the largest answer."""
    peak_samples: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured."""

    scraping: list[Scraped]
    panels: dict[str, list[Asked]]
    """Of the dashboard *Fleet*."""
    panels_of_daemons: dict[str, list[Asked]]
    """Of *threadwatch itself*."""
    rules: list[Asked]
    left: dict[str, float]
    """Series of a host, by what the relabeling of the job is called."""
    arrived: Arrived
    federated: tuple[float, float]
    federated_hosts: int


def run(*, full: bool) -> Result:
    """Return what a fleet costs."""
    plan = FULL if full else QUICK
    found = measure(plan)
    tables = (
        _table_of_scraping(found.scraping, found.rules),
        _table_of_panels("Fleet", found.panels, plan),
        _table_of_panels("threadwatch itself", found.panels_of_daemons, plan),
        _table_of_flow(found),
    )
    return Result("fleet", WHAT, tables, {"plan": asdict(plan), **asdict(found)})


def measure(plan: Plan) -> Measured:
    """Run a fleet, and measure what it costs."""
    testbed.enter()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o755)
        nodes = stack.enter_context(fleet(plan.hosts))
        servers = {
            size: stack.enter_context(_scraping(nodes, size, place, plan.interval))
            for size in plan.sizes
        }
        few = nodes[: plan.sizes[0]]
        _, receiver = stack.enter_context(
            fleet_flow.sent_on(few, place / "sent", min(plan.interval, 5))
        )
        cut = stack.enter_context(fleet_flow.cut(few, place / "cut", plan.interval))
        source = servers[plan.federated]
        above = stack.enter_context(fleet_flow.federated(source, place / "above", plan.interval))
        for size, server in servers.items():
            _wait_for_targets(server, size)
        arrived = fleet_flow.arrived(receiver, nodes[0], 3)
        end = time.time() + plan.range + 4 * plan.interval
        sleep_until(end - plan.range / 2)
        before = {size: server.snapshot() for size, server in servers.items()}
        sleep_until(end)
        scraping = []
        for size, server in servers.items():
            then, now = before[size], server.snapshot()
            seconds = now.seconds - then.seconds
            (each,) = server.query("avg(scrape_samples_post_metric_relabeling)")
            per_second = (now.samples - then.samples) / seconds
            cpu = (now.cpu_seconds - then.cpu_seconds) / seconds
            scraping.append(Scraped(size, each.value, now.series, per_second, cpu, now.resident))
        left, federated = fleet_flow.left(cut), fleet_flow.taken(above, source)
        at = time.time() - plan.interval
        for server in servers.values():
            server.stop_scraping()
        panels, of_daemons = (_asked(servers, name, at, plan) for name in ("fleet", "daemon"))
        recorded = [
            _together(size, [_median(server, rule, at, 0, plan) for rule in rules()])
            for size, server in servers.items()
        ]
        return Measured(
            *(scraping, panels, of_daemons, recorded, left, arrived, federated, plan.federated)
        )


def _wait_for_targets(server: Prometheus, size: int) -> None:
    answered = f"sum(max_over_time(up[10m])) == {size}"
    until(lambda: server.query(answered), f"{size} hosts have answered", _STARTING, every=0.2)


@contextlib.contextmanager
def _scraping(
    nodes: Sequence[Node], size: int, place: Path, interval: float
) -> Iterator[Prometheus]:
    targets = [nodes[i % len(nodes)].target(i // len(nodes)) for i in range(size)]
    directory = place / str(size)
    directory.mkdir()
    text = config(scrape_config(targets), interval, rules=True)
    with Prometheus(directory, config=text, command=prometheus.IN_TESTBED) as server:
        yield server


def _asked(
    servers: Mapping[int, Prometheus], name: str, at: float, plan: Plan
) -> dict[str, list[Asked]]:
    """Return what each panel of a dashboard costs, asked of each server."""
    found: dict[str, list[Asked]] = {}
    for size, server in servers.items():
        for panel, queries in _panels(name, plan).items():
            asked = [_median(server, query, at, over, plan) for query, over in queries]
            found.setdefault(panel, []).append(_together(size, asked))
    return found


def _panels(name: str, plan: Plan) -> dict[str, list[tuple[str, float]]]:
    """Return the queries of each panel of a dashboard, as Grafana sends them, with the range of each."""
    dashboard = grafana.load(grafana.DIRECTORY / f"{name}.json")
    chosen: Mapping[str, str | list[str]] = {
        "__rate_interval": f"{4000 * plan.interval:.0f}ms",
        "__range": f"{1000 * plan.range:.0f}ms",
        **dict.fromkeys(("job", "instance", "group"), "$__all"),
    }
    found: dict[str, list[tuple[str, float]]] = {}
    for asked in grafana.expressions():
        if asked.dashboard == name:
            query = grafana.interpolate(asked.text, dashboard, chosen)
            found.setdefault(asked.panel, []).append((query, 0 if asked.instant else plan.range))
    return found


def _median(server: Prometheus, query: str, at: float, over: float, plan: Plan) -> Answer:
    """Return the answer with the middle CPU time."""
    answers = [server.ask(query, at, over, plan.interval) for _ in range(plan.asked)]
    return sorted(answers, key=lambda answer: answer.cpu_seconds)[len(answers) // 2]


def _together(hosts: int, answers: Sequence[Answer]) -> Asked:
    return Asked(
        hosts,
        sum(answer.cpu_seconds for answer in answers),
        max(answer.series for answer in answers),
        max(answer.peak_samples for answer in answers),
    )


def _line(asked: Sequence[Asked], what: str) -> StraightLine:
    return straight_line([(one.hosts, getattr(one, what)) for one in asked])


def _table_of_scraping(scraping: Sequence[Scraped], recorded: Sequence[Asked]) -> Table:
    rows = [
        (
            f"{one.hosts:,}",
            *_numbers(one.series, one.samples_per_second, one.resident, one.cpu, evaluated),
        )
        for one, evaluated in zip(scraping, [r.cpu_seconds for r in recorded], strict=True)
    ]
    lines = [
        straight_line([(one.hosts, getattr(one, what)) for one in scraping])
        for what in ("series", "samples_per_second", "resident", "cpu")
    ]
    lines.append(_line(recorded, "cpu_seconds"))
    rows += [
        (f"{hosts:,} (by the line)", *_numbers(*(line.at(hosts) for line in lines)))
        for hosts in _FURTHER
    ]
    each = statistics.median(one.scraped for one in scraping)
    per_host = lines[0].slope
    note = (
        f"A host has {each:,.0f} series on its page, and {per_host:,.0f} in the head of Prometheus; "
        f"each of these takes {lines[2].slope / per_host / 1024:.1f} KiB."
    )
    columns = ("hosts", "series", "samples per second", "memory, MiB", "CPUs", "rules, s of CPU")
    return Table("scraping", columns, tuple(rows), (note,))


def _numbers(
    series: float, samples: float, resident: float, cpu: float, evaluated: float
) -> tuple[str, ...]:
    return (
        f"{series:,.0f}",
        f"{samples:,.0f}",
        f"{resident / _MIB:,.0f}",
        f"{cpu:.3f}",
        f"{evaluated:.3f}",
    )


def _table_of_panels(name: str, panels: Mapping[str, Sequence[Asked]], plan: Plan) -> Table:
    rows = []
    for panel, asked in panels.items():
        cpu, samples = _line(asked, "cpu_seconds"), _line(asked, "peak_samples")
        at_most = max(one.series for one in asked)
        measured = [f"{1000 * one.cpu_seconds:,.0f}" for one in asked]
        further = [_further(cpu.at(hosts), samples.at(hosts)) for hosts in _FURTHER]
        rows.append((panel, str(at_most), *measured, *further))
    columns = (
        "panel",
        "series",
        *(f"{size} hosts, ms of CPU" for size in plan.sizes),
        *(f"{hosts:,} (by the line): s of CPU, samples" for hosts in _FURTHER),
    )
    title = f"panels of {name}, over {plan.range / 60:g} minutes"
    return Table(title, columns, tuple(rows))


def _further(seconds: float, samples: float) -> str:
    refused = ", refused" if samples > _REFUSED else ""
    return f"{seconds:.2f}, {samples / 1e6:.2f} million{refused}"


def _table_of_flow(found: Measured) -> Table:
    everything = found.left["everything"]
    rows: list[tuple[str, str]] = [
        (f"series of a host: {name}", f"{number:,.0f} ({100 * number / everything:.0f} %)")
        for name, number in found.left.items()
    ]
    way = found.arrived
    each = found.federated[0] / found.federated_hosts
    rows += [
        (
            f"an agent's samples in {way.scrapes} scrapes of a host that arrived at a receiver",
            f"{way.samples:,} of {way.samples:,}",
        ),
        ("samples of a scrape, equal to the daemon's page", f"{way.equal:,} of {way.equal:,}"),
        ("federated series of a host", f"{each:,.0f} ({100 * each / everything:.0f} %)"),
        (f"a federation of {found.federated_hosts} hosts, s", f"{found.federated[1]:.2f}"),
    ]
    return Table("relabeling, remote write and federation", ("what", "found"), tuple(rows))
