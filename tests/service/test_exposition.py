"""What real Prometheus programs make of the exposition: promtool and scraping servers, versions 2 and 3."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import prometheus, testbed, views
from tests.prometheus import Prometheus, until
from threadwatch.exporter import Exporter
from threadwatch.families import FAMILIES
from threadwatch.model import SeriesKey, View
from threadwatch.web.app import App
from threadwatch.web.listen import Address
from threadwatch.web.server import WebServer

SCRAPE_CONFIG = testbed.CHECKOUT / "config" / "prometheus" / "prometheus.yml"
PROMETHEUS = {"on-path": prometheus.ON_PATH, "testbed": prometheus.IN_TESTBED}


def _promtool(command: Sequence[str]) -> list[str]:
    """The promtool that belongs to that Prometheus."""
    return [*command[:-1], command[-1].replace("prometheus", "promtool")]


def everything() -> View:
    """A view with every family and every hostile name."""
    sample = views.sample()
    hostile = views.hostile()
    return views.view(
        *sample.groups,
        *hostile.groups,
        processes=(*sample.processes, *hostile.processes),
        thread_info=True,
        stats=sample.stats,
    )


@pytest.fixture
def served() -> Iterator[tuple[Exporter, Address]]:
    """An exporter with that view, and where a web server serves it."""
    exporter = Exporter()
    exporter.publish(everything())
    server = WebServer([Address("127.0.0.1", 0)], App(exporter, lambda: True))
    server.start()
    try:
        [address] = server.addresses
        assert isinstance(address, Address)
        yield exporter, address
    finally:
        server.stop()


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
    """The configuration that we ship, for a server on another port, and in more of a hurry."""
    shipped = SCRAPE_CONFIG.read_text()
    changed = shipped.replace("127.0.0.1:9749", str(address)).replace(
        "interval: 15s", "interval: 1s"
    )
    assert changed.count(str(address)) == 1
    assert "interval: 1s" in changed
    return changed


# The text format too: a server that is told to ask for it.
TEXT_ONLY = "    scrape_protocols: [PrometheusText0.0.4]\n"


@pytest.mark.parametrize("command", PROMETHEUS.values(), ids=PROMETHEUS)
def test_prometheus_stores_every_name_exactly(
    command: Sequence[str], served: tuple[Exporter, Address], tmp_path: Path
) -> None:
    """A Prometheus that scrapes us gives back each hostile name from its API, character for character."""
    exporter, address = served
    with Prometheus(tmp_path, config=_config(address), command=command) as server:
        server.wait_for('up{job="threadwatch"} == 1')
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
        assert server.targets()["threadwatch"]["lastError"] == ""
        # a name is gone when its series is: it is not served from an older view
        exporter.publish(
            views.view(views.group("shop", {SeriesKey("t"): views.everything()}), sequence=4)
        )
        until(lambda: not server.query('threadwatch_threads{group="hostile"}'), "old series end")


@pytest.mark.parametrize("command", PROMETHEUS.values(), ids=PROMETHEUS)
def test_prometheus_knows_types_units_and_help(
    command: Sequence[str], served: tuple[Exporter, Address], tmp_path: Path
) -> None:
    """What each family is reaches the Prometheus that scrapes it, in the format that it asked for itself."""
    with Prometheus(tmp_path, config=_config(served[1]), command=command) as server:
        server.wait_for('up{job="threadwatch"} == 1')
        known = until(server.metadata, "metadata")
        for family in FAMILIES:
            # OpenMetrics names a family without its suffix; servers keep that name or the full one
            said = known.get(family.name) or known[family.metric().name]
            assert (said["type"], said["help"], said["unit"]) == (
                family.type,
                family.help,
                family.unit,
            )


def test_every_documented_query_runs(served: tuple[Exporter, Address], tmp_path: Path) -> None:
    """Each example of docs/metrics.md is a query that a Prometheus with our data answers."""
    page = (testbed.CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    queries = re.findall("```promql\n(.*?)```", page, re.DOTALL)
    assert len(queries) >= len(FAMILIES)
    with Prometheus(tmp_path, config=_config(served[1])) as server:
        # rates need two scrapes
        server.wait_for('count_over_time(up{job="threadwatch"}[5m]) > 1')
        answered = {query: server.query(query) for query in queries}
    # comparisons are alerts and may be quiet; everything else has something to show
    empty = [q for q, results in answered.items() if not results and not re.search(" [<>=]=? ?", q)]
    assert empty == []


def test_prometheus_reads_the_text_format_as_well(
    served: tuple[Exporter, Address], tmp_path: Path
) -> None:
    """Asked for the text format alone, it stores the same names."""
    config = _config(served[1]) + TEXT_ONLY
    with Prometheus(tmp_path, config=config, command=prometheus.IN_TESTBED) as server:
        server.wait_for('up{job="threadwatch"} == 1')
        found = server.query('threadwatch_threads_started_total{group="hostile"}')
        assert {result.labels["thread"] for result in found} == set(views.HOSTILE)
