"""Reads processes in a thread that can be given up, so that no target can make the daemon wait.

What can wait, of the files in ``/proc`` (Linux: fs/proc/base.c, kernel/fork.c, fs/exec.c; seen on 6.18):

* **For the end of an exec** (``exec_update_lock``): ``syscall``, ``io``, ``stack``, to open ``mem`` and
  ``maps``; since 2026 also ``stat``, ``wchan``, ``exe`` and ``fd/N``. While a program is replaced, its
  files are closed that are marked so (O_CLOEXEC), and their file system is asked whether that went well. It
  can be the target's own (FUSE), which never answers.
* **For the process's memory** (``mmap_lock``): ``cmdline``, ``environ``, what is read through ``mem``. A
  thread of the target's that fetches a page for another (``process_vm_readv``, ``/proc/self/mem``) keeps
  that locked while it waits for the page. That can be of such a file system, too; and once another thread
  wants to map something, nobody else gets the lock any more. Pages that we read can be of that kind
  themselves. To look before what is mapped there would not help: it can be something else by the time that
  we read.

``status``, ``comm``, ``schedstat`` and ``cgroup``, the lists of ``fd`` and ``task``, and CPU clocks have
not been seen to wait. Nobody who waits there can be interrupted but by the death of the whole process, and
who waits for a page not even so. Hence:

* **All reading of processes is done by a thread that is there for nothing else**, one process after the
  other. The caller waits as long as that gets on, and looks every :data:`DEADLINE_S` whether it does. If it
  is in the same read as before, and does not merely wait for a CPU, it is given up, and another thread goes
  on with the next process. (Our own process the caller reads itself: it cannot keep us waiting, and
  in most of an idle daemon's polls there is no other.)
* So that this is safe, reads are marked (:mod:`threadwatch.procfs.marks`): only in a read can the thread
  be given up, and when it comes back from there, it ends without touching anything.
* A process that kept us waiting is not read in this way while that thread is stuck. If that was for less
  than a second, the machine was busy, and nothing is made of it; else it is not for a while, twice as long
  each time.
* At most :data:`_MAX_STUCK` threads are given up in this way, at most :data:`_MAX_STUCK_OF_ONE` to
  processes of one user, for each lock: fewer than the unit's ``TasksMax`` allows. If all the same no other
  thread can be started, what is left of that poll or sample is left out.
* So the most that a user can reach is that its own processes are not seen any more, that a poll or a
  sample is late by twice that now and then, and that a few threads of the daemon hang, and hold up its
  end, until that file system's server is killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from queue import SimpleQueue
from typing import Generic, TypeVar

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import ProcessDir
from threadwatch.procfs.marks import GivenUp, Lock, Mark, begin, take
from threadwatch.procfs.own import is_ready

DEADLINE_S = 0.05
"""How long one read may take, at least: twice that is too long."""
_MAX_STUCK = 64
"""Both locks' threads, and a dozen others that the daemon can have, fit into the unit's ``TasksMax``."""
_MAX_STUCK_OF_ONE = 4
_STUCK_NS = 1_000_000_000
"""Who has not answered for so long is not merely late."""
_FIRST_PAUSE_NS = 2_000_000_000
_LONGEST_PAUSE_NS = 600_000_000_000

_T = TypeVar("_T")


class _Round(Generic[_T]):
    """Work on its way through the reading thread, which shares it with the caller."""

    def __init__(self, items: Iterator[_T], do: Callable[[_T], object]) -> None:
        self.items = items
        self.do = do
        self.at: list[_T] = []
        """What the thread is at."""
        self.marks: list[Mark] = []
        self.failure: BaseException | None = None
        self.cpu_ns = 0
        """CPU time that the thread has used."""
        self.over = threading.Lock()  # an Event would cost twice as much
        self.over.acquire()
        self.given_up_ns = 0
        """When (CLOCK_MONOTONIC)."""

    def run(self) -> bool:
        """Do it, and say whether to go on: False if this thread has been given up. Raises nothing."""
        began_ns = time.thread_time_ns()
        self.marks = begin()
        try:
            for item in self.items:
                self.at = [item]
                self.do(item)
        except GivenUp:
            return False
        except BaseException as error:  # noqa: BLE001  # it is raised again, by who waits
            self.failure = error
        self.cpu_ns = time.thread_time_ns() - began_ns
        self.over.release()
        return True


class _Worker:
    """The reading thread."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Round[object] | None] = SimpleQueue()
        self.late_ns = 0
        """How much longer than it was waited for its last round took; 0 as long as that goes on."""
        # a daemon: one that is stuck must not keep the daemon from ending
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def put(self, round_: _Round[object] | None) -> None:
        self._inbox.put(round_)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def is_ready(self) -> bool:
        """Whether it would go on if it had a CPU."""
        return is_ready(self._thread.native_id or 0)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (round_ := self._inbox.get()) is not None:
            if not round_.run():
                self.late_ns = time.monotonic_ns() - round_.given_up_ns
                return
            del round_  # which holds on to files


class HangRecord:
    """How a process has behaved when it was read."""

    __slots__ = ("_not_before_ns", "_pause_ns", "_since_ns", "_worker")

    def __init__(self) -> None:
        self._since_ns = 0
        self._worker: _Worker | None = None
        self._pause_ns = 0
        self._not_before_ns = 0

    def note(self, worker: _Worker, now_ns: int) -> None:
        """It has kept this reading thread waiting."""
        behaved = now_ns - self._not_before_ns > _LONGEST_PAUSE_NS
        longer = _FIRST_PAUSE_NS if behaved else 2 * self._pause_ns
        self._pause_ns = min(max(longer, _FIRST_PAUSE_NS), _LONGEST_PAUSE_NS)
        self._not_before_ns = now_ns + self._pause_ns
        self._since_ns = now_ns
        self._worker = worker

    def allows(self, now_ns: int) -> bool:
        """Whether it may be read again."""
        if self._worker is not None:
            if self._worker.is_alive():
                return False
            if self._worker.late_ns < _STUCK_NS:
                self._pause_ns = self._not_before_ns = 0
            elif now_ns < self._not_before_ns:
                return False
            self._worker = None
        return True

    def is_stuck(self, now_ns: int) -> bool:
        """Whether a thread has been waiting for it for so long that it is not merely late."""
        worker = self._worker
        return worker is not None and worker.is_alive() and now_ns - self._since_ns > _STUCK_NS


class HangRecords:
    """How a process has behaved, by what we had to wait for."""

    __slots__ = ("exec", "memory")

    def __init__(self) -> None:
        self.exec = HangRecord()
        self.memory = HangRecord()

    def of(self, lock: Lock) -> HangRecord:
        """That with one of the locks."""
        return self.exec if lock == "exec" else self.memory


class GuardedReader:
    """Reads for one caller, who is not made to wait. ``close`` it in the end."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._worker: _Worker | None = None
        self._late: _Worker | None = None
        self._stuck: dict[Lock, list[tuple[int, _Worker]]] = {"exec": [], "memory": []}
        """Threads that have been given up, and who owns the process that each waits for."""
        self.cpu_ns = 0
        """CPU time that the reading thread has used."""

    def may_read(
        self, hangs: HangRecords, lock: Lock, owner: Callable[[], int], now_ns: int
    ) -> bool:
        """Whether to read of a process what that lock is for; ``owner`` tells its user."""
        if not hangs.of(lock).allows(now_ns):
            return False
        if not self._stuck[lock]:
            return True
        stuck = [(uid, worker) for uid, worker in self._stuck[lock] if worker.is_alive()]
        self._stuck[lock] = stuck
        if len(stuck) >= _MAX_STUCK:
            return False
        uid = owner()
        return sum(one == uid for one, _ in stuck) < _MAX_STUCK_OF_ONE

    def run_all(
        self,
        items: Iterable[_T],
        do: Callable[[_T], object],
        stuck: Callable[[_T, Lock], object],
        *,
        harmless: Callable[[_T], bool] = lambda _: False,
        left_out: Callable[[_T], object] = lambda _: None,
    ) -> None:
        """Have ``do`` called with each of the items, one after the other, by the reading thread.

        Those that come first and are ``harmless``, which cannot keep anybody waiting, are done by the
        caller's own thread; if they are all, no other wakes up. The next item is asked for when the one
        before has been done, by the same thread.

        With one that keeps it waiting, ``stuck`` is called by the caller's thread: it is to :meth:`give_up`
        on the process, and must expect that what ``do`` was doing has been done by half. Nothing of what
        the two share is touched by both at a time. Raises what ``do`` raises, and does no more of the items
        then.

        If no thread can be started to do it, ``left_out`` is called with each item that remains.
        """
        rest = iter(items)
        for item in rest:
            if harmless(item):
                begin()
                do(item)
                continue
            rest = chain([item], rest)
            try:
                worker = self._worker = self._worker or _Worker()
            except (RuntimeError, MemoryError):  # what Python makes of EAGAIN and ENOMEM
                for one in rest:
                    left_out(one)
                return
            round_ = _Round(rest, do)
            worker.put(round_)  # type: ignore[arg-type]  # which of it is nobody's business there
            lock = self._wait(worker, round_)
            self.cpu_ns += round_.cpu_ns
            if lock is not None:
                worker.put(None)
                self._late, self._worker = worker, None
                stuck(round_.at[0], lock)
                self._late = None
            elif round_.failure is not None:
                raise round_.failure

    def _wait(self, worker: _Worker, round_: _Round[_T]) -> Lock | None:
        """Wait until it is over or does not get on; what it waits for then."""
        before: list[Mark] = []
        while not round_.over.acquire(timeout=self._deadline_s):
            now = round_.marks[-1:]
            if now and now == before and not worker.is_ready():
                round_.given_up_ns = time.monotonic_ns()
                mark = take(round_.marks)
                if mark is not None:
                    return mark[1]
                round_.given_up_ns = 0
            before = now
        return None

    def give_up(self, hangs: HangRecords, lock: Lock, owner: int, now_ns: int) -> None:
        """Leave the reading thread to the process that keeps it waiting."""
        if self._late is not None:
            hangs.of(lock).note(self._late, now_ns)
            self._stuck[lock].append((owner, self._late))

    def close(self) -> None:
        """End the reading thread; one that is stuck ends when it can."""
        if self._worker is not None:
            self._worker.put(None)
            self._worker.join(self._deadline_s)
            self._worker = None


def still_waiting(pid: int) -> ReadError:
    """The error of a process that has kept us waiting for the end of an exec."""
    return ReadError("process", "timeout", f"PID {pid} is becoming another program, and does not")


def no_thread() -> ReadError:
    """The error of a poll or a sample that remained undone, as no thread could be started for it."""
    return ReadError("process", "eagain", "no thread can be started to read processes")


def owner_of(directory: ProcessDir) -> int:
    """The process's effective uid; -1 once it has ended."""
    try:
        return directory.owner_uid()
    except (Gone, ReadError):
        return -1
