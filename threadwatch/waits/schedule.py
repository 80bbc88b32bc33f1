"""Decides which threads are sampled, and when.

Rules:

* Samples are taken between polls, as many per second as the group asks for, at random moments
(:mod:`.moments`): a thread that wakes ten times a second must not be seen always at the same point of its
cycle.
* A process is *calm* if samples have seen nothing change for two seconds, and it uses next to no CPU time
(docs/decisions/0048-calm-processes.md). Until the next poll it is sampled once a second. What is past
decides, so no state is favoured. A process that runs a loop is never calm: looks are part of samples.
* Only processes that are awake, or were a few polls ago, are sampled, and of their threads those
that have run lately. One sample looks at a limited number of threads; if more run, they take turns
from poll to poll.
* Our own process is not sampled: the thread that samples would always be seen sampling.
* Every other thread is looked at once after it has run: it waits for the same thing until it runs
again. The poll requests that by :meth:`Sampling.look`, when it has read the thread's clock.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.model.loops import LoopReading
from threadwatch.model.readings import Identity, Waits
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader, owner_of, still_waiting
from threadwatch.targets.process import Process
from threadwatch.waits.loop_looks import LoopLooks
from threadwatch.waits.loop_records import LoopTarget
from threadwatch.waits.moments import Moments
from threadwatch.waits.records import Target
from threadwatch.waits.sampler import WaitSampler

_T = TypeVar("_T")

_AWAKE_FOR = 10
"""For this many polls at rest a process still counts as awake."""
_CALM_RATE = 1
"""Samples per second of a calm process."""
_CALM_USES = 0.02
"""CPUs that a calm process uses at most."""
_NEW_FOR = 2
"""Polls after which the running threads of a new process are known."""
_MOST = 256
"""The most threads in one sample."""
_MOST_LOOPED = 64
"""The most processes whose loops are looked at in one sample, on average."""


class Sampling:
    """Takes samples when they are due. Not for several threads at once. ``errors`` collects read errors."""

    def __init__(
        self, errors: list[ReadError], guarded: GuardedReader, own_pid: int | None
    ) -> None:
        """``own_pid``: the PID of our own process; None if that procfs does not show us."""
        self._complaints: dict[ProcessKey, set[tuple[str, str]]] = {}
        self._guarded = guarded
        self._own_pid = own_pid
        self._errors = errors
        self._loops = LoopLooks(errors, guarded)
        self._held: dict[ProcessKey, Process] = {}
        """Processes whose loop was held at the last look: they are sampled even if they rest."""
        self._sampler = WaitSampler(errors, guarded, complaints=self._complaints, loops=self._loops)
        self._looker = WaitSampler(errors, guarded, keep=0, complaints=self._complaints)
        self._targets: dict[int, list[Target]] = {}
        """By rate: the processes to sample until the next poll."""
        self._clocks: dict[ProcessKey, int] = {}
        """The CPU time of these processes at the last poll."""
        self._chosen_ns = 0
        self._poll_ns: int | None = None
        """When the next poll is due, as it was when the moments were chosen; None: they are to be chosen."""
        self._moments: dict[int, Moments] = {}
        """By rate: when samples are due (CLOCK_MONOTONIC)."""
        self._turn = 0
        self.samples = 0
        """The number of samples of processes so far."""
        self.cpu_ns = 0
        """CPU time of the samples."""

    def choose(self, watched: Iterable[Process], now_ns: int) -> None:
        """Choose the awake ones of these processes, to sample until the next poll."""
        awake = [
            (one, _running_tids(one))
            for one in watched
            if one.rest.rested < _AWAKE_FOR and one.last.poll and self._is_sampled(one)
        ]
        held = self._see_held(one for one, _ in awake)
        awake += [(one, self._loops.tids(one.key)) for one in held]
        looped = sum(bool(one.loops.tids) for one, _ in awake)
        wanted = sum(len(tids) for _, tids in awake)
        self._turn += 1
        self._targets.clear()
        clocks, passed_ns = self._clocks, max(now_ns - self._chosen_ns, 1)
        self._clocks, self._chosen_ns = {}, now_ns
        for one, tids in awake:
            some = tids
            if wanted > _MOST:
                most = max(_MOST * len(tids) // wanted, 1)
                first = self._turn * most % max(len(tids), 1)
                some = (list(tids) * 2)[first : first + most]
            clock_ns = self._clocks[one.key] = one.last.clock_ns
            used_ns = clock_ns - clocks.get(one.key, 0)
            rate = one.membership.config.wait_rate
            if self._is_calm(one, used_ns / passed_ns, now_ns):
                rate = min(rate, _CALM_RATE)
            self._targets.setdefault(rate, []).append(
                _target(one, tuple(some), self._loops_of(one, rate, looped, now_ns))
            )
        self._poll_ns = None

    def _is_calm(self, watched: Process, used: float, now_ns: int) -> bool:
        """Return whether few samples of a process are enough. ``used``: how many CPUs it has used lately."""
        return (
            used < _CALM_USES
            and not watched.loops.tids
            and self._sampler.is_calm(watched.key, now_ns)
        )

    def _loops_of(self, watched: Process, rate: int, looped: int, now_ns: int) -> LoopTarget | None:
        """Return how to look at the loops of a process that is sampled at this rate.

        ``looped``: how many processes have some.
        """
        config = watched.membership.config
        if not config.tasks.rate or not self._loops.is_due(watched.key, now_ns):
            return None
        chance = min(config.tasks.rate / rate, 1.0)
        if looped > _MOST_LOOPED:
            chance *= _MOST_LOOPED / looped
        return LoopTarget(
            source=watched.loops,
            chance=chance,
            usual_ns=round(1e9 / (rate * chance)),
            functions=config.tasks.by == "function",
            clock_ns=watched.last.clock_ns,
        )

    def _see_held(self, awake: Iterable[Process]) -> list[Process]:
        """See which processes have a loop held; return those of them that are not awake."""
        rest = dict(self._held)
        for one in awake:
            rest.pop(one.key, None)
            if self._loops.is_held(one.key):
                self._held[one.key] = one
            else:
                self._held.pop(one.key, None)
        for key in rest:
            if not self._loops.is_held(key):
                self.forget(self._held.pop(key))
        return [one for key, one in rest.items() if key in self._held]

    def next_ns(self, poll_ns: int) -> int | None:
        """Return when the next sample is due (CLOCK_MONOTONIC); None: not before the next poll.

        ``poll_ns``: when that is due.
        """
        if self._poll_ns != poll_ns:
            begin_ns = self._chosen_ns if self._poll_ns is None else time.monotonic_ns()
            self._poll_ns = poll_ns
            self._moments = {rate: Moments(rate, begin_ns, poll_ns) for rate in self._targets}
        due = [one.due_ns for one in self._moments.values() if one.due_ns is not None]
        followed_ns = self._loops.next_ns()
        if followed_ns is not None:
            due.append(followed_ns)
        return min(due, default=None)

    def sample(self, now_ns: int) -> None:
        """Take the samples that are due."""
        began_ns = time.thread_time_ns() + self._guarded.cpu_ns
        due = [
            (target, until_ns)
            for rate, until_ns in self._take_due(now_ns)
            for target in self._targets[rate]
        ]
        if due:
            self._guarded.run_all(
                due,
                lambda one: self._sampler.sample(one[0], now_ns, one[1]),
                lambda one, lock: self._go_on_without(one[0], lock, now_ns),
            )
            self.samples += len(due)
        elif followed := self._loops.followed(now_ns):
            self._guarded.run_all(
                followed,
                lambda target: self._loops.follow(target, now_ns),
                lambda target, lock: self._go_on_without(target, lock, now_ns),
            )
        self.cpu_ns += time.thread_time_ns() + self._guarded.cpu_ns - began_ns

    def _take_due(self, now_ns: int) -> list[tuple[int, int]]:
        """Return the rates whose samples are due, and up to when these stand for the time."""
        return [
            (rate, moments.take(now_ns))
            for rate, moments in self._moments.items()
            if moments.due_ns is not None and moments.due_ns <= now_ns
        ]

    def _go_on_without(self, target: Target, lock: Lock, now_ns: int) -> None:
        self._sampler.go_on_without(target, lock, now_ns)
        self._guarded.give_up(target.hangs, lock, owner_of(target.dir), now_ns)
        if lock == "exec":
            self._errors.append(still_waiting(target.key.pid))

    def take(self, watched: Process, now_ns: int) -> dict[Identity, Waits] | None:
        """Return the waits that samples of the process have seen since the last call, up to now.

        None: the process is not sampled.
        """
        if not self._is_sampled(watched):
            self.forget(watched)
            return None
        return _by_identity(watched, self._sampler.take(watched.key, now_ns))

    def take_loops(self, watched: Process) -> dict[Identity, LoopReading] | None:
        """Return what looks at the loops of the process have seen since the last call; None: it has none."""
        seen = self._loops.take(watched.key)
        return None if seen is None else _by_identity(watched, seen)

    def held(self) -> list[Process]:
        """Return the processes that had a loop held when they were last looked at, or have one again."""
        return list(self._held.values())

    def look(self, watched: Process, tids: Collection[int], now_ns: int) -> dict[Identity, Waits]:
        """Return the present waits of these threads. For the reading thread."""
        if not tids:
            return {}
        self._looker.sample(_target(watched, tids), now_ns)
        return _by_identity(watched, self._looker.take(watched.key))

    def _is_sampled(self, watched: Process) -> bool:
        return watched.membership.config.wait_rate > 0 and watched.key.pid != self._own_pid

    def rest(self, watched: Process) -> None:
        """Forget a process that rests, unless it has a loop held."""
        if watched.key not in self._held:
            self.forget(watched)

    def forget(self, watched: Process, *, gone: bool = False) -> None:
        """Forget a process that is not to be sampled, or has ended."""
        self._held.pop(watched.key, None)
        self._loops.forget(watched.key)
        self._sampler.forget(watched.key)
        self._looker.forget(watched.key)
        if gone:
            self._complaints.pop(watched.key, None)

    def close(self) -> None:
        """Close all files."""
        self._loops.close()
        self._sampler.close()
        self._looker.close()


def _running_tids(watched: Process) -> Collection[int]:
    """Return the TIDs of threads that have run lately; for a process in its first polls, all TIDs."""
    last, book = watched.last, watched.threads
    return book.known if last.poll < last.met + _NEW_FOR else book.hot


def _target(watched: Process, tids: Collection[int], loops: LoopTarget | None = None) -> Target:
    ns_tids: Mapping[int, int] | None = None
    if watched.ns_pid != watched.key.pid:
        ns_tids = {known.ns_tid: tid for tid, known in watched.threads.known.items()}
    return Target(
        key=watched.key,
        dir=watched.dir,
        tids=tids,
        gils=watched.names.gils,
        tid_of_ident=watched.names.tid_of_ident,
        ns_tids=ns_tids,
        hangs=watched.hangs,
        still_tells=lambda gil: watched.names.still_tells(watched.dir, gil),
        loops=loops,
    )


def _by_identity(watched: Process, seen: Mapping[int, _T]) -> dict[Identity, _T]:
    known = watched.threads.known
    return {known[tid].identity: one for tid, one in seen.items() if tid in known}
