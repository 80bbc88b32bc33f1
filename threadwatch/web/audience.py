"""Whether somebody looks at single threads. While nobody does, polls leave them out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_KEEP_NS: Final = 10_000_000_000
"""How long who has asked counts as looking, at least."""
_KEEP_POLLS: Final = 3
"""And at least so many polls."""


class Audience:
    """Who has asked of late. The web server's thread says so, the polling thread asks."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._asked_ns: int | None = None

    def ask(self) -> None:
        """Somebody wants to see single threads."""
        self._asked_ns = self._clock()

    def present(self, interval_ns: int) -> bool:
        """Whether anybody does, where a poll comes each ``interval_ns``."""
        asked_ns = self._asked_ns
        return asked_ns is not None and self._clock() - asked_ns <= max(
            _KEEP_NS, _KEEP_POLLS * interval_ns
        )
