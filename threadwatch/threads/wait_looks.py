"""Chooses the threads whose waits are looked at outside of samples.

A thread that has run is looked at once: it waits for the same thing until it runs again. Threads that run
are seen in samples, until their process comes to rest.
"""

from __future__ import annotations

from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread

_LOOKS_PER_POLL = 1024
"""How many threads are looked at in one poll, over all processes."""
_LOOKS_AT_LEAST = 8
"""How many threads are looked at in each process even so."""


class WaitLooks:
    """Chooses the threads to look at."""

    def __init__(self) -> None:
        self._left = _LOOKS_PER_POLL

    def begin(self) -> None:
        """Begin a new poll."""
        self._left = _LOOKS_PER_POLL

    def choose(self, watched: Process, *, at_rest: bool) -> tuple[list[KnownThread], bool]:
        """Return the threads to look at now, and whether no other one has run since it was looked at."""
        book = watched.threads
        now = book.known
        due = [known for tid in book.wait_unknown if (known := now.get(tid)) is not None]
        if at_rest:
            due += [known for known in book.hot.values() if known.wait_cpu_ns != known.cpu_ns]
        chosen = due[: max(self._left, _LOOKS_AT_LEAST)]
        self._left -= len(chosen)
        for known in chosen:
            known.wait_cpu_ns = known.cpu_ns
        book.still_to_look_at(due[len(chosen) :])
        return chosen, len(chosen) == len(due)
