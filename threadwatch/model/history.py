"""Defines the CPU use of the last minutes, as one poll hands it to the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from threadwatch.model.keys import ProcessKey


@dataclass(frozen=True, slots=True)
class Trace:
    """CPU use over time of a process or thread: a ring of slots."""

    first: int
    """The step in which its values begin."""
    last: int
    """The step of the newest value that is not 0."""
    step: int
    """The current step."""
    ring: bytes
    """Thousandths of a CPU, as unsigned 16-bit numbers: that of step ``n`` at ``n`` modulo their number."""

    def per_mille(self) -> list[int]:
        """Return a value for each step up to now, oldest first: thousandths of a CPU."""
        values = memoryview(self.ring).cast("H")
        size = len(values)
        return [
            values[step % size] if step <= self.last else 0
            for step in range(max(self.first, self.step - size) + 1, self.step + 1)
        ]


@dataclass(frozen=True, slots=True)
class ProcessHistory:
    """The last minutes of a process and its threads."""

    cpu: Trace
    threads: Mapping[tuple[int, int], Trace]
    """By TID and start time; threads that have not run have none."""


@dataclass(frozen=True, slots=True)
class HistoryView:
    """The last minutes of every process that is watched."""

    step_ns: int
    """The length of a step."""
    steps: int
    """How many steps are kept."""
    monotonic_ns: int
    """CLOCK_MONOTONIC at the end of the last step."""
    groups: Mapping[str, Trace]
    processes: Mapping[ProcessKey, ProcessHistory]
