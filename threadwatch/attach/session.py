"""Asks a process to run a script, and waits for the result.

Rules:

* One thread is asked at a time. The main thread comes first, because its state lasts as long as the
  interpreter. Where it does not answer, another thread that has run meanwhile is asked instead, and then the
  main one again: a thread that waits for something may wait for ever.
* A request is taken back before the script goes. Whatever happens (a timeout, Ctrl-C), none is left.
* Only a table proves something: that it is there, or that there is none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from threadwatch.attach import script as scripts
from threadwatch.attach.interpreter import Thread
from threadwatch.attach.place import Place, placed
from threadwatch.attach.request import Requests
from threadwatch.attach.stop import undisturbed
from threadwatch.attach.subject import Subject
from threadwatch.errors import Denied, Gone, Malformed, ReadError, Unusable
from threadwatch.words.text import printable

_POLL_S = 0.01
_LOOK_S = 0.1
"""Seconds between two looks at which threads have run."""
_TURN_S = 0.5
"""How long one thread is asked, if there is another."""
_MOST_WATCHED = 512
"""Threads that are looked at for that: to look at one costs some µs."""
_MOST_AGAIN = 5
"""How often the program's own signals may come in between."""
_GRACE_S = 3.0
"""How long a script that has begun may take to end, when nothing else is waited for."""
_PATIENCE_S = 1.0
"""Seconds after which the user is told what is waited for."""


def attach(subject: Subject, timeout: float, tell: Callable[[str], None]) -> None:
    """Have the process publish; on return it does.

    ``timeout`` in seconds. ``tell`` is told what is waited for.

    :raises Unusable: it does not; in one line, why not.
    """
    if not _run(subject, scripts.publishing, timeout, tell):
        raise Unusable(
            f"process {subject.pid} says that it publishes, and has no table that this threadwatch can read: "
            "the threadwatch that it has loaded is of another version"
        )


def detach(subject: Subject, timeout: float, tell: Callable[[str], None]) -> None:
    """Have the process cease to publish; on return it has. As :func:`attach`."""
    if _run(subject, scripts.unpublishing, timeout, tell):
        raise Unusable(f"process {subject.pid} still publishes, though it was told not to")


def _run(
    subject: Subject,
    script: Callable[[str], str],
    timeout: float,
    tell: Callable[[str], None],
) -> bool:
    """Have the process run a script; return whether the process publishes then."""
    with subject.explained():
        with placed(subject.directory, subject.uid, script) as place:
            asking = _Asking(subject, place)
            try:
                asking.run(timeout, tell)
            finally:
                with undisturbed():
                    asking.end()
        return subject.publishes()


class _Asking:
    """Asks one thread of the process after the other to run a script."""

    def __init__(self, subject: Subject, place: Place) -> None:
        self._subject = subject
        self._place = place
        self._requests = Requests(subject.memory, subject.interpreter, os.fsencode(place.path))
        self._asked: tuple[int, Thread] | None = None
        """The thread that has been asked, and has neither answered nor been told to forget it."""
        self._asked_at = 0.0
        self._has_begun = False
        self._heard = 0
        self._tried: set[int] = set()
        """TIDs of the threads that have had a turn in this round."""
        self._counts: dict[int, bytes] = {}
        self._ran_at: dict[int, float] = {}
        self._looked_at = 0.0
        self._by_cpython = False
        self._trouble = ""
        """Why the last thread could not be asked."""

    def run(self, timeout: float, tell: Callable[[str], None]) -> None:
        """Ask until the script has run.

        :raises Unusable: it could not do what it was to, or has not run in time.
        :raises Gone: the process has ended.
        """
        began = time.monotonic()
        told, again = False, 0
        while True:
            for answer in self._place.answers()[self._heard :]:
                self._heard += 1
                self._asked, self._has_begun = None, False
                if answer == scripts.DONE:
                    return
                if answer != scripts.AGAIN or again == _MOST_AGAIN:
                    why = printable(answer.removeprefix(scripts.FAILED))
                    raise Unusable(f"process {self._subject.pid} could not do it: {why}")
                again += 1
                self._tried.clear()
            self._subject.see_that_it_lives()
            now = time.monotonic()
            if now - began > timeout:
                raise Unusable(self._why_not(timeout))
            self._look(now)
            self._take_turns(now)
            if now - began > _PATIENCE_S and not told and not self._has_begun:
                told = True
                tell(self._waited_for())
            time.sleep(_POLL_S)

    def end(self) -> None:
        """Leave no request behind; if the script runs just now, let it end."""
        deadline = time.monotonic() + _GRACE_S
        with suppress(Gone, ReadError, Unusable):
            if self._asked is not None and not self._take_back():
                while len(self._place.answers()) == self._heard and time.monotonic() < deadline:
                    self._subject.see_that_it_lives()
                    time.sleep(_POLL_S)

    def _look(self, now: float) -> None:
        """Note which of the threads that Python knows have run since the last look."""
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for tid in list(self._subject.threads())[:_MOST_WATCHED]:
            with suppress(Gone):
                count = self._subject.process.read_task(tid, "schedstat")
                if self._counts.get(tid, count) != count:
                    self._ran_at[tid] = now
                self._counts[tid] = count

    def _take_turns(self, now: float) -> None:
        if self._asked is not None:
            tid, thread = self._asked
            if not self._subject.process.has_task(tid):
                self._asked, self._has_begun = None, False
            elif self._has_begun or not self._is_pending(thread):
                self._has_begun = True
                return
            elif now - self._asked_at < _TURN_S:
                return
        threads = self._subject.threads()
        following = self._next(threads)
        if following is None and self._asked is None:
            self._tried.clear()
            following = self._next(threads)
        if following is None or (self._asked is not None and not self._take_back()):
            return
        self._ask(following, threads[following])

    def _is_pending(self, thread: Thread) -> bool:
        try:
            return self._requests.is_pending(thread)
        except ReadError:  # it has just ended: the next look shows that
            return True

    def _next(self, threads: dict[int, Thread]) -> int | None:
        """Choose the thread to ask: the main one, then others that have run, the last first; or None."""
        waiting = self._asked[0] if self._asked else None
        main = next((tid for tid, thread in threads.items() if thread.is_main), None)
        if main is not None and main not in self._tried:
            return main
        others = [tid for tid in threads if tid in self._ran_at and tid != main]
        fresh = [tid for tid in others if tid not in self._tried]
        if fresh:
            return max(fresh, key=lambda tid: self._ran_at[tid])
        if waiting is not None and waiting != main and main is not None:
            self._tried.clear()
            return main
        return None

    def _ask(self, tid: int, thread: Thread) -> None:
        self._tried.add(tid)
        self._asked, self._asked_at, self._has_begun = (tid, thread), time.monotonic(), False
        try:
            if self._asked_by_cpython(thread):
                self._tried.discard(tid)  # to be asked by our own way when its turn is over
            else:
                self._requests.ask(tid, thread)
        except (Denied, Unusable):
            self._asked = None  # nothing has been written
            raise
        except (Gone, ReadError) as error:
            self._trouble = str(error)
            with suppress(Gone, ReadError):
                self._take_back()
            self._asked = None

    def _asked_by_cpython(self, thread: Thread) -> bool:
        """Ask by ``sys.remote_exec``, once, where that is there and would ask the same thread."""
        remote_exec = getattr(sys, "remote_exec", None)
        if (
            self._by_cpython
            or remote_exec is None
            or not thread.is_main
            or not self._subject.interpreter.is_only
            or sys.version_info[:2] != self._subject.version[:2]
            or not self._place.is_here()
        ):
            return False
        self._by_cpython = True
        self._requests.check(thread)
        try:
            remote_exec(self._subject.pid, self._place.path)
        except (OSError, RuntimeError):
            return False
        return True

    def _take_back(self) -> bool:
        """Return whether the thread that was asked has ended; else the script runs just now."""
        if self._asked is None:
            return True
        tid, thread = self._asked
        try:
            taken = self._requests.take_back(tid, thread)
        except (Gone, Malformed):  # the thread has ended, and its request with it
            taken = True
        if taken:
            self._asked = None
        else:
            self._has_begun = True
        return taken

    def _waited_for(self) -> str:
        """Say what keeps the script from being run."""
        if self._has_begun:
            return (
                f"it has taken {self._place.path} and does not say how it went: it may not read it, or an "
                "audit hook forbids it; its standard error may say more"
            )
        threads = self._subject.threads()
        main = next((tid for tid, thread in threads.items() if thread.is_main), None)
        if main is None:
            what = "its main thread has ended"
        else:
            function = self._subject.process.read_task(main, "wchan").decode("ascii", "replace")
            what = "its main thread does not come to its next bytecode"
            if function not in ("", "0"):
                what = f"its main thread waits in the kernel ({function})"
        trouble = f" ({self._trouble})" if self._trouble else ""
        if len(threads) > 1:
            what += ", and no other of its threads has taken the script"
        return what + trouble

    def _why_not(self, timeout: float) -> str:
        last = "" if self._has_begun else ", and nothing has been changed"
        began = f"process {self._subject.pid} has not run the script in {timeout:g} s{last}"
        return f"{began}: {self._waited_for()}"
