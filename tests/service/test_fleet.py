"""A small fleet: real daemons and Prometheus 3, measured as the benchmark measures fifty."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks import fleet
from benchmarks.fleet import Measured, Plan
from benchmarks.fleet_flow import blocks


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Return what two daemons cost that are scraped as 30 hosts."""
    return fleet.measure(Plan((30,), hosts=2, interval=0.5, range=4, federated=30, asked=1))


def test_series_grow_with_hosts(measured: Measured) -> None:
    """Each host has series of its own in Prometheus, and so has a copy: the exposed and the recorded ones."""
    (thirty,) = measured.scraping
    assert thirty.series > 30 * thirty.scraped


def test_no_panel_has_a_series_for_each_host(measured: Measured) -> None:
    """On 30 hosts with 180 groups, each query of Fleet and of threadwatch itself has 50 series at most."""
    assert len(measured.panels) > 15
    for panels in (measured.panels, measured.panels_of_daemons):
        shown = {panel: asked[-1].series for panel, asked in panels.items()}
        assert {panel: series for panel, series in shown.items() if series > 50} == {}
    assert measured.panels["CPU by host"][-1].series == 10
    assert measured.panels["Each application"][-1].series == 50
    of_daemons = ("CPU", "Memory", "Polls", "Samples per scrape", "File descriptors")
    assert {measured.panels_of_daemons[panel][-1].series for panel in of_daemons} == {10}


def test_relabelings_cut_series(measured: Measured) -> None:
    """Each relabeling of docs/scaling.md leaves fewer series than the one before."""
    left = [measured.left[name] for name in ("everything", *blocks("metric_relabel_configs"))]
    assert len(left) == 4
    assert all(less < more for more, less in pairwise(left)), measured.left


def test_what_an_agent_sends_arrives(measured: Measured) -> None:
    """Of three scrapes all samples have arrived, of one with every value; measuring compares them."""
    assert measured.arrived.scrapes >= 3
    assert measured.arrived.equal > 1000


def test_what_is_federated(measured: Measured) -> None:
    """What docs/scaling.md federates are series of groups, a small part of all."""
    count, _ = measured.federated
    everything = 30 * measured.left["everything"]
    assert 30 * 6 * 4 < count < 0.1 * everything
