"""What must hold while a daemon lives, judged from what was measured. Pure: nothing is asked or read here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TICK_S = 0.01
"""A thread that runs is behind by this much at most."""
NEWBORN_S = 0.11
"""What a process's newborn threads can have used before their names are known."""
OF_THE_WHOLE = 0.001


@dataclass(frozen=True, slots=True)
class GroupCpu:
    """One group at one scrape, in seconds."""

    name: str
    cpu_s: float
    threads_s: float
    running: int
    """Threads that run, or would if there were a CPU."""
    processes: int


def conservation(groups: Sequence[GroupCpu]) -> list[str]:
    """The groups whose threads do not add up to the CPU time of their processes."""
    wrong = []
    for group in groups:
        allowed_s = (
            OF_THE_WHOLE * group.cpu_s
            + TICK_S * max(group.running, 1)
            + NEWBORN_S * group.processes
        )
        open_s = group.cpu_s - group.threads_s
        if not -1e-6 <= open_s <= allowed_s:
            wrong.append(
                f"{group.name}: threads have {group.threads_s:.3f} s of {group.cpu_s:.3f} s"
            )
    return wrong


@dataclass(frozen=True, slots=True)
class Trend:
    """How a quantity went over a run, its beginning left out."""

    slope: float
    """Per minute, by the medians of two halves: an outlier says nothing about a leak."""
    first: float
    last: float
    """The medians of the first and the last quarter."""
    most: float

    def grows(self, *, share: float, amount: float) -> bool:
        """Whether the last quarter is above the first by more than this share and amount together."""
        return self.last > self.first * (1 + share) + amount


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """The trend of ``(minute, value)``; the first fifth is warming up."""
    settled = samples[len(samples) // 5 :]
    quarter = max(len(settled) // 4, 1)
    values = [value for _, value in settled]
    half = max(len(settled) // 2, 1)
    before, after = settled[:half], settled[half:] or settled[-1:]
    minutes = statistics.mean(m for m, _ in after) - statistics.mean(m for m, _ in before)
    rise = statistics.median(v for _, v in after) - statistics.median(v for _, v in before)
    return Trend(
        slope=rise / minutes if minutes > 0 else 0.0,
        first=statistics.median(values[:quarter]),
        last=statistics.median(values[-quarter:]),
        most=max(values),
    )


def tenths(samples: Sequence[tuple[float, float]]) -> list[int]:
    """The median of each tenth of ``(minute, value)``, in their order."""
    size = max(len(samples) // 10, 1)
    return [
        round(statistics.median(value for _, value in samples[at : at + size]))
        for at in range(0, len(samples) - size + 1, size)
    ]


def unexplained(errors: Mapping[tuple[str, str], float]) -> list[str]:
    """Read errors that nothing in a soak explains. Root is denied nothing, and limits are not reached."""
    return [
        f"{count:.0f} × {source} {reason}"
        for (source, reason), count in sorted(errors.items())
        if count and (source, reason) not in EXPLAINED
    ]


EXPLAINED: Mapping[tuple[str, str], str] = {
    ("mem", "eio"): "a thread state that was freed while it was read",
}
"""Read errors that targets which come and go bring with them."""
