"""Puts what ``doctor`` finds missing into words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from threadwatch.doctor.findings import Finding
from threadwatch.doctor.reasons import Remedy
from threadwatch.words.text import printable

_MOST_NAMED = 6
"""The most PIDs, or names, in a sentence."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that is missing, or wrong."""

    kind: str
    """A short word for programs."""
    text: str
    pids: tuple[int, ...] = ()
    """The processes that it concerns."""
    ways: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """The extent of the search for processes."""

    everything: bool
    """Whether all processes were asked for, and not only some by name."""
    watched: int = 0
    """Processes that were found."""
    unreadable: int = 0
    """Listed processes of which not even the name can be read."""
    unknown: int = 0
    """Processes whose program is hidden: they may be Python."""
    left_out: int = 0
    """Processes that were left out for lack of file descriptors."""


def processes(findings: Sequence[Finding]) -> str:
    """Return a phrase: ``3 processes (shop, celery)``, ``PID 4711 (shop)``."""
    names = list(dict.fromkeys(printable(finding.application) for finding in findings))
    if len(findings) == 1:
        return f"PID {findings[0].pid} ({names[0]})"
    return f"{len(findings)} processes ({listed(names)})"


def listed(items: Collection[object]) -> str:
    """Return the first items, and the number of the others."""
    shown = [str(item) for item in items][:_MOST_NAMED]
    more = len(items) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
