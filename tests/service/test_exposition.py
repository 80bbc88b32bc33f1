"""What real Prometheus programs make of the exposition: promtool and scraping servers, versions 2 and 3."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import pytest

from tests import prometheus, testbed, views
from tests.harness import until
from tests.prometheus import Prometheus
from threadwatch.metrics.exporter import Exporter
from threadwatch.metrics.families import FAMILIES
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import View
from threadwatch.web.app import App
from threadwatch.web.listen import Address
from threadwatch.web.server import WebServer

SCRAPE_CONFIG = testbed.CHECKOUT / "config" / "prometheus" / "prometheus.yml"
PROMETHEUS = {"on-path": prometheus.ON_PATH, "testbed": prometheus.IN_TESTBED}


def _promtool(command: Sequence[str]) -> list[str]:
    """Return the promtool that belongs to that Prometheus."""
    return [*command[:-1], command[-1].replace("prometheus", "promtool")]


def everything() -> View:
    """Return a view with every family and every hostile name."""
    sample = views.sample()
    hostile = views.hostile()
    return views.view(
        *sample.groups,
        *hostile.groups,
        processes=(*sample.processes, *hostile.processes),
        thread_info=True,
        stats=sample.stats,
    )


# The text format too: a server that is told to ask for it.
TEXT_ONLY = "    scrape_protocols: [PrometheusText0.0.4]\n"


@pytest.fixture(scope="module")
def exporter() -> Exporter:
    """Return an exporter with that view."""
    exporter = Exporter()
    exporter.publish(everything())
    return exporter


@pytest.fixture(scope="module")
def servers(
    exporter: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Prometheus]]:
    """Yield all that scrape the exporter, once each has twice. All begin at once: it takes 5 s."""
    web = WebServer([Address("127.0.0.1", 0)], App(exporter, views.health()))
    web.start()
    with ExitStack() as stack:
        stack.callback(web.stop)
        [address] = web.addresses
        assert isinstance(address, Address)
        found = {}
        for name, command, more in (
            *((name, command, "") for name, command in PROMETHEUS.items()),
            ("text", prometheus.IN_TESTBED, TEXT_ONLY),
        ):
            directory = tmp_path_factory.mktemp(name)
            found[name] = stack.enter_context(
                Prometheus(directory, config=_config(address) + more, command=command)
            )
        for server in found.values():
            until(partial(_has_scraped, server), "two scrapes, and the last one with an answer")
        yield found


def _has_scraped(server: Prometheus) -> bool:
    """Have queries answered as of now, if the last scrape has not failed.

    One to which this process, on a busy machine, has not answered within a second ends all series.
    """
    server.at = time.time()
    up = 'up{job="threadwatch"} == 1'
    return bool(server.query(f"{up} and on (job) count_over_time(threadwatch_polls_total[5m]) > 1"))


@pytest.fixture(params=PROMETHEUS)
def server(request: pytest.FixtureRequest, servers: dict[str, Prometheus]) -> Prometheus:
    """Return each of them in turn."""
    return servers[request.param]


@pytest.mark.parametrize("command", PROMETHEUS.values(), ids=PROMETHEUS)
def test_promtool_has_nothing_to_say(command: Sequence[str]) -> None:
    """The linter of metrics accepts the whole exposition without a remark, hostile names included."""
    exporter = Exporter()
    exporter.publish(everything())
    done = subprocess.run(
        [*_promtool(command), "check", "metrics"],
        input=exporter.render(None, None).body,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("command", PROMETHEUS.values(), ids=PROMETHEUS)
def test_the_scrape_configuration_is_valid(command: Sequence[str]) -> None:
    """The configuration that we ship passes promtool's check."""
    done = subprocess.run(
        [*_promtool(command), "check", "config", "--lint-fatal", str(SCRAPE_CONFIG)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _config(address: Address) -> str:
    """Return the configuration that we ship, for a server on another port, and in more of a hurry."""
    shipped = SCRAPE_CONFIG.read_text()
    changed = shipped.replace("127.0.0.1:9749", str(address)).replace(
        "interval: 15s", "interval: 1s"
    )
    assert changed.count(str(address)) == 1
    assert "interval: 1s" in changed
    return changed


def test_prometheus_stores_every_name_exactly(server: Prometheus) -> None:
    """A Prometheus that scrapes us gives back each hostile name from its API, character for character."""
    found = server.query('threadwatch_threads_started_total{group="hostile"}')
    assert {result.labels["thread"] for result in found} == set(views.HOSTILE)
    groups = server.query('threadwatch_group_processes{group!=""}')
    assert {result.labels["group"] for result in groups} >= set(views.HOSTILE)
    [cpu] = server.query('threadwatch_thread_cpu_seconds_total{group="worker",mode="user"}')
    assert (cpu.labels["thread"], cpu.labels["pid"], cpu.value) == (
        "MainThread",
        "4711",
        4.500000003,
    )
    until(lambda: server.targets()["threadwatch"]["lastError"] == "", "a scrape without an error")


def test_prometheus_knows_types_units_and_help(server: Prometheus) -> None:
    """What each family is reaches the Prometheus that scrapes it, in the format that it asked for itself."""
    known = until(server.metadata, "metadata")
    for family in FAMILIES:
        # OpenMetrics names a family without its suffix; servers keep that name or the full one
        said = known.get(family.name) or known[family.metric().name]
        assert (said["type"], said["help"], said["unit"]) == (
            family.type,
            family.help,
            family.unit,
        )


def test_every_documented_query_runs(servers: dict[str, Prometheus]) -> None:
    """Each example of docs/metrics.md is a query that a Prometheus with our data answers."""
    page = (testbed.CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    queries = re.findall("```promql\n(.*?)```", page, re.DOTALL)
    assert len(queries) >= len(FAMILIES)
    answered = {query: servers["on-path"].query(query) for query in queries}
    # comparisons are alerts and may be quiet; everything else has something to show
    empty = [q for q, results in answered.items() if not results and not re.search(" [<>=]=? ?", q)]
    assert empty == []


def test_prometheus_reads_the_text_format_as_well(servers: dict[str, Prometheus]) -> None:
    """Asked for the text format alone, it stores the same names."""
    found = servers["text"].query('threadwatch_threads_started_total{group="hostile"}')
    assert {result.labels["thread"] for result in found} == set(views.HOSTILE)


def _has_none(server: Prometheus, query: str) -> bool:
    return not server.query(query)


def test_a_name_is_gone_when_its_series_is(
    exporter: Exporter, servers: dict[str, Prometheus]
) -> None:
    """What a newer view does not have is not served from an older one, and ends at once in Prometheus."""
    exporter.publish(
        views.view(views.group("shop", {SeriesKey("t"): views.everything()}), sequence=4)
    )
    try:
        for server in servers.values():
            server.at = None
            until(partial(_has_none, server, 'threadwatch_threads{group="hostile"}'), "series end")
    finally:
        exporter.publish(everything())
