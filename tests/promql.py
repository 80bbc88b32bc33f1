"""Takes a PromQL expression apart, as far as tests need it. Prometheus itself says whether it is valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from threadwatch.metrics.families import FAMILIES

_NAME = r"(?:threadwatch_|process_|scrape_|thread:|group:)[\w:]+\w|\bup\b"
_SELECTOR = re.compile(rf'(?P<metric>{_NAME})(?P<matchers>\{{(?:[^"}}]|"(?:[^"\\]|\\.)*")*\}})?')
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([\w, ]*)\)")

TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus adds to everything that it scrapes."""
SCRAPED = frozenset({"up", "scrape_samples_scraped"})
"""Prometheus' own series of each target."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, with the matchers of its labels as (name, operator, value)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    start: int
    end: int


def selectors(expression: str) -> Iterator[Selector]:
    """Yield every selector of an expression."""
    for match in _SELECTOR.finditer(expression):
        matchers = tuple(_MATCHER.findall(match["matchers"] or ""))
        yield Selector(match["metric"], matchers, match.start(), match.end())


def grouping_labels(expression: str) -> set[str]:
    """Return every label that an aggregation or a match names."""
    named = (label.strip() for inside in _LABELS.findall(expression) for label in inside.split(","))
    return {label for label in named if label}


def known() -> dict[str, frozenset[str]]:
    """Return the labels of everything that can be asked for, by the name that it has in a query."""
    found = dict.fromkeys(SCRAPED, TARGET_LABELS)
    for family in FAMILIES:
        labels = TARGET_LABELS | set(family.labels)
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = labels | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[family.name] = labels
    return found
