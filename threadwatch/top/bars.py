"""Draws shares of time as cells of text. Every state has a letter, so bars do not depend on colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from threadwatch.model.states import NAMES, STATES, Kind, of_kind

LETTERS: Mapping[str, str] = MappingProxyType({state.name: state.top.letter for state in STATES})

MEANINGS: Mapping[str, str] = MappingProxyType({state.name: state.top.meaning for state in STATES})

BUSY = frozenset(of_kind(Kind.RUNNING, Kind.KEPT, Kind.HALTED))
"""The states that a person looks for: drawn as solid blocks; every wait as a thin line."""


def divide(shares: Mapping[str, float], cells: int) -> Sequence[tuple[str, int]]:
    """Divide ``cells`` among the states, in the order of NAMES, by largest remainder.

    If the shares add up to less than 1, the rest of the cells stays empty.
    """
    exact = [(state, shares[state] * cells) for state in NAMES if shares.get(state, 0.0) > 0.0]
    counts = {state: int(part) for state, part in exact}
    total = min(round(sum(part for _, part in exact)), cells)
    by_remainder = sorted(exact, key=lambda entry: int(entry[1]) - entry[1])
    for state, _ in by_remainder[: max(total - sum(counts.values()), 0)]:
        counts[state] += 1
    return [(state, number) for state, number in counts.items() if number]


def letters(state: str, cells: int) -> str:
    """Return ``cells`` of one state, without colours: ``RRRR``, ``S───``."""
    letter = LETTERS[state]
    return letter * cells if state in BUSY else letter + "─" * (cells - 1)
