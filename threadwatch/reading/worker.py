"""Runs the thread that reads processes, until it has been given up. :mod:`.reader` gives it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

from threadwatch.procfs.marks import GivenUp, Mark, begin
from threadwatch.procfs.own import is_ready

_T = TypeVar("_T")


class Round(Generic[_T]):
    """Items on their way through the reading thread, which shares them with the caller."""

    def __init__(self, items: Iterator[_T], do: Callable[[_T], object]) -> None:
        self.items = items
        self.do = do
        self.at: list[_T] = []
        """The item that the thread is working on."""
        self.marks: list[Mark] = []
        self.failure: BaseException | None = None
        self.cpu_ns = 0
        """CPU time that the thread has used."""
        self.over = threading.Lock()  # an Event would cost twice as much
        self.over.acquire()
        self.given_up_ns = 0
        """When the thread was given up (CLOCK_MONOTONIC). Written by :mod:`threadwatch.reading.reader`."""

    def run(self) -> bool:
        """Do the items; return whether to go on: False if this thread has been given up. Raises nothing."""
        began_ns = time.thread_time_ns()
        self.marks = begin()
        try:
            for item in self.items:
                self.at = [item]
                self.do(item)
        except GivenUp:
            return False
        except BaseException as error:  # noqa: BLE001  # the waiting caller raises it again
            self.failure = error
        self.cpu_ns = time.thread_time_ns() - began_ns
        self.over.release()
        return True


class Worker:
    """The reading thread."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Round[object] | None] = SimpleQueue()
        self.late_ns = 0
        """By how much the last round of a given-up thread took too long; 0 while that round goes on."""
        # A daemon thread: a stuck one must not keep the daemon from ending.
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def put(self, round_: Round[object] | None) -> None:
        """Hand it a round; None: it is to end."""
        self._inbox.put(round_)

    def is_alive(self) -> bool:
        """Return whether the thread has not ended."""
        return self._thread.is_alive()

    def is_ready(self) -> bool:
        """Return whether the thread only waits for a CPU."""
        return is_ready(self._thread.native_id or 0)

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, or for this time."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (round_ := self._inbox.get()) is not None:
            if not round_.run():
                self.late_ns = time.monotonic_ns() - round_.given_up_ns
                return
            del round_  # it holds files
