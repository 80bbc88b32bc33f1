"""What it costs to write a scrape's text, beside prometheus_client, which all exporters in Python have."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from benchmarks.estimate import Estimate, estimate, ratios
from benchmarks.report import Result, Table, against
from tests import views
from threadwatch.metrics.collector import collect
from threadwatch.metrics.exposition import Format, encode

_SAMPLES = 10_000
_ROUNDS, _ROUNDS_IN_FULL = 15, 60
_GOAL = 2 / 3
_WHAT = """\
The text of 10,000 samples, from metrics that have been collected. Both encoders write the same bytes and take
turns; CPU time of the thread. The ratio is that of each round. The goal is what makes an encoder of our own
worth having: two thirds of prometheus_client's time."""


class _Families(Collector):
    """Gives prometheus_client families that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Return the families."""
        return self._metrics


def theirs(metrics: list[Metric], form: Format) -> bytes:
    """Return what prometheus_client makes of the families."""
    registry = CollectorRegistry()
    registry.register(_Families(metrics))
    if form is Format.TEXT:
        return exposition.generate_latest(registry)
    made = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # has no types
    assert isinstance(made, bytes)
    return made


def run(*, full: bool) -> Result:
    """Measure both formats."""
    metrics = list(collect(views.large(_SAMPLES)))
    rows, raw = [], {}
    for form in Format:
        pairs = [
            (_cpu_s(lambda f=form: encode(metrics, f)), _cpu_s(lambda f=form: theirs(metrics, f)))  # type: ignore[misc]  # mypy cannot infer defaults of a lambda
            for _ in range(_ROUNDS_IN_FULL if full else _ROUNDS)
        ]
        ours_s, theirs_s = zip(*pairs, strict=True)
        ratio = estimate(ratios(ours_s, theirs_s))
        rows.append(
            (
                form.name,
                _ms(estimate(ours_s)),
                _ms(estimate(theirs_s)),
                ratio.text(3) + against(ratio.median, round(_GOAL, 3)),
            )
        )
        raw[form.name] = pairs
    columns = ("format", "threadwatch, ms", "prometheus_client, ms", "ratio")
    return Result("encoding", _WHAT, (Table("", columns, tuple(rows)),), raw)


def _cpu_s(function: Callable[[], object]) -> float:
    began_s = time.thread_time()
    function()
    return time.thread_time() - began_s


def _ms(seconds: Estimate) -> str:
    return seconds.scaled(1e3).text()
