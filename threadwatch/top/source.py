"""Provides views: from this host's procfs, read here, or from a daemon, asked over HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from threadwatch.closeup.examiner import Examiner
from threadwatch.closeup.python_stacks import python_stacks
from threadwatch.config.parse import load_config
from threadwatch.config.settings import sampled_often
from threadwatch.errors import ReadError, Unusable
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ThreadKey
from threadwatch.model.view import View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.own import raise_file_limit
from threadwatch.stacks.dump import Stack
from threadwatch.words.wording import left_out

Wait = Callable[[float], object]
"""Waits for this many seconds. Returns true if the wait was cut short because no more views are wanted."""

_RATE = 20
"""Samples per second of what threads wait for."""
_SOON = 0.25
"""Seconds until the first figures."""


class Source(Protocol):
    """Provides views, one after the other. For one thread, except :meth:`examine` and :meth:`stack`."""

    where: str
    """The host's name, for the title."""
    own_pid: int | None
    """Our PID in its views; None: we are not in them."""

    def next(self, wait: Wait) -> View | None:
        """Return the next view; the first one at once. Return None if the wait was cut short.

        :raises Unusable: there is no view now. The caller may ask again.
        """

    def examine(self, key: ThreadKey) -> Examined | str:
        """Return more about one thread, or a line that says why that is impossible.

        :raises Gone: the thread has ended.
        """

    def stack(self, key: ThreadKey) -> Stack | None:
        """Return the Python stack of one thread; None: no Python code runs on it. May take seconds.

        :raises Unusable: it cannot be read, and why.
        """

    def notes(self) -> str:
        """Return one line about missing data; empty if none is missing."""

    def close(self) -> None:
        """Release everything."""


class ProcSource:
    """Reads this host directly, without a daemon."""

    def __init__(
        self, *, procfs: str, config_file: str | None, interval: float, pids: frozenset[int]
    ) -> None:
        """Poll every ``interval`` seconds.

        :raises ConfigError: the configuration cannot be used.
        :raises Unusable: there is no procfs.
        """
        config = load_config(config_file)
        raise_file_limit()
        self._procfs = ProcFS(procfs)
        self._denied: set[str] = set()
        self._poller = Poller(self._procfs, sampled_often(config, _RATE), report=self._report)
        self._poller.always_watch(pids)
        self._examiner = Examiner(self._procfs)
        self._interval = interval
        self._polls = 0
        self._due = 0.0
        self.where = os.uname().nodename
        self.own_pid = os.getpid() if self._procfs.same_namespace else None

    def next(self, wait: Wait) -> View | None:
        """See :class:`Source`."""
        now = time.monotonic()
        if self._polls:
            stopped = False

            def pause(seconds: float) -> object:
                nonlocal stopped
                stopped = bool(wait(seconds))
                return stopped

            self._poller.sample_for(max(self._due - now, 0.0), pause)
            if stopped:
                return None
            now = time.monotonic()
        self._polls += 1
        self._due = now + (min(self._interval, _SOON) if self._polls == 1 else self._interval)
        return self._poller.poll()

    def examine(self, key: ThreadKey) -> Examined | str:
        """See :class:`Source`."""
        try:
            return self._examiner.examine(key)
        except ReadError as error:
            return f"cannot be read: {error}"

    def stack(self, key: ThreadKey) -> Stack | None:
        """See :class:`Source`."""
        process_key, tid, _ = key
        if not self._procfs.same_namespace:
            raise Unusable("py-spy sees the processes of its own /proc only")
        stacks = python_stacks(process_key.pid)
        found = next((one for one in stacks if one.tid == tid), None)
        if found is None and any(one.tid is None for one in stacks):
            raise Unusable(
                f"py-spy cannot tell which of its stacks is that of this thread: "
                f"threadwatch stack {process_key.pid} has all of them"
            )
        return found

    def notes(self) -> str:
        """See :class:`Source`."""
        if self._poller.left_out:
            return left_out(self._poller.left_out)
        if self._denied & {"fd", "table"}:
            return (
                "names of other users' threads are hidden: threadwatch doctor says how to see them"
            )
        return ""

    def close(self) -> None:
        """See :class:`Source`."""
        self._poller.close()
        self._examiner.close()

    def _report(self, error: ReadError) -> None:
        if error.reason == "denied":
            self._denied.add(error.source)
