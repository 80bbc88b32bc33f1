"""Tells whether polls get on: ``/-/healthy`` and ``/-/ready`` answer by that.

A daemon that answers requests but has stopped polling shows old numbers, and has to be started
again. systemd learns that from its watchdog; container engines and Kubernetes ask these paths.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Health:
    """The last progress of the thread that polls. That thread writes; any thread may ask."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Polls begin now, and may take any time. ``now_ns``: a clock that only runs forward."""
        self._now_ns = now_ns
        self._last_ns = now_ns()
        self._patience_ns: int | None = None
        self.ready = False
        """Whether a poll has been completed."""

    def expect_polls(self, patience_ns: int) -> None:
        """Allow a poll this long from now on, the wait for it included."""
        self._patience_ns = patience_ns

    def getting_on(self) -> None:
        """Note a step of the first poll."""
        self._last_ns = self._now_ns()

    def polled(self) -> None:
        """Note a complete poll."""
        self._last_ns = self._now_ns()
        self.ready = True

    def complaint(self) -> str:
        """Return what is wrong, as the end of a sentence; empty if polls get on."""
        silent_ns = self._now_ns() - self._last_ns
        if self._patience_ns is None or silent_ns <= self._patience_ns:
            return ""
        what = "poll was complete" if self.ready else "step of the first poll was made"
        return f"polls hang: the last {what} {silent_ns // 1_000_000_000} s ago"
