"""The daemon's metrics, by one label."""

from __future__ import annotations

import re
from collections.abc import Mapping

Series = Mapping[str, float]


def series(metrics: str, metric: str, key: str, **wanted: str) -> Series:
    """Return the values of a metric with these labels, by the label ``key``, added up over all others."""
    found: dict[str, float] = {}
    for inside, value in re.findall(rf"^{metric}{{(.*)}} (\S+)$", metrics, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        if wanted.items() <= labels.items():
            found[labels.get(key, "")] = found.get(labels.get(key, ""), 0.0) + float(value)
    return found
