"""Keeps the records of the sampler: of a process, its threads, and the time credited to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.model.readings import Waits
from threadwatch.names.slots import Gil
from threadwatch.procfs import MemoryFile, ProcessDir, TaskFile
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import owner_of
from threadwatch.waits.gil_holder import Holder
from threadwatch.waits.loop_records import LoopTarget
from threadwatch.waits.reasons import AskCondition, AskMemory

_RENEW_NS = 1_000_000_000
_CALM_AFTER_NS = 2_000_000_000
"""How long nothing has to have changed in a process until it counts as calm."""
_NO_WAIT = frozenset({"", "running"})


@dataclass(frozen=True, slots=True)
class Target:
    """An awake process to sample."""

    key: ProcessKey
    dir: ProcessDir
    tids: Collection[int]
    """The threads to sample."""
    gils: tuple[Gil, ...]
    tid_of_ident: Callable[[int], int | None]
    """Returns the TID, in the process's own PID namespace, of the thread with this
    ``threading.get_ident()``."""
    ns_tids: Mapping[int, int] | None
    """TIDs in the process's own PID namespace → in ours; None where they are the same."""
    hangs: HangRecords = field(default_factory=HangRecords)
    still_tells: Callable[[Gil], bool] = field(default=lambda _: True)
    """Whether a table still names that GIL. For the reading thread."""
    loops: LoopTarget | None = None
    """Its loops, if they are to be looked at."""

    def owner_uid(self) -> int:
        """Return the uid of its user; -1 once the process has ended."""
        return owner_of(self.dir)


class Held(NamedTuple):
    """The thread that holds a GIL, as of the last sample."""

    tid: int | None
    """None: no thread does, or none that is known."""
    since_ns: int
    """Up to when such a thread has been credited with that; 0: no sample has seen the GIL yet."""


class SampledThread:
    """A thread that is sampled, and the time to credit to it."""

    __slots__ = ("file", "raw", "since_ns", "state", "tid", "times", "waited")

    def __init__(self, tid: int, file: TaskFile | None, now_ns: int) -> None:
        self.tid = tid
        self.file = file
        """Its open file ``syscall``, if there was room to keep one."""
        self.raw = b""
        """The file's content in the last sample, if the same content again means the same state."""
        self.state = "other"
        self.since_ns = now_ns
        """The moment up to which the thread's time has been credited; later time belongs to :attr:`state`."""
        self.times: dict[str, int] = {}
        self.waited = ""
        """The last state of waiting in which it was when its times were taken."""

    def know(self, raw: bytes) -> None:
        """Note what its file says: the same again means the same state."""
        self.raw = raw

    def doubt(self) -> None:
        """Have its state found out anew in the next sample, whatever its file says."""
        self.raw = b""

    def see(self, state: str, before_ns: int) -> None:
        """Note its present state, which it is taken to have had since the sample before."""
        if state != self.state:
            self.credit(before_ns)
            self.state = state

    def take(self) -> bool:
        """Begin to credit time anew; return whether it has waited for the same thing all along.

        A wait for the GIL is never the same. That it ran in between says nothing: clocks know how long.
        """
        waits = {*self.times, self.state, self.waited} - _NO_WAIT
        self.times = {}
        if self.state != "running":
            self.waited = self.state
        return len(waits) <= 1 and "gil" not in waits

    def credit(self, until_ns: int) -> None:
        """Credit its state with the time until then."""
        if until_ns > self.since_ns:
            self.times[self.state] = self.times.get(self.state, 0) + until_ns - self.since_ns
            self.since_ns = until_ns


class SampledProcess:
    """A process that is sampled."""

    def __init__(self, complaints: set[tuple[str, str]]) -> None:
        self.complaints = complaints
        """Source and reason of errors that have been reported."""
        self.sampled_ns = 0
        """Up to when its last sample stands for the time."""
        self._stirred_ns = 0
        """When something had last changed in it, as far as samples have seen."""
        self.denied = False
        self.threads: dict[int, SampledThread] = {}
        """By TID: living threads that are sampled."""
        self.left: dict[int, SampledThread] = {}
        """Threads that were sampled since the last :meth:`take`, but are no longer."""
        self.listed: tuple[int, ...] = ()
        """The TIDs in the last request."""
        self.kept: list[SampledThread] = []
        self.fds: list[int] = []
        """The descriptors of the files of :attr:`kept`, in the same order."""
        self.others: list[SampledThread] = []
        """Threads whose file is not kept open."""
        self.perishable: list[SampledThread] = []
        """Threads whose state depends on the file behind a descriptor."""
        self.memory: MemoryFile | None = None
        self.memory_denied = False
        self.gils: tuple[Gil, ...] = ()
        self.asks: list[tuple[SampledThread, AskMemory | AskCondition]] = []
        """The reads of the process's memory that this sample needs."""
        self.waits_on_stacks: bool | None = None
        """Whether its threads can wait for a GIL on their own stacks, as on musl; None: not known yet."""
        self._renew_ns = 0
        self._holders: list[Held] = []
        """Of each GIL: the thread that holds it, by the last sample."""
        self._held_ns: dict[int, int] = {}

    def begin(self, gils: tuple[Gil, ...], now_ns: int) -> None:
        """Drop cached states that may no longer hold: the GIL may be another, a descriptor another file."""
        self.asks.clear()
        self.sampled_ns = min(self.sampled_ns, now_ns)  # a poll can come before it is due
        if gils != self.gils:
            self.gils = gils
            self._holders = [Held(None, 0)] * len(gils)
            self.memory = None
            self.waits_on_stacks = None
            self.perishable = list(self.threads.values())
            self._renew_ns = 0
        if now_ns >= self._renew_ns:
            for thread in self.perishable:
                thread.doubt()
            self.perishable.clear()
            self._renew_ns = now_ns + _RENEW_NS

    def done(self, until_ns: int) -> None:
        """End a sample, which stands for the time up to then."""
        self.sampled_ns = until_ns

    def deny(self) -> None:
        """Sample the process no more: permission hides it."""
        self.denied = True

    def deny_memory(self) -> None:
        """Read its memory no more: permission hides it."""
        self.memory_denied = True

    def keep_memory(self, memory: MemoryFile | None) -> None:
        """Keep its memory open; None: it is to be opened anew."""
        self.memory = memory

    def follow(self, listed: tuple[int, ...]) -> None:
        """Note the TIDs in a request."""
        self.listed = listed

    def know_stacks(self, *, used: bool) -> None:
        """Note whether threads wait for its GILs on their own stacks."""
        self.waits_on_stacks = used

    def ask_memory(self, thread: SampledThread, ask: AskMemory | AskCondition) -> None:
        """Have the process's memory read in this sample to find out what a thread waits for."""
        self.perishable.append(thread)
        self.asks.append((thread, ask))

    def hangs_on_file(self, thread: SampledThread) -> None:
        """Note that a thread's state depends on the file behind a descriptor."""
        self.perishable.append(thread)

    def is_news(self, error: ReadError) -> bool:
        """Return whether such an error is to be reported: it has not been of this process."""
        complaint = (error.source, error.reason)
        if complaint in self.complaints:
            return False
        self.complaints.add(complaint)
        return True

    def add(self, thread: SampledThread) -> None:
        """Begin to sample this thread."""
        self.threads[thread.tid] = thread
        if thread.file is None:
            self.others.append(thread)
        else:
            self.kept.append(thread)
            self.fds.append(thread.file.fileno())

    def drop(self, threads: Iterable[SampledThread]) -> int:
        """Stop sampling these threads; return how many files that closed."""
        closed = 0
        for thread in threads:
            thread.credit(self.sampled_ns)
            if thread.file is not None:
                thread.file.close()
                closed += 1
            self.left[thread.tid] = self.threads.pop(thread.tid)
        rest = self.threads.values()
        self.kept = [thread for thread in rest if thread.file is not None]
        self.fds = [thread.file.fileno() for thread in rest if thread.file is not None]
        self.others = [thread for thread in rest if thread.file is None]
        return closed

    def see_holder(self, number: int, tid: int | None, now_ns: int) -> None:
        """Note that this thread, or no known thread, holds the GIL of that number.

        It is taken to have held it since the sample before.
        """
        held = self._holders[number]
        if not held.since_ns:
            self._holders[number] = Held(tid, now_ns)
        elif tid != held.tid:
            self._credit_holder(held, self.sampled_ns)
            self._holders[number] = Held(tid, max(self.sampled_ns, held.since_ns))

    def take(self, now_ns: int | None = None) -> dict[int, Waits]:
        """Return the waits that samples have seen since the last call, by TID.

        ``now_ns``: up to when; None: up to when the last sample stands for the time.
        """
        if now_ns is not None and self.sampled_ns:
            self.sampled_ns = now_ns
        for number, held in enumerate(self._holders):
            if held.since_ns:
                self._credit_holder(held, self.sampled_ns)
                self._holders[number] = Held(held.tid, max(self.sampled_ns, held.since_ns))
        still, taken = True, {}
        for thread in self.threads.values():
            thread.credit(self.sampled_ns)
        for thread in (*self.left.values(), *self.threads.values()):
            held_ns = self._held_ns.pop(thread.tid, 0)
            taken[thread.tid] = Waits(thread.state, thread.times, held_ns)
            still &= thread.take()
        for tid, held_ns in self._held_ns.items():
            taken[tid] = Waits("running", {}, held_ns)
        self._held_ns.clear()
        if self.left:
            self.left.clear()
            self.listed = ()  # another thread may get one of those TIDs, and be asked for
        if not still or not self._stirred_ns:
            self._stirred_ns = self.sampled_ns
        return taken

    def is_calm(self, now_ns: int) -> bool:
        """Return whether each of its threads has waited for the same thing for a while, not for the GIL."""
        return 0 < self._stirred_ns <= now_ns - _CALM_AFTER_NS

    def _credit_holder(self, held: Held, until_ns: int) -> None:
        if held.tid is not None and until_ns > held.since_ns:
            spent_ns = self._held_ns.get(held.tid, 0) + until_ns - held.since_ns
            self._held_ns[held.tid] = spent_ns


def thread_of(holder: Holder, target: Target, process: SampledProcess) -> int | None:
    """Return the TID of the holder; None if the process has no such thread."""
    names = [holder.native, target.tid_of_ident(holder.ident) if holder.ident else None]
    for name in names:
        if not name:
            continue
        tid = name if target.ns_tids is None else target.ns_tids.get(name)
        if tid is not None and (tid in process.threads or target.dir.has_task(tid)):
            return tid
    return None
