"""Orders rows by a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from threadwatch.model.view import ThreadView
from threadwatch.top.figures import Figures


@dataclass(frozen=True, slots=True)
class Sort:
    """A way to order rows."""

    name: str
    """The name as ``--sort`` takes it."""
    key: str
    """The key that chooses it."""
    column: str
    """The column's title."""
    what: str
    value: Callable[[Figures | ThreadView], float | str | None]
    falling: bool = True
    """The largest first, unless reversed."""


def _cpu_time(figures: Figures | ThreadView) -> float:
    return figures.user_ns + figures.system_ns


def _ratio(name: str) -> Callable[[Figures | ThreadView], float | None]:
    def value(figures: Figures | ThreadView) -> float | None:
        ratio: float | None = getattr(figures, name)
        return None if ratio is None else round(ratio, 3)  # as it is shown: noise changes no order

    return value


SORTS = (
    Sort("cpu", "P", "CPU %", "CPU", _ratio("cpu_ratio")),
    Sort("held", "G", "GIL HELD", "GIL held", _ratio("gil_held_ratio")),
    Sort("wait", "W", "GIL WAIT", "wait for the GIL", _ratio("gil_wait_ratio")),
    Sort("ready", "R", "READY", "wait for a CPU", _ratio("runqueue_ratio")),
    Sort("time", "T", "CPU TIME", "CPU time", _cpu_time),
    Sort("age", "A", "AGE", "age", lambda figures: figures.start_ticks, falling=False),
    Sort("state", "S", "STATE", "state", lambda figures: figures.state, falling=False),
    Sort("tid", "N", "TID", "TID", lambda figures: figures.tid, falling=False),
)


def sort_key(sort: Sort, *, reverse: bool) -> Callable[[Figures | ThreadView], tuple[object, ...]]:
    """Return a key for sorting: unknown values come last, and equal ones keep their order."""
    value = sort.value
    falling = sort.falling != reverse

    def order(figures: Figures | ThreadView) -> tuple[object, ...]:
        by = value(figures)
        if by is None:
            return 1, 0, figures.tid
        if isinstance(by, str):
            # The reverse, letter by letter
            return 0, tuple(-ord(c) for c in by) if falling else by, figures.tid
        return 0, -by if falling else by, figures.tid

    return order
