"""What must hold while a daemon lives, judged from what was measured. Pure: nothing is asked or read here."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.samples import Sample

from threadwatch.model.keys import UNATTRIBUTED
from threadwatch.model.states import AWAKE

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
    nobody_s: float = 0.0
    """Of the threads' time, what no name could be given to."""


def groups(samples: Iterable[Sample]) -> list[GroupCpu]:
    """Return the groups in an exposition."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for sample in samples:
        group = found[sample.labels.get("group", "")]
        match sample.name:
            case "threadwatch_thread_cpu_seconds_total":
                group["threads"] += sample.value
                if sample.labels["thread"] == UNATTRIBUTED:
                    group["nobody"] += sample.value
            case "threadwatch_group_cpu_seconds_total":
                group["cpu"] = sample.value
            case "threadwatch_group_processes":
                group["processes"] = sample.value
            case "threadwatch_threads":
                if sample.labels["state"] in AWAKE:
                    group["running"] += sample.value
            case _:
                pass
    return [
        GroupCpu(
            name, g["cpu"], g["threads"], round(g["running"]), round(g["processes"]), g["nobody"]
        )
        for name, g in found.items()
        if "cpu" in g
    ]


def conservation(groups: Sequence[GroupCpu]) -> list[str]:
    """Return the groups whose threads do not add up to the CPU time of their processes."""
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
        """Return whether the last quarter is above the first by more than this share and amount together."""
        return self.last > self.first * (1 + share) + amount


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of ``(minute, value)``; the first fifth is warming up."""
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


def falls(values: Mapping[float, float], expire_s: float) -> list[str]:
    """Return where a counter falls, by its values at times in seconds.

    Not where it was absent for as long as series take to expire: then it starts anew, as it should.
    """
    return [
        f"{before:g} at {then:.0f}, {after:g} at {now:.0f}"
        for (then, before), (now, after) in pairwise(sorted(values.items()))
        if after < before and now - then < expire_s - 10
    ]


def tenths(samples: Sequence[tuple[float, float]]) -> list[int]:
    """Return the median of each tenth of ``(minute, value)``, in their order."""
    size = max(len(samples) // 10, 1)
    return [
        round(statistics.median(value for _, value in samples[at : at + size]))
        for at in range(0, len(samples) - size + 1, size)
    ]


_AT_ONCE = 5
"""Targets at one time, at least."""


def unexplained(errors: Mapping[tuple[str, str], float], polls: float = 0) -> list[str]:
    """Read errors that nothing in a soak explains. Root is denied nothing, and limits are not reached.

    Reads that were given up for their deadline are explained by a machine that has no CPU for the
    reader: one in fifty polls. One such moment can meet every target that there is, so in a few polls there
    may be as many.
    """
    wrong = [
        f"{count:.0f} × {source} {reason}"
        for (source, reason), count in sorted(errors.items())
        if count and (source, reason) not in EXPLAINED and reason != "timeout"
    ]
    late = sum(count for (_, reason), count in errors.items() if reason == "timeout")
    if late > max(polls / 50, _AT_ONCE):
        wrong.append(f"{late:.0f} × timeout in {polls:.0f} polls")
    return wrong


EXPLAINED: Mapping[tuple[str, str], str] = {
    ("mem", "eio"): "a thread state that was freed while it was read",
}
"""Read errors that targets which come and go bring with them."""


def explanation(source: str, reason: str) -> str:
    """Return why there are such read errors, as far as it is known."""
    if reason == "timeout":
        return "given up for its deadline: no CPU for the reader in time"
    return EXPLAINED.get((source, reason), "unexplained")
