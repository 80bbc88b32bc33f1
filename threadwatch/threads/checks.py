"""Chooses threads for routine checks: each thread is read once in a while, even if no clock has moved.

Every thread is read at least once in :data:`_CHECK_IN` polls; the reads are spread over the polls.
"""

from __future__ import annotations

from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks

_CHECK_IN = 512
"""Polls within which each thread is read."""
_CHECK_AT_REST = 32
"""How many threads of a process at rest are read in a poll for that."""


class Checks:
    """Chooses the threads to check."""

    def __init__(self, clocks: ThreadClocks) -> None:
        self._clocks = clocks

    def due(self, watched: Process, poll: int) -> list[KnownThread]:
        """Return the threads of an awake process whose turn it is; hot ones are read anyway."""
        book = watched.threads
        count = len(book.known)
        every = max(_CHECK_IN // max(count, 1), 1)
        if (poll + watched.key.pid) % every:
            return []
        hot = book.hot
        return [k for k in _next(watched, max(count // _CHECK_IN, 1)) if k.tid not in hot]

    def lay_to_rest(self, watched: Process, poll: int) -> None:
        """Let go of the files of a process that rests, and may do so for long; choose when to check it."""
        self._clocks.cool(watched)
        # processes that come to rest together need not be checked together
        watched.rest.check_in = poll + 1 + (watched.key.pid * 0x9E3779B1 >> 16) % _CHECK_IN

    def stands_still(self, watched: Process, poll: int) -> bool:
        """Return whether some threads of a process at rest are unchanged; each call reads other threads."""
        count = len(watched.threads.known)
        most = min(_CHECK_AT_REST, count)
        watched.rest.check_in = poll + max(_CHECK_IN * most // max(count, 1), 1)
        ran: dict[int, KnownThread] = {}
        return not self._clocks.read(watched, _next(watched, most), ran) and not ran


def _next(watched: Process, count: int) -> list[KnownThread]:
    """Return the next threads of the process, at most this many; all have their turn in each round."""
    book = watched.threads
    if not book.unchecked:
        book.unchecked = list(book.known.values())
    taken = book.unchecked[-count:]
    del book.unchecked[-count:]
    now = book.known
    return [known for known in taken if now.get(known.tid) is known]
