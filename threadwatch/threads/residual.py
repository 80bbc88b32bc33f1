"""Reads all threads of a process if the residual asks for that.

The residual is what a process's clock has gained beyond the clocks of the threads that were read:
:mod:`.reader` says what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable

from threadwatch.errors import ReadError
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks
from threadwatch.threads.lists import ThreadLists

RESIDUAL_NS = 500_000
"""CPU time that is not looked for yet."""


class Residuals:
    """Decides whether all threads have to be read, and reads them.

    ``errors`` collects what could not be read.
    ``known``: whether the clocks of processes and threads can be compared; if not, all are always read.
    """

    def __init__(
        self, errors: list[ReadError], clocks: ThreadClocks, lists: ThreadLists, *, known: bool
    ) -> None:
        self._errors = errors
        self._clocks = clocks
        self._lists = lists
        self._known = known

    def must_read_all(self, watched: Process, clock_ns: int, *, few: bool) -> bool:
        """Return whether all threads have to be read. ``few``: they are few, and each ns is looked for."""
        book = watched.threads
        return (
            not self._known
            # A thread that ran while all were read is in no residual: at rest, all are read once
            # more.
            or clock_ns == watched.last.clock_ns != book.whole_at_ns
            or book.read_all
            or watched.key.pid not in book.known
            or book.unexplained_ns(clock_ns) > (0 if few else RESIDUAL_NS)
        )

    def read_few(self, watched: Process, ran: dict[int, KnownThread], clock_ns: int) -> bool:
        """Read the clocks of all but the hot threads, which have been read; return whether one has ended.

        The list of threads is younger than ``clock_ns``. What they have used since hides nothing: it
        makes the next residual seem larger, and all be read again.
        """
        errors = len(self._errors)
        lost = self._clocks.read(watched, _others(watched, ran), ran)
        watched.threads.balance(clock_ns, complete=len(self._errors) == errors)
        return lost

    def read_all(
        self,
        watched: Process,
        ran: dict[int, KnownThread],
        before_ns: int,
        clock: Callable[[], int],
        poll: int,
    ) -> bool:
        """Read the list and the clocks of all but the hot threads; return whether one has ended.

        ``before_ns``: the process's clock before any of its threads was read.
        """
        errors = len(self._errors)
        self._lists.read(watched, ran, poll)
        lost = self._clocks.read(watched, _others(watched, ran), ran)
        # That took a while, in which running threads went on. So that the two sums are of one
        # moment, those are read once more, right behind the clock.
        clock_ns = clock()
        now = watched.threads.known
        again = [known for tid, known in ran.items() if now.get(tid) is known]
        lost |= self._clocks.read(watched, again, {})
        stood_still = clock_ns == before_ns and len(self._errors) == errors
        watched.threads.balance(clock_ns, complete=True, stood_still=stood_still)
        return lost


def _others(watched: Process, ran: dict[int, KnownThread]) -> list[KnownThread]:
    """Return the threads that have not been read in this poll: neither hot nor new."""
    book = watched.threads
    hot = book.hot
    return [known for tid, known in book.known.items() if tid not in hot and tid not in ran]
