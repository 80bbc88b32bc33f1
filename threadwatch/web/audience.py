"""Remembers whether a client looks at single threads. Polls leave them out while no client does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_KEEP_NS: Final = 10_000_000_000
"""How long a client counts as looking after a request, at least."""
_KEEP_POLLS: Final = 3
"""And at least this many polls."""


class Audience:
    """The clients that have asked of late. The web server's thread reports, the polling thread asks."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._asked_ns: int | None = None

    def ask(self) -> None:
        """Note that a client has asked for single threads."""
        self._asked_ns = self._clock()

    def present(self, interval_ns: int) -> bool:
        """Return whether any client looks, where polls are ``interval_ns`` apart."""
        asked_ns = self._asked_ns
        return asked_ns is not None and self._clock() - asked_ns <= max(
            _KEEP_NS, _KEEP_POLLS * interval_ns
        )
