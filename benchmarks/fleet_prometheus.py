"""A real Prometheus that is measured: what it holds, what it uses, and what a query costs it."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from benchmarks.running import DEADLINE, process_clock_ns, resident_bytes
from tests import prometheus
from tests.harness import until
from tests.watched import RULES

JOB = "threadwatch"
RECEIVER = (*prometheus.IN_TESTBED, "--web.enable-remote-write-receiver")
_VALUE = re.compile(r"^([a-z_]+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """One host as Prometheus scrapes it."""

    instance: str
    port: int
    copy: int = 0
    """0 for the daemon itself; else it is scraped once more, as another host, whose groups differ as well."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a Prometheus has done until a moment, and holds then."""

    seconds: float
    cpu_seconds: float
    samples: float
    series: float
    resident: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query has cost."""

    series: int
    cpu_seconds: float
    real_seconds: float
    peak_samples: int
    """Samples that were in memory at once; a query of more than 50 million is refused."""


class Prometheus(prometheus.Prometheus):
    """Adds measurements."""

    @property
    def pid(self) -> int:
        """Return its PID."""
        assert self._process is not None
        return self._process.pid

    def snapshot(self) -> Snapshot:
        """Return its own account of samples and series, and what the kernel says of it."""
        own = self.own_metrics()
        return Snapshot(
            time.monotonic(),
            process_clock_ns(self.pid) / 1e9,
            own['prometheus_tsdb_head_samples_appended_total{type="float"}'],
            own["prometheus_tsdb_head_series"],
            resident_bytes(self.pid),
        )

    def own_metrics(self) -> dict[str, float]:
        """Return what it says of itself, by name and labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/metrics", timeout=DEADLINE
        ) as response:
            text = response.read().decode()
        return {name + labels: float(value) for name, labels, value in _VALUE.findall(text)}

    def stop_scraping(self) -> None:
        """Have it read a configuration without targets and rules, so that what follows is queries alone."""
        before = self.own_metrics()["prometheus_config_last_reload_success_timestamp_seconds"]
        self.config.write_text("{}\n")
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

        def reloaded() -> bool:
            now = self.own_metrics()["prometheus_config_last_reload_success_timestamp_seconds"]
            return now != before

        until(reloaded, "Prometheus has read its configuration again")

    def ask(self, query: str, at: float, over: float = 0.0, step: float = 15.0) -> Answer:
        """Answer a query as of a moment, or over seconds before it, and say what that took."""
        asked = {"query": query, "stats": "all"}
        asked |= {"start": at - over, "end": at, "step": step} if over else {"time": at}  # type: ignore[dict-item]  # numbers are words in an address
        path = f"/api/v1/query{'_range' if over else ''}?{urllib.parse.urlencode(asked)}"
        cpu, began = process_clock_ns(self.pid), time.monotonic()
        data: dict[str, Any] = self._get(path)
        real = time.monotonic() - began
        used = (process_clock_ns(self.pid) - cpu) / 1e9
        result = data["result"]
        count = len(result) if isinstance(result, list) else 1
        return Answer(count, used, real, data["stats"]["samples"]["peakSamples"])


def scrape_config(
    targets: Sequence[Target], name: str = JOB, metric_relabel: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return a job for each number of a copy, in Prometheus' own form; all are called ``name``."""
    jobs = []
    for copy in sorted({target.copy for target in targets}):
        # The last digit of a group's container is the copy's: no two hosts have a group in common.
        apart = {
            "source_labels": ["group"],
            "regex": "(.+).",
            "target_label": "group",
            "replacement": f"${{1}}{copy:x}",
        }
        jobs.append(
            {
                "job_name": f"{name}-{copy}",
                "relabel_configs": [{"target_label": "job", "replacement": name}],
                "metric_relabel_configs": [*([apart] if copy else []), *metric_relabel],
                "static_configs": [
                    {"targets": [f"127.0.0.1:{t.port}"], "labels": {"instance": t.instance}}
                    for t in targets
                    if t.copy == copy
                ],
            }
        )
    return jobs


def config(
    jobs: Sequence[Mapping[str, Any]],
    interval: float,
    *,
    rules: bool = False,
    write_to: int | None = None,
) -> str:
    """Return the text of a configuration; ``write_to`` is the port of a receiver."""
    seconds = f"{1000 * interval:.0f}ms"
    made: dict[str, Any] = {
        "global": {"scrape_interval": seconds, "evaluation_interval": seconds},
        "scrape_configs": list(jobs),
    }
    if rules:
        made["rule_files"] = [str(RULES)]
    if write_to is not None:
        made["remote_write"] = [
            {
                "url": f"http://127.0.0.1:{write_to}/api/v1/write",
                "queue_config": {"batch_send_deadline": "1s"},
            }
        ]
    return json.dumps(made)  # JSON is YAML


def rules() -> list[str]:
    """Return the expressions of our rules that are evaluated at each interval."""
    group = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]
    return [rule["expr"] for rule in group["rules"]]
