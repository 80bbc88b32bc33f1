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
from benchmarks.fleet_prometheus import JOB, RECEIVER, Prometheus, config, scrape_config
from benchmarks.running import CHECKOUT, BenchmarkError
from tests import prometheus
from tests.harness import until

PAGE = CHECKOUT / "docs" / "scaling.md"
_ABOVE = "a Prometheus above others"
_ACCOUNT = "scrape_samples_post_metric_relabeling"
"""How many samples a scrape had, as Prometheus itself says."""
_LATELY = "1m"
_TOOK = "scrape_duration_seconds"


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has been compared at the receiver of an agent."""

    scrapes: int
    """Scrapes of which the receiver has as many samples as the agent says that they had."""
    samples: int
    """Of these scrapes."""
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
    found = {
        result.labels["job"]: result.value
        for result in server.wait_for(f"avg by (job) ({_ACCOUNT})")
    }
    return {name: found[name] for name in ("everything", *blocks("metric_relabel_configs"))}


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

    Of the last scrapes, the number of samples is compared with the agent's own account of it. Of one that
    lies between two equal answers of the daemon, every single value is.
    """
    of_node = f'{{job="{JOB}", instance="{node.target().instance}"}}'
    pages: list[tuple[float, bytes]] = []

    def between() -> tuple[float, bytes] | None:
        pages.append((time.time(), node.get("/metrics", **AS_PROMETHEUS)))
        known = [receiver.samples(name + of_node, _LATELY) for name in (_ACCOUNT, _TOOK)]
        if not all(known):
            return None
        for moment, took in sorted(known[1][0].values.items())[scrapes - 1 :]:
            if moment not in known[0][0].values:
                continue
            before = [page for at, page in pages if at < moment]
            after = [page for at, page in pages if at > moment + took]
            if before and after and before[-1] == after[0]:
                return moment, before[-1]
        return None

    found = until(between, "a scrape between two equal answers", every=0.2)
    assert found is not None
    moment, page = found
    samples = {at: each for at, each in _by_time(receiver, of_node).items() if at <= moment}
    accounts = [_complete(each) for each in samples.values()]
    got = {key: value for key, value in samples[moment].items() if not _of_scrape(key)}
    if got != (said := exposed(page)):
        both = {key: (got.get(key), said.get(key)) for key in got.keys() | said.keys()}
        differ = [(key, pair) for key, pair in both.items() if pair[0] != pair[1]]
        raise BenchmarkError(f"the daemon said something else: {differ}")
    return Arrived(len(accounts), sum(accounts), len(got))


def _complete(samples: Mapping[Series, float]) -> int:
    """Return how many samples of a scrape have arrived; BenchmarkError if it had more."""
    count = sum(not _of_scrape(key) for key in samples)
    account = samples[_ACCOUNT, frozenset()]
    if count != account:
        raise BenchmarkError(f"{count} samples of {account:.0f} have arrived")
    return count


def _of_scrape(key: Series) -> bool:
    return key[0] == "up" or key[0].startswith("scrape_")


def _by_time(receiver: Prometheus, selector: str) -> dict[float, dict[Series, float]]:
    """Return the samples of each scrape, by its time; without what Prometheus has added to the labels."""
    found: dict[float, dict[Series, float]] = {}
    for series in receiver.samples(selector, _LATELY):
        labels = dict(series.labels)
        name = labels.pop("__name__")
        kept = frozenset((k, v) for k, v in labels.items() if k not in {"job", "instance"})
        for moment, value in series.values.items():
            found.setdefault(moment, {})[name, kept] = value
    return found


@contextlib.contextmanager
def federated(source: Prometheus, place: Path, interval: float) -> Iterator[Prometheus]:
    """Yield a Prometheus that takes from another what the page says."""
    place.mkdir()
    (job,) = blocks("scrape_configs")[_ABOVE]
    job = {**job, "static_configs": [{"targets": [f"127.0.0.1:{source.port}"]}]}
    with Prometheus(place, config=config([job], interval), command=prometheus.IN_TESTBED) as server:
        yield server


def taken(server: Prometheus, source: Prometheus) -> tuple[float, float]:
    """Return how many series are federated, in how many seconds; BenchmarkError if one is no source's."""
    (count,) = server.wait_for('scrape_samples_scraped{job="federate"} > 0')
    (seconds,) = server.query('scrape_duration_seconds{job="federate"}')
    (job,) = blocks("scrape_configs")[_ABOVE]
    for selector in job["params"]["match[]"]:
        theirs = {frozenset(each.items()) for each in source.series(selector)}
        ours = {frozenset(each.items()) for each in server.series(selector)}
        if not ours or not ours <= theirs:
            raise BenchmarkError(f"{selector} is not what was asked for: {len(ours - theirs)}")
    return count.value, seconds.value
