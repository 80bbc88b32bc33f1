"""Names a poll by its number and its times."""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """The number of a poll, and the times (CLOCK_MONOTONIC) when it and the one before began."""

    poll: int
    started_ns: int
    before_ns: int
