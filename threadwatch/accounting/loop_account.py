"""Charges what one living thread uses to the tasks of its loop. Pure.

The thread's clock is exact; looks between two polls say what ran. So what the clock has gained from one poll
to the next is divided by the looks in that time that found the thread on a CPU, and the sum over the tasks is
the thread's CPU time. If no look found the thread on a CPU, its gain waits for the next polls: a loop that
uses 1 % of a CPU is found on one every ten seconds, at ten looks a second. After 5 s, looks that have found
the thread without a CPU in the middle of its work are taken in their place: where there is only one CPU, the
look has that. After a minute without any, the gain is ``(unknown)``.

How long a task holds the loop, and how late the loop is, do not depend on CPU time: each look stands for the
time since the look before. See docs/decisions/0038-cpu-time-by-task.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from threadwatch.accounting.group import Group
from threadwatch.accounting.loop_series import MOST_TASKS, NO_TASKS, LoopSeries
from threadwatch.accounting.thread_account import ThreadAccount
from threadwatch.model.keys import OTHER
from threadwatch.model.loops import (
    LOOP,
    NO_LOOP,
    UNKNOWN,
    LoopKind,
    LoopReading,
    LoopView,
    Ran,
    TaskCount,
    TaskView,
)
from threadwatch.model.readings import Identity

_READY_AFTER_NS = 5_000_000_000
"""How long a gain waits for a look that has found the thread on a CPU, if others have found it at work."""
_OPEN_FOR_NS = 60_000_000_000
"""How long a gain waits for a look that says what has used it."""


class LoopAccount:
    """The loop of one living thread: what its tasks have been charged with."""

    __slots__ = (
        *("_account", "_age_ns", "_counts", "_cpu_ns", "_held_ns", "_holder", "_kind", "_open_ns"),
        *("_ran", "_ready", "_ready_looks", "_series", "_settled_ns", "_shown"),
    )

    def __init__(self, account: ThreadAccount, now_ns: int, share: float) -> None:
        """Begin with the first looks: what the thread has used before belongs to no task.

        ``share``: the part of the time since the last charge but one that has passed since those.
        """
        self._account = account
        self._series = account.series.loop_series(now_ns)
        since_ns = round(max(account.gained_ns, 0) * share)
        self._settled_ns = account.user_ns + account.system_ns - since_ns
        """The thread's CPU time up to which its tasks have been charged."""
        self._open_ns = now_ns
        """Since when there may be a gain that has not been charged."""
        self._ran: Counter[str] = Counter()
        """How many looks since then have found which task on a CPU."""
        self._ready_looks: Counter[str] = Counter()
        """How many have found which task without a CPU in the middle of its work."""
        self._kind: LoopKind | None = None
        self._holder: str | None = None
        self._age_ns: int | None = None
        self._ready: int | None = None
        self._counts = NO_TASKS
        """Its living tasks, by placed names."""
        self._cpu_ns: Counter[str] = Counter()
        self._held_ns: Counter[str] = Counter()
        self._shown: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        """Both, as they were shown last."""

    def see(
        self,
        reading: LoopReading,
        fold: Callable[[str], str],
        blocked_after_ns: int,
        now_ns: int,
    ) -> None:
        """Learn what looks have seen. ``fold``: as :attr:`.GroupRules.fold_task`."""
        series = self._series
        name = None
        for look in reading.looks:
            holder, ran, age_ns, ns, ends_later = look
            name = None if holder is None else series.place(fold(holder), now_ns)
            if ran:
                looks = self._ran if ran is Ran.YES else self._ready_looks
                looks[name or series.place(LOOP, now_ns)] += 1
            if age_ns is not None and not ends_later:
                series.observe(age_ns, now_ns)
            if name is not None and name != NO_LOOP and ns:
                late = age_ns is not None and age_ns > blocked_after_ns and not ends_later
                series.hold(name, ns, ns if late else 0, now_ns)
                self._held_ns[name] += ns
        if reading.looks:
            self._holder, self._age_ns = (
                (None if name == NO_LOOP else name),
                reading.looks[-1].age_ns,
            )
        for wait in reading.waits:
            series.observe(wait.lag_ns, now_ns)
            if wait.holder is not None and wait.lag_ns > blocked_after_ns:
                series.hold(series.place(fold(wait.holder), now_ns), 0, wait.stands_for_ns, now_ns)
        self._become(reading.kind, reading.ready)
        if reading.counts is not None:
            self._count(reading.counts, fold, now_ns)
        elif reading.kind is None and self._counts:
            self._count(NO_TASKS, fold, now_ns)
        if len(self._cpu_ns) + len(self._held_ns) > 4 * MOST_TASKS:
            self._fold_expired()

    def settle(self, now_ns: int) -> None:
        """Charge what the thread has gained, if it is known which task ran, or has been open for long."""
        self._account.series.touch(now_ns)
        cpu_ns = self._account.user_ns + self._account.system_ns
        if cpu_ns <= self._settled_ns:
            self._open_ns = now_ns
        elif (
            self._ran
            or (self._ready_looks and now_ns - self._open_ns > _READY_AFTER_NS)
            or now_ns - self._open_ns > _OPEN_FOR_NS
        ):
            self._charge(cpu_ns, now_ns)

    def place(self, now_ns: int) -> None:
        """Count in the series that the thread is counted in now; charge the one before with what is open."""
        series = self._account.series.loop_series(now_ns)
        if series is self._series:
            return
        self._charge(self._account.user_ns + self._account.system_ns, now_ns)
        counts, kind, ready = self._counts, self._kind, self._ready
        self._leave(now_ns)
        self._series = series
        self._become(kind, ready)
        self._counts = {series.place(name, now_ns): count for name, count in counts.items()}
        series.count(NO_TASKS, self._counts, now_ns)

    def end(self, now_ns: int) -> LoopSeries:
        """End with the thread; return the series that is to be charged with what it is found to have used."""
        self._charge(self._account.user_ns + self._account.system_ns, now_ns)
        self._leave(now_ns)
        return self._series

    def view(self, elapsed_ns: int | None) -> LoopView:
        """Return the loop now. Changes since the last call happened in the last ``elapsed_ns``."""
        shown, self._shown = self._shown, (self._cpu_ns.copy(), self._held_ns.copy())
        names = sorted({*self._cpu_ns, *self._held_ns, *self._counts})

        def ratio(now: Counter[str], number: int, name: str) -> float | None:
            if elapsed_ns is None:
                return None
            return (now[name] - shown[number][name]) / max(elapsed_ns, 1)

        return LoopView(
            kind=self._kind,
            holder=self._holder,
            age_ns=self._age_ns,
            ready=self._ready,
            tasks=tuple(
                TaskView(
                    name=name,
                    cpu_ns=self._cpu_ns[name],
                    held_ns=self._held_ns[name],
                    cpu_ratio=ratio(self._cpu_ns, 0, name),
                    held_ratio=ratio(self._held_ns, 1, name),
                    alive=self._counts.get(name),
                )
                for name in names
            ),
        )

    def _charge(self, cpu_ns: int, now_ns: int) -> None:
        """Divide what the thread has gained among what looks have found; without looks it is unknown."""
        gained_ns = max(cpu_ns - self._settled_ns, 0)
        ran = self._ran or self._ready_looks or Counter([UNKNOWN])
        looks, passed, charged_ns = sum(ran.values()), 0, 0
        for name, count in ran.items():
            passed += count
            part_ns = gained_ns * passed // looks - charged_ns
            charged_ns += part_ns
            if part_ns:
                placed = self._series.place(name, now_ns)
                self._series.charge(placed, part_ns, now_ns)
                self._cpu_ns[placed] += part_ns
        self._settled_ns += gained_ns
        self._ran.clear()
        self._ready_looks.clear()
        self._open_ns = now_ns

    def _become(self, kind: LoopKind | None, ready: int | None) -> None:
        """Note the kind of its loop, and how many callbacks are ready."""
        if kind is None:
            ready = None
        if kind != self._kind:
            self._series.become(self._kind, kind)
        if ready != self._ready:
            self._series.wait_to_run(self._ready, ready)
        self._kind, self._ready = kind, ready

    def _count(
        self, counts: Mapping[str, TaskCount], fold: Callable[[str], str], now_ns: int
    ) -> None:
        placed: dict[str, TaskCount] = {}
        for name, count in counts.items():
            label = self._series.place(fold(name), now_ns)
            ready, waiting = placed.get(label, (0, 0))
            placed[label] = TaskCount(ready + count.ready, waiting + count.waiting)
        self._series.count(self._counts, placed, now_ns)
        self._counts = placed

    def _leave(self, now_ns: int) -> None:
        """Count in its series no longer."""
        self._series.count(self._counts, NO_TASKS, now_ns)
        self._counts = NO_TASKS
        self._become(None, None)

    def _fold_expired(self) -> None:
        """Count names that have no totals of their own any more under ``(other)``."""
        for spent in (self._cpu_ns, self._held_ns, *self._shown):
            for name in [name for name in spent if not self._series.has(name)]:
                spent[OTHER] += spent.pop(name)


class ProcessLoops:
    """The loops of one process's threads."""

    __slots__ = ("_charged_ns", "_loops")

    def __init__(self) -> None:
        self._loops: dict[Identity, LoopAccount] = {}
        self._charged_ns = 0

    def __bool__(self) -> bool:
        return bool(self._loops)

    def charge(
        self,
        readings: Mapping[Identity, LoopReading],
        accounts: Mapping[Identity, ThreadAccount],
        group: Group,
        now_ns: int,
    ) -> None:
        """Learn what looks have seen, and charge what the threads have gained, as ``accounts`` know it."""
        for identity, reading in readings.items():
            loop, account = self._loops.get(identity), accounts.get(identity)
            if loop is None:
                if account is None or reading.kind is None:
                    continue
                passed_ns = max(now_ns - self._charged_ns, 1)
                share = min(max((now_ns - reading.began_ns) / passed_ns, 0.0), 1.0)
                loop = self._loops[identity] = LoopAccount(account, now_ns, share)
            loop.see(reading, group.fold_task, group.blocked_after_ns, now_ns)
        for loop in self._loops.values():
            loop.settle(now_ns)

    def passed(self, now_ns: int) -> None:
        """Note that the process has been charged, with looks at loops or without."""
        self._charged_ns = now_ns

    def place(self, identity: Identity, now_ns: int) -> None:
        """Count a thread's loop in the series that the thread is counted in now."""
        loop = self._loops.get(identity)
        if loop is not None:
            loop.place(now_ns)

    def end(self, identity: Identity, now_ns: int) -> LoopSeries | None:
        """End with a thread: see :meth:`LoopAccount.end`; None: it had no loop."""
        loop = self._loops.pop(identity, None)
        return None if loop is None else loop.end(now_ns)

    def view(self, identity: Identity, elapsed_ns: int | None) -> LoopView | None:
        """Return a thread's loop, as :meth:`LoopAccount.view` does; None: it has none."""
        loop = self._loops.get(identity)
        return None if loop is None else loop.view(elapsed_ns)
