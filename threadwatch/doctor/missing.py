"""What ``doctor`` finds missing, and how it puts that into words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from threadwatch.doctor.findings import Finding
from threadwatch.doctor.reasons import Remedy
from threadwatch.words.text import printable

_MOST_NAMED = 6
"""PIDs, or names, that a sentence lists."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that is not as it should be."""

    kind: str
    """A short word for programs."""
    text: str
    pids: tuple[int, ...] = ()
    """The processes that it is about."""
    ways: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the search for processes has come."""

    everything: bool
    """All processes were asked for, not only some by name."""
    watched: int = 0
    """Processes that were found."""
    unreadable: int = 0
    """Processes that are listed, but of which not even the name can be read."""
    unknown: int = 0
    """Processes whose program is hidden: they may be Python."""
    left_out: int = 0
    """Processes that were not looked at for want of file descriptors."""


def processes(findings: Sequence[Finding]) -> str:
    """``3 processes (shop, celery)``, ``PID 4711 (shop)``."""
    names = list(dict.fromkeys(printable(finding.application) for finding in findings))
    if len(findings) == 1:
        return f"PID {findings[0].pid} ({names[0]})"
    return f"{len(findings)} processes ({listed(names)})"


def listed(items: Collection[object]) -> str:
    """The first of them, and how many more there are."""
    shown = [str(item) for item in items][:_MOST_NAMED]
    more = len(items) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def counted(number: int, one: str, many: str) -> str:
    """``1 process``, ``1,234 processes``."""
    return f"{number:,} {one if number == 1 else many}"
