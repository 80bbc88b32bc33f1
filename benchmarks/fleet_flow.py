"""What a real Prometheus does with a fleet's samples: relabeling, remote write, federation."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fleet_nodes import AS_PROMETHEUS, Node, Series, exposed
from benchmarks.fleet_prometheus import RECEIVER, Prometheus, config, scrape_config
from benchmarks.running import CHECKOUT, BenchmarkError
from tests import prometheus
from tests.harness import until

PAGE = CHECKOUT / "docs" / "scaling.md"
_OF_SCRAPES = re.compile(r"up|scrape_\w+")
"""Prometheus' own series of each target."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has been compared at the receiver of an agent."""

    scrapes: int
    """Scrapes of which the receiver has as many samples as the agent has said that it scraped."""
    samples: int
    equal: int
    """Samples of one scrape whose every value is that of the daemon's page at the time."""


def blocks(key: str) -> dict[str, Any]:
    """Return what the YAML examples of the page have under a key, by the comment in their first line."""
    found = re.findall(
        r"```yaml\n# ([^\n]+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    read = {name: yaml.safe_load(text) for name, text in found}
    return {name: value[key] for name, value in read.items() if key in value}


@contextlib.contextmanager
def cut(nodes: Sequence[Node], place: Path, interval: float) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes the hosts once for each relabeling of the page: each is a job."""
    place.mkdir()
    targets = [node.target() for node in nodes]
    jobs = scrape_config(targets, "everything")
    for name, relabel in blocks("metric_relabel_configs").items():
        jobs += scrape_config(targets, name, relabel)
    with Prometheus(place, config=config(jobs, interval), command=prometheus.IN_TESTBED) as server:
        yield server


def left(server: Prometheus) -> dict[str, float]:
    """Return how many series of a host each job keeps, by its name."""
    query = "avg by (job) (scrape_samples_post_metric_relabeling)"
    return {result.labels["job"]: result.value for result in server.wait_for(query)}


@contextlib.contextmanager
def sent_on(
    nodes: Sequence[Node], place: Path, interval: float
) -> Iterator[tuple[Prometheus, Prometheus]]:
    """Yield a Prometheus in agent mode that scrapes the hosts, and the one that it writes to."""
    for name in ("receiver", "agent"):
        (place / name).mkdir(parents=True)
    nothing = config([], interval)
    with Prometheus(place / "receiver", config=nothing, command=RECEIVER) as receiver:
        jobs = scrape_config([node.target() for node in nodes])
        text = config(jobs, interval, write_to=receiver.port)
        with Prometheus(
            place / "agent", config=text, command=prometheus.IN_TESTBED, agent=True
        ) as agent:
            yield agent, receiver


def arrived(receiver: Prometheus, node: Node, scrapes: int) -> Arrived:
    """Compare what has arrived of a host with what was scraped; BenchmarkError where they differ.

    Of each scrape, the number of samples is compared with the agent's own account of it. Of one scrape that
    lies between two equal answers of the daemon, every single value is.
    """
    of_node = f'{{job="threadwatch", instance="{node.target().instance}"}}'
    pages: list[tuple[float, bytes]] = []

    def between() -> tuple[dict[float, dict[Series, float]], float, bytes] | None:
        pages.append((time.time(), node.get("/metrics", **AS_PROMETHEUS)))
        found = _by_time(receiver, of_node)
        whole = [moment for moment, samples in found.items() if _account(samples) is not None]
        if len(whole) < scrapes:
            return None
        for moment in whole:
            before = [page for at, page in pages if at < moment]
            after = [page for at, page in pages if at > moment + 0.3]
            if before and after and before[-1] == after[0]:
                return found, moment, before[-1]
        return None

    result = until(between, "a scrape between two equal answers", every=0.2)
    assert result is not None
    found, moment, page = result
    accounts = {at: _account(samples) for at, samples in found.items()}
    for at, samples in found.items():
        scraped = sum(not _OF_SCRAPES.fullmatch(name) for name, _ in samples)
        if accounts[at] is not None and scraped != accounts[at]:
            raise BenchmarkError(f"{scraped} samples of {accounts[at]:.0f} have arrived")
    got = {key: value for key, value in found[moment].items() if not _OF_SCRAPES.fullmatch(key[0])}
    if got != (said := exposed(page)):
        wrong = {key: (got.get(key), said.get(key)) for key in got.keys() | said.keys()}
        raise BenchmarkError(
            f"{[each for each in wrong.items() if len(set(each[1])) > 1]} have changed"
        )
    complete = [number for number in accounts.values() if number is not None]
    return Arrived(len(complete), int(sum(complete)), len(got))


def _by_time(receiver: Prometheus, selector: str) -> dict[float, dict[Series, float]]:
    """Return the samples of each scrape, by its time; without what Prometheus has added to the labels."""
    found: dict[float, dict[Series, float]] = {}
    for series in receiver.samples(selector):
        labels = dict(series.labels)
        name = labels.pop("__name__")
        kept = frozenset((k, v) for k, v in labels.items() if k not in {"job", "instance"})
        for moment, value in series.values.items():
            found.setdefault(moment, {})[name, kept] = value
    return found


def _account(samples: Mapping[Series, float]) -> float | None:
    """Return how many samples a scrape had, as the agent says; None if that has not arrived."""
    return samples.get(("scrape_samples_post_metric_relabeling", frozenset()))


@contextlib.contextmanager
def federated(source: Prometheus, place: Path, interval: float) -> Iterator[Prometheus]:
    """Yield a Prometheus that takes from another what the page says."""
    place.mkdir()
    ((job,),) = blocks("scrape_configs").values()
    job = {**job, "static_configs": [{"targets": [f"127.0.0.1:{source.port}"]}]}
    with Prometheus(place, config=config([job], interval), command=prometheus.IN_TESTBED) as server:
        yield server


def taken(server: Prometheus, source: Prometheus) -> tuple[float, float]:
    """Return how many series are federated, in how many seconds; BenchmarkError if one is no source's."""
    (count,) = server.wait_for('scrape_samples_scraped{job="federate"} > 0')
    (seconds,) = server.query('scrape_duration_seconds{job="federate"}')
    (job,) = next(iter(blocks("scrape_configs").values()))
    for selector in job["params"]["match[]"]:
        theirs = {frozenset(each.items()) for each in source.series(selector)}
        ours = {frozenset(each.items()) for each in server.series(selector)}
        if not ours or not ours <= theirs:
            raise BenchmarkError(f"{selector} is not what was asked for: {len(ours - theirs)}")
    return count.value, seconds.value
