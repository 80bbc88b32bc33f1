"""Counts the daemon's own polls and errors."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from threadwatch.errors import ReadError
from threadwatch.model.keys import HandoverResult
from threadwatch.model.view import POLL_BUCKETS, Stats


class PollStats:
    """Counts polls and errors. ``report`` is called with every error that is counted, for the log."""

    def __init__(self, report: Callable[[ReadError], None]) -> None:
        self._report = report
        self._errors: Counter[tuple[str, str]] = Counter()
        self._polls = 0
        self._skipped = 0
        self._cpu_ns = 0
        self._duration_ns = 0
        self._durations = [0] * (len(POLL_BUCKETS) + 1)
        self._reload_successful = True
        self._reload_time = time.time()

    def count(self, cpu_ns: int, duration_ns: int) -> None:
        """Count a poll."""
        self._polls += 1
        self._cpu_ns += cpu_ns
        self._duration_ns += duration_ns
        self._durations[bisect_left(POLL_BUCKETS, duration_ns / 1e9)] += 1

    def skip(self, polls: int) -> None:
        """Count polls that were due and are left out."""
        self._skipped += polls

    def reloaded(self, *, successful: bool) -> None:
        """Note a reload of the configuration."""
        self._reload_successful = successful
        if successful:
            self._reload_time = time.time()

    def count_errors(self, errors: list[ReadError]) -> None:
        """Count these errors, and report each; the list is empty afterwards."""
        for error in errors:
            self._errors[error.source, error.reason] += 1
            self._report(error)
        errors.clear()

    def view(
        self,
        samples: int,
        sample_cpu_ns: int,
        handed_over: Mapping[HandoverResult, int] | None = None,
    ) -> Stats:
        """Return all that has been counted, beside what samples have cost and what was handed over."""
        return Stats(
            polls=self._polls,
            polls_skipped=self._skipped,
            poll_cpu_ns=self._cpu_ns,
            poll_duration_ns=self._duration_ns,
            poll_durations=tuple(self._durations),
            handed_over=handed_over,
            samples=samples,
            sample_cpu_ns=sample_cpu_ns,
            read_errors=MappingProxyType(dict(self._errors)),
            reload_successful=self._reload_successful,
            reload_success_time=self._reload_time,
        )
