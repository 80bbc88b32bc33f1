"""Reads processes in a thread that can be given up, so that no target can make the daemon wait.

A read of these files in ``/proc`` can wait (Linux: fs/proc/base.c, kernel/fork.c, fs/exec.c; seen
on 6.18):

* **For the end of an exec** (``exec_update_lock``): ``syscall``, ``io``, ``stack``, opening ``mem``
and ``maps``; since 2026 also ``stat``, ``wchan``, ``exe`` and ``fd/N``. While a program is
replaced, its O_CLOEXEC files are closed, and each file's own file system is asked whether that
succeeded. That file system can be the target's own (FUSE), and never answer.
* **For the process's memory** (``mmap_lock``): ``cmdline``, ``environ``, reads through ``mem``. A
thread of the target that fetches a page for another thread (``process_vm_readv``,
``/proc/self/mem``) holds the lock while it waits for the page, which can be of such a file system,
too. As soon as another thread wants to map something, no one else gets the lock any more. The pages
that we read can be of that kind themselves. Checking the mapping first would not help: it can
change before the read.

``status``, ``comm``, ``schedstat`` and ``cgroup``, the lists of ``fd`` and ``task``, and CPU clocks
have not been seen to wait. A thread that waits there can be ended only with its whole process; one
that waits for a page, not even then. Hence:

* **All reading of processes is done by a thread of its own**, one process after the other. The
caller waits, and checks every :data:`DEADLINE_S` whether the thread makes progress. If the thread
is in the same read as before, and does not merely wait for a CPU, the caller gives it up, and
another thread goes on with the next process. (The caller itself reads our own process: that cannot
make us wait, and most polls of an idle daemon read no other.)
* Reads are marked (:mod:`threadwatch.procfs.marks`) to make this safe: a thread can be given up
only in a read, and when it comes back from that, it ends without touching anything.
* A process that made a thread wait is not read in this way while that thread is stuck. If the
thread came back within a second, the machine was busy and the process is read again at once.
Otherwise it is left alone for 2 s, 4 s … 10 min.
* At most :data:`_MAX_STUCK` threads are given up in this way, at most :data:`_MAX_STUCK_OF_ONE` to
processes of one user, for each lock: fewer than the unit's ``TasksMax`` allows. If no other thread
can be started nevertheless, the rest of that poll or sample is left out.
* So a hostile user can hide its own processes, delay a poll or a sample by 100 ms now and then, and
leave some threads stuck, which delay the end of the daemon, until that file system's server ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import ProcessDir
from threadwatch.procfs.marks import Lock, Mark, begin, take
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.worker import Round, Worker

DEADLINE_S = 0.05
"""How long one read may take, at least: twice that is too long."""
_MAX_STUCK = 64
"""Both locks' threads, and a dozen others that the daemon can have, fit into the unit's ``TasksMax``."""
_MAX_STUCK_OF_ONE = 4

_T = TypeVar("_T")


class GuardedReader:
    """Reads for one caller, and never makes the caller wait for long. The caller has to ``close`` it."""

    def __init__(self, deadline_s: float = DEADLINE_S, *, most_stuck: int = _MAX_STUCK) -> None:
        """``most_stuck``: how many threads may be stuck, for each lock."""
        self._deadline_s = deadline_s
        self._most_stuck = most_stuck
        self._worker: Worker | None = None
        self._late: Worker | None = None
        self._stuck: dict[Lock, list[tuple[int, Worker]]] = {"exec": [], "memory": []}
        """The threads that have been given up, each with the uid of the process that it waits for."""
        self.cpu_ns = 0
        """CPU time that the reading thread has used."""

    def may_read(
        self, hangs: HangRecords, lock: Lock, owner: Callable[[], int], now_ns: int
    ) -> bool:
        """Return whether to read in a process what can wait for that lock; ``owner`` returns its user."""
        if not hangs.of(lock).allows(now_ns):
            return False
        if not self._stuck[lock]:
            return True
        stuck = self._still_stuck(lock)
        if len(stuck) >= self._most_stuck:
            return False
        uid = owner()
        return sum(one == uid for one, _ in stuck) < _MAX_STUCK_OF_ONE

    def has_room(self, lock: Lock = "exec") -> bool:
        """Return whether one more thread may get stuck."""
        return len(self._stuck[lock]) < self._most_stuck or (
            len(self._still_stuck(lock)) < self._most_stuck
        )

    def _still_stuck(self, lock: Lock) -> list[tuple[int, Worker]]:
        """Return the stuck threads, each with the uid of the process that it waits for."""
        stuck = [(uid, worker) for uid, worker in self._stuck[lock] if worker.is_alive()]
        self._stuck[lock] = stuck
        return stuck

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

        Leading items that are ``harmless``, which cannot make a read wait, are done by the caller's
        own thread; if all are, the reading thread sleeps on. The thread that does an item takes the
        next one when the item is done.

        If an item makes the reading thread wait, the caller's thread calls ``stuck``. That function
        has to :meth:`give_up` on the process, and must expect that ``do`` has done half of its
        work. The two threads never touch shared data at the same time. An error that ``do`` raises
        is raised here, and the remaining items are not done.

        If no thread can be started, ``left_out`` is called with each remaining item.
        """
        rest = iter(items)
        for item in rest:
            if harmless(item):
                begin()
                do(item)
                continue
            rest = chain([item], rest)
            try:
                worker = self._worker = self._worker or Worker()
            except (RuntimeError, MemoryError):  # Python's errors for EAGAIN and ENOMEM
                for one in rest:
                    left_out(one)
                return
            round_ = Round(rest, do)
            worker.put(round_)  # type: ignore[arg-type]  # the worker does not use the type
            lock = self._wait(worker, round_)
            self.cpu_ns += round_.cpu_ns
            if lock is not None:
                worker.put(None)
                self._late, self._worker = worker, None
                stuck(round_.at[0], lock)
                self._late = None
            elif round_.failure is not None:
                raise round_.failure

    def _wait(self, worker: Worker, round_: Round[_T]) -> Lock | None:
        """Wait until the round is over or stuck; return what a stuck round waits for."""
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
        """Leave the reading thread to the process that makes it wait."""
        if self._late is not None:
            hangs.of(lock).note(self._late, now_ns)
            self._stuck[lock].append((owner, self._late))

    def close(self) -> None:
        """End the reading thread; a stuck one ends when its read does."""
        if self._worker is not None:
            self._worker.put(None)
            self._worker.join(self._deadline_s)
            self._worker = None


def still_waiting(pid: int, lock: Lock = "exec") -> ReadError:
    """Return the error of a process that has kept us waiting for the end of an exec, or for its memory."""
    if lock == "memory":
        return ReadError("memory", "timeout", f"the memory of PID {pid} does not answer")
    return ReadError(
        "process", "timeout", f"PID {pid} has begun to become another program, and does not finish"
    )


def no_thread() -> ReadError:
    """Return the error of a poll or a sample that was left out because no thread could be started."""
    return ReadError("process", "eagain", "no thread can be started to read processes")


def owner_of(directory: ProcessDir) -> int:
    """Return the process's effective uid; -1 once it has ended."""
    try:
        return directory.owner_uid()
    except (Gone, ReadError):
        return -1
