"""Makes the samples of metric families, in prometheus_client's terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import overload

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from threadwatch.metrics.exposition import format_number
from threadwatch.metrics.families import Family
from threadwatch.model.keys import SeriesKey

Labels = dict[str, str]


@overload
def seconds(ns: int) -> float: ...
@overload
def seconds(ns: None) -> None: ...
@overload
def seconds(ns: int | None) -> float | None: ...
def seconds(ns: int | None) -> float | None:
    """Return nanoseconds as seconds; None stays None."""
    # One correctly rounded division of integers: the result never falls while ns grows.
    return None if ns is None else ns / 1_000_000_000


def labels_of(group: str, key: SeriesKey) -> Labels:
    """Return the labels of a thread series."""
    labels = {"group": group, "thread": key.thread}
    if key.pid is not None:
        labels["pid"] = str(key.pid)
    if key.tid is not None:
        labels["tid"] = str(key.tid)
    return labels


def plain(family: Family, values: Iterable[tuple[Labels, float | None]]) -> Metric:
    """Return a family of one value per set of labels."""
    metric: Metric = family.metric()
    metric.samples = [
        Sample(family.name, labels, value) for labels, value in values if value is not None
    ]
    return metric


def histogram(
    family: Family,
    bounds: Sequence[float],
    values: Iterable[tuple[Labels, Sequence[int], int]],
) -> Metric:
    """Return a histogram per set of labels, of counts between the bounds (not cumulative) and a sum in ns.

    The last count is of what is above all bounds. No counts are all 0.
    """
    metric = family.metric()
    names = [*map(format_number, (*bounds, float("inf")))]
    for labels, counts, sum_ns in values:
        totals = [*accumulate(counts or (0,) * len(names))]
        for bound, total in zip(names, totals, strict=True):
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, total)
        metric.add_sample(f"{family.name}_count", labels, totals[-1])
        metric.add_sample(f"{family.name}_sum", labels, sum_ns / 1_000_000_000)
    return metric
