"""Reads targets' memory so that no target can make the daemon wait.

What is read: of a GIL, who holds it; of a call to ``poll`` or ``select``, which descriptor it names. Nothing
of it is shown to anybody: it is compared with what the process's own threads are known by.

What a target can do. Where its table says that its GIL is, or what it gives to poll, can be any address. The
kernel lets us read there nothing but the target's own memory, so it can lie about itself, which it can do
anyway, but about nobody else. Addresses where there is nothing, the kernel's, and pages of a userfaultfd
give an error at once. But a page of a file that is mapped has to be fetched from its file system,
and the file system can be the target's own (FUSE), which never answers. Whoever waits there cannot be
interrupted, not even killed, until its server is. To look before what is mapped there would not help: the
target can map something else between the look and the read (and ``/proc/PID/maps`` can be made to
block as well). Hence:

* **Reads are done by a thread that is there for nothing else, and are waited for only so long**
  (:data:`DEADLINE_S`). The rest of the daemon goes on, without this thread, and makes another.
* A process that kept us waiting is not read while that thread is stuck. If that was for less than a
  second, the machine was busy, and nothing is made of it; else the process is not read for a while, twice
  as long each time.
* At most :data:`_MAX_STUCK` threads are given up in this way, at most :data:`_MAX_STUCK_OF_ONE` to processes
  of one user. So the most that a user can reach is that the GILs of its own processes are not seen, that a
  sample is late by :data:`DEADLINE_S` now and then, and that two threads of the daemon hang, and hold up
  its end, until that file system's server is killed.

Whoever waits in a target's memory keeps it locked. Once the target asks for more, everybody else who reads
there waits as well, and ``/proc/PID/cmdline`` and ``environ`` are read there. (A target can arrange that
without us, by a thread of its own.) ``stat``, ``status``, ``syscall``, ``wchan``, ``fd`` are not.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import Gil, MemoryFile
from threadwatch.waits import AskMemory

DEADLINE_S = 0.05
"""How long one round of reads may take."""
_MAX_STUCK = 16
_MAX_STUCK_OF_ONE = 2
_STUCK_NS = 1_000_000_000
"""Who has not answered for so long is not merely late."""
_FIRST_PAUSE_NS = 2_000_000_000
_LONGEST_PAUSE_NS = 600_000_000_000
_TRIES = 3
"""How often to look until the holder is the same before and after."""

_GIL = struct.Struct("=8xQi4x")
"""``last_holder`` and ``locked`` of ``struct _gil_runtime_state`` (CPython, pycore_gil.h)."""
_WORD = struct.Struct("=Q")


class Holder(NamedTuple):
    """By what the thread is known that holds a GIL; all 0: none does, or it has no name."""

    ident: int
    """``threading.get_ident()``; 0 unknown."""
    native: int
    """Its TID as the target sees it; 0 unknown."""


NOBODY = Holder(0, 0)


def find_holder(read: Callable[[int, int], bytes], gil: Gil) -> Holder | None:
    """Who holds the GIL at one moment between begin and end; None: that went too fast to see.

    ``read`` takes an address and a size. ``last_holder`` says who holds it only while it is locked; and whose
    thread state that is only if it is still the holder's after that has been read.

    :raises ReadError: what ``read`` raises; or it is no GIL.
    """
    state, locked = _look(read, gil)
    for _ in range(_TRIES):
        if not locked:
            return NOBODY
        ident = _word(read, state, gil.ident_offset)
        native = _word(read, state, gil.native_offset)
        before = state
        state, locked = _look(read, gil)
        if locked and state == before:
            return Holder(ident, native)
    return None


def _look(read: Callable[[int, int], bytes], gil: Gil) -> tuple[int, bool]:
    state, locked = _GIL.unpack(read(gil.address, _GIL.size))
    if locked not in (0, 1):
        raise ReadError("gil", "malformed", f"locked should be 0 or 1, not {locked}")
    return state, bool(locked and state)


def _word(read: Callable[[int, int], bytes], address: int, offset: int) -> int:
    if not offset:
        return 0
    (word,) = _WORD.unpack(read(address + offset, _WORD.size))
    return int(word)


class Job:
    """What is to be read of one process in one round, and what was found.

    Made by the sampler, filled in by the reading thread, and looked at by the sampler when
    :meth:`MemoryReader.read` says that it is done; not at all if it never is.
    """

    __slots__ = ("answers", "asks", "error", "gils", "gone", "holders", "memory")

    def __init__(self, memory: MemoryFile, gils: Sequence[Gil], asks: Sequence[AskMemory]) -> None:
        self.memory = memory
        self.gils = gils
        self.asks = asks
        self.holders: list[Holder | None] = []
        """Of each GIL; None: unknown."""
        self.answers: list[list[bytes] | None] = []
        """To each question; None: it cannot be read."""
        self.error: ReadError | None = None
        """What went wrong with a GIL."""
        self.gone = False
        """The program has ended whose memory it was."""

    def run(self) -> None:
        """Read all of it. Raises nothing."""
        try:
            for gil in self.gils:
                try:
                    self.holders.append(find_holder(self.memory.read, gil))
                except ReadError as error:
                    self.error = error
                    self.holders.append(None)
            for ask in self.asks:
                try:
                    self.answers.append([self.memory.read(*place) for place in ask.places])
                except ReadError:
                    self.answers.append(None)
        except Gone:
            self.gone = True


class _Round:
    """Jobs on their way through the reading thread."""

    __slots__ = ("abandoned", "done", "going", "jobs")

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.done = 0
        self.going = threading.Lock()  # an Event would cost twice as much
        self.going.acquire()
        self.abandoned = 0
        """When it was given up (CLOCK_MONOTONIC)."""


class _Worker:
    """The reading thread."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[_Round | None] = SimpleQueue()
        self.late_ns = 0
        """How much longer than it was waited for its last round took; 0 as long as that goes on."""
        # a daemon: one that is stuck must not keep the daemon from ending
        self._thread = threading.Thread(target=self._run, name="memory-reader", daemon=True)
        self._thread.start()

    def put(self, round_: _Round | None) -> None:
        self._inbox.put(round_)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (round_ := self._inbox.get()) is not None:
            for job in round_.jobs:
                job.run()
                round_.done += 1
                if round_.abandoned:  # since then nobody waits for it
                    self.late_ns = time.monotonic_ns() - round_.abandoned
                    return
            round_.going.release()
            del round_, job  # which hold on to memory files


class Conduct:
    """How a process has behaved when its memory was read."""

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


class MemoryReader:
    """Reads for one caller, who is not made to wait. ``close`` it in the end."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._worker: _Worker | None = None
        self._late: _Worker | None = None
        self._stuck: list[tuple[int, _Worker]] = []

    def may_read(self, conduct: Conduct, owner: Callable[[], int], now_ns: int) -> bool:
        """Whether to read a process that has behaved like that, of the user that ``owner`` tells."""
        if not conduct.allows(now_ns):
            return False
        if not self._stuck:
            return True
        self._stuck = [(uid, worker) for uid, worker in self._stuck if worker.is_alive()]
        if len(self._stuck) >= _MAX_STUCK:
            return False
        uid = owner()
        return sum(stuck == uid for stuck, _ in self._stuck) < _MAX_STUCK_OF_ONE

    def read(self, jobs: Sequence[Job]) -> int:
        """Do the jobs; how many of them, from the first, have been done in time.

        If it is fewer than there are, the next one keeps us waiting: :meth:`give_up` on its process.
        """
        worker = self._worker = self._worker or _Worker()
        round_ = _Round(jobs)
        worker.put(round_)
        if not round_.going.acquire(timeout=self._deadline_s):
            round_.abandoned = time.monotonic_ns()
            worker.put(None)  # if it has finished in this very moment, it waits for more
            self._late, self._worker = worker, None
        return round_.done

    def give_up(self, conduct: Conduct, owner: int, now_ns: int) -> None:
        """Leave the thread of the last :meth:`read` to the process that kept it waiting."""
        if self._late is not None:
            conduct.note(self._late, now_ns)
            self._stuck.append((owner, self._late))
            self._late = None

    def close(self) -> None:
        """End the reading thread; one that is stuck ends when it can."""
        if self._worker is not None:
            self._worker.put(None)
            self._worker.join(self._deadline_s)
            self._worker = None
