"""Samples for tests of accounting, and books that check at every step that no total has fallen.

``Books`` is an :class:`threadwatch.accounting.account.Account` with a clock: each charge is a second after
the one before, and afterwards the sum over threads must be what the process clocks say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.model.keys import ProcessKey, Python, SeriesKey
from threadwatch.model.readings import (
    NS_PER_TICK,
    EndedThread,
    ProcessReading,
    SlotKey,
    ThreadReading,
)
from threadwatch.model.view import GroupView, SeriesTotals, ThreadView

MS = 1_000_000
SECOND = 1_000_000_000
KEY = ProcessKey(100, 5000)
PYTHON = Python("cpython", (3, 12, 1), free_threaded=False, gil=True)


def thread(
    tid: int,
    name: str = "worker",
    cpu_ns: int = 0,
    *,
    start_ticks: int = 6000,
    slot: int | SlotKey | None = None,
    **values: Any,
) -> ThreadReading:
    """Return a living thread. ``slot``: the number of its birth in table 1."""
    known: dict[str, Any] = {
        "source": "comm" if slot is None else "published",
        "name_cut": False,
        "comm": name[:15],
        "state": "S",
        "exact": True,
        "user_ticks": cpu_ns // NS_PER_TICK,
        "system_ticks": 0,
        "runqueue_ns": 0,
        "timeslices": 0,
        "voluntary_switches": None,
        "involuntary_switches": None,
        "minor_faults": 0,
        "major_faults": 0,
        "read_bytes": None,
        "write_bytes": None,
        "last_cpu": 0,
        "name_pending": False,
    }
    return ThreadReading(
        tid=tid,
        start_ticks=start_ticks,
        name=name,
        slot=(1, slot) if isinstance(slot, int) else slot,
        cpu_ns=cpu_ns,
        **{**known, **values},
    )


def ended(
    serial: int,
    tid: int,
    name: str = "worker",
    cpu_ns: int | None = 0,
    *,
    start_ticks: int = 6000,
    **values: Any,
) -> EndedThread:
    """Return a published end of the thread with that number in table 1, as :func:`thread` starts it."""
    return EndedThread((1, serial), tid, name, cpu_ns, (tid, start_ticks), **values)


def sample(
    *threads: ThreadReading, clock_ns: int, time_ns: int, key: ProcessKey = KEY, **values: Any
) -> ProcessReading:
    """Return a process; its ticks are 0, and nothing has ended.

    ``resting`` are threads that live beside the given ones; None: the list was not read.
    """
    known: dict[str, Any] = {"user_ticks": 0, "system_ticks": 0, "ended": ()}
    resting = values.pop("resting", frozenset())
    if resting is not None:
        values["living"] = resting | {(t.tid, t.start_ticks) for t in threads}
    return ProcessReading(
        key=key, time_ns=time_ns, clock_ns=clock_ns, threads=threads, **{**known, **values}
    )


class Books:
    """An account whose every step is checked."""

    def __init__(self, **rules: Any) -> None:
        self.account = Account()
        self.now_ns = 1000 * SECOND
        self.rules: dict[str, Any] = {
            "per": "group",
            "cap": 200,
            "fold": str,
            "expire_after_ns": 900 * SECOND,
            **rules,
        }
        self.seen: dict[str, GroupView] = {}
        self._seen_ns = self.now_ns
        self._open: set[ProcessKey] = set()

    def open(self, key: ProcessKey = KEY, group: str = "shop", **rules: Any) -> None:
        """Begin a process's books, or move it to another group or other rules."""
        self.account.open(key, group, GroupRules(**{**self.rules, **rules}), self.now_ns)
        self._open.add(key)

    def charge(
        self,
        *threads: ThreadReading,
        clock_ns: int | None = None,
        key: ProcessKey = KEY,
        open_ns: int = 0,
        published: bool = True,
        first: bool = False,
        elapsed_ns: int = SECOND,
        **values: Any,
    ) -> tuple[ThreadView, ...]:
        """Charge a sample one second on. ``open_ns``: how much of the clock may still belong to no thread.

        ``elapsed_ns``: the time since the process was read before, which takes its turn within a poll.
        """
        self.now_ns += SECOND
        if key not in self._open:
            self.open(key)
        if clock_ns is None:
            clock_ns = sum(t.cpu_ns for t in threads)
        if published:
            values |= {"names_from": "published", "python": PYTHON}
        read = sample(*threads, clock_ns=clock_ns, time_ns=self.now_ns, key=key, **values)
        self.account.charge(read)
        views = self.account.views(key, None if first else elapsed_ns)
        for group in self.groups().values():
            assert 0 <= group.cpu_ns - threads_ns(group) <= open_ns, group
        return views

    def close(self, *ends: EndedThread, key: ProcessKey = KEY) -> None:
        """Let the process go."""
        self.account.close(key, ends, self.now_ns)
        self._open.discard(key)
        for group in self.groups().values():
            assert group.cpu_ns == threads_ns(group)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * SECOND)

    def groups(self) -> dict[str, GroupView]:
        """Return all groups by name, after the check that nothing in them has fallen."""
        groups = self.account.groups(self.now_ns)
        assert fallen(self.seen.values(), groups, self._seen_ns, self.now_ns) == []
        self.seen = {group.name: group for group in groups}
        self._seen_ns = self.now_ns
        return self.seen

    def group(self, name: str = "shop") -> GroupView:
        """Return one group."""
        return self.groups()[name]

    def totals(self, name: str, group: str = "shop", **key: int) -> SeriesTotals:
        """Return one series of a group."""
        return self.group(group).series[SeriesKey(name, **key)]

    def cpu(self, group: str = "shop") -> Mapping[str, int]:
        """CPU time in ns by thread name."""
        return cpu_by_name(self.group(group))

    def living(self, group: str = "shop") -> Mapping[str, int]:
        """Living threads by name, as the states say; names without are left out."""
        counts = {
            key.thread: sum(totals.now.values()) for key, totals in self.group(group).series.items()
        }
        return {name: count for name, count in counts.items() if count}


def threads_ns(group: GroupView) -> int:
    """Return the sum over the group's threads of their CPU time."""
    return sum(totals.user_ns + totals.system_ns for totals in group.series.values())


def cpu_by_name(group: GroupView) -> dict[str, int]:
    """CPU time in ns by thread name; per process or thread, the sum over them."""
    sums: dict[str, int] = {}
    for key, totals in group.series.items():
        sums[key.thread] = sums.get(key.thread, 0) + totals.user_ns + totals.system_ns
    return sums


def fallen(
    before: Iterable[GroupView], now: Iterable[GroupView], before_ns: int, now_ns: int
) -> list[str]:
    """Return what has fallen since ``before`` of what should only grow, in series that are in both.

    Time in states is what it was at the moment of each view (CLOCK_MONOTONIC), as outputs show it.
    """
    groups = {group.name: group for group in now}
    wrong = []
    for old in before:
        new = groups.get(old.name)
        if new is None:
            continue
        pairs = [(f"{old.name} {name}", getattr(old, name), getattr(new, name)) for name in _GROUP]
        for key, then in old.series.items():
            totals = new.series.get(key)
            if totals is None:
                continue
            where = f"{old.name} {key}"
            pairs += [
                (f"{where} {field}", getattr(then, field), getattr(totals, field))
                for field in SeriesTotals._fields
                if field not in {"states", "now", "loop"}
            ]
            if then.loop is not None:
                pairs += [(f"{where} {what}", *both) for what, both in _of_loops(then, totals)]
            for state, time in then.states.items():
                later = totals.states.get(state)
                shown_ns = time.at(before_ns)
                pairs.append((f"{where} {state} s", shown_ns, later and later.at(now_ns)))
                pairs.append((f"{where} {state} threads", 0, later and later.threads))
            pairs += [(f"{where} {state} now", 0, totals.now.get(state)) for state in then.now]
        wrong += [
            f"{what}: {was} then, {then_is} now"
            for what, was, then_is in pairs
            if was is not None and (then_is is None or then_is < was)
        ]
    return wrong


def _of_loops(
    then: SeriesTotals, now: SeriesTotals
) -> Iterator[tuple[str, tuple[int, int | None]]]:
    """Yield what should only grow of a series' loops: its name, and what it was and is."""
    assert then.loop is not None
    loop = now.loop
    for bound, count in enumerate(then.loop.lags):
        yield f"lag {bound}", (count, loop and loop.lags[bound])
    yield "sum of lags", (then.loop.lag_sum_ns, loop and loop.lag_sum_ns)
    for name, task in then.loop.tasks.items():
        later = loop and loop.tasks.get(name)
        if later is None:
            continue  # it has gone into (other)
        for field in ("cpu_ns", "held_ns", "blocked_ns"):
            yield f"{name} {field}", (getattr(task, field), getattr(later, field))


_GROUP = ("cpu_ns", "dropped")
