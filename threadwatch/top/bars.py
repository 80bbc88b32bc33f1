"""Shares of time as cells of text: every state has a letter, so that nothing depends on colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from threadwatch.model.view import STATES

LETTERS: Mapping[str, str] = MappingProxyType(
    {
        "running": "R",
        "runnable": "Q",
        "gil": "G",
        "lock": "L",
        "poll": "P",
        "socket": "N",
        "pipe": "I",
        "file": "F",
        "sleep": "S",
        "child": "C",
        "disk": "D",
        "stopped": "T",
        "zombie": "Z",
        "sleeping": "W",
        "other": "O",
    }
)

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "running": "uses a CPU",
        "runnable": "ready, queues for a CPU",
        "gil": "waits for the GIL",
        "lock": "waits for a lock, a queue, an event",
        "poll": "waits for any of several events",
        "socket": "waits for the network",
        "pipe": "waits for a pipe",
        "file": "waits for a file",
        "sleep": "waits for a time",
        "child": "waits for a child process",
        "disk": "waits for a device, cannot be stopped",
        "stopped": "is stopped, or traced",
        "zombie": "has ended",
        "sleeping": "waits, for what cannot be seen",
        "other": "waits for something else",
    }
)

BUSY = frozenset({"running", "runnable", "gil", "disk", "stopped", "zombie"})
"""What a person looks for: drawn as solid blocks; every other wait as a thin line."""


def divide(shares: Mapping[str, float], cells: int) -> Sequence[tuple[str, int]]:
    """How many of ``cells`` each state gets, in the order of STATES; by largest remainder.

    What the shares lack of 1 gets no cell.
    """
    exact = [(state, shares[state] * cells) for state in STATES if shares.get(state, 0.0) > 0.0]
    counts = {state: int(part) for state, part in exact}
    total = min(round(sum(part for _, part in exact)), cells)
    by_remainder = sorted(exact, key=lambda entry: int(entry[1]) - entry[1])
    for state, _ in by_remainder[: max(total - sum(counts.values()), 0)]:
        counts[state] += 1
    return [(state, number) for state, number in counts.items() if number]


def letters(state: str, cells: int) -> str:
    """``cells`` of one state, without colours: ``RRRR``, ``S───``."""
    letter = LETTERS[state]
    return letter * cells if state in BUSY else letter + "─" * (cells - 1)
