"""The last ten minutes of CPU use: what is kept, for how long, and how much memory that takes."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.books import KEY, MS, SECOND, sample, thread
from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.accounting.history import MOST, RING_BYTES, SLOTS, STEP_NS, History
from threadwatch.model.history import HistoryView, ProcessHistory
from threadwatch.model.keys import ProcessKey

WHO = (100, 6000)


class Past:
    """An account whose polls come a step apart, with threads that use what a test says."""

    def __init__(self, most: int = MOST) -> None:
        self.account = Account()
        self.account.open(KEY, "shop", GroupRules("group", 99, str, 900 * SECOND), 0)
        self.history = History(most)
        self.now_ns = 1000 * SECOND
        self.cpu: dict[tuple[ProcessKey, int], int] = {}

    def poll(
        self,
        used: dict[int, int] | None,
        *,
        after_ns: int = STEP_NS,
        interval_ns: int = SECOND,
        key: ProcessKey = KEY,
    ) -> HistoryView:
        """Let each thread use this many ms more; None: the process is not read, for it has not run."""
        self.now_ns += after_ns
        if used is not None:
            for tid, ms in used.items():
                self.cpu[key, tid] = self.cpu.get((key, tid), 0) + ms * MS
            threads = [thread(tid, "t", self.cpu[key, tid]) for tid in used]
            ended = sum(cpu for (k, tid), cpu in self.cpu.items() if k == key and tid not in used)
            clock_ns = sum(t.cpu_ns for t in threads) + ended
            read = sample(*threads, clock_ns=clock_ns, time_ns=self.now_ns, key=key)
            self.account.charge(read)
        self.history.record(
            self.now_ns, interval_ns, self.account._groups.values(), self.account._ledgers
        )
        return self.history.view()

    @property
    def rings(self) -> int:
        """Return how many there are."""
        return self.history._most - self.history._left


def process(view: HistoryView) -> ProcessHistory:
    """Return the one that all tests have."""
    return view.processes[KEY]


def test_values_are_thousandths_of_a_cpu_over_a_step() -> None:
    """A thread that used a second in five ran 20 % of the time, and so did its process and group."""
    past = Past()
    past.poll({100: 77})
    view = past.poll({100: 1000})
    assert process(view).threads[WHO].per_mille() == [200]
    assert process(view).cpu.per_mille() == [200]
    assert view.groups["shop"].per_mille() == [200]


def test_what_was_used_before_anybody_looked_is_in_no_step() -> None:
    """A process that has run for an hour when it is first seen begins at 0."""
    view = Past().poll({100: 3_600_000})
    assert process(view).cpu.per_mille() == []
    assert process(view).threads == {}


def test_polls_within_a_step_are_summed_up() -> None:
    """Five polls a second apart are one value."""
    past = Past()
    past.poll({100: 0})
    before = [past.poll({100: 100}, after_ns=SECOND) for _ in range(4)]
    assert process(before[-1]).cpu.per_mille() == []
    view = past.poll({100: 100}, after_ns=SECOND)
    assert process(view).cpu.per_mille() == [100]
    assert past.history.view() is view


def test_who_does_not_run_costs_nothing_and_is_zero() -> None:
    """Threads and processes that rest have zeros in between, without being touched."""
    past = Past()
    past.poll({100: 0, 101: 0})
    past.poll({100: 500, 101: 0})
    past.poll(None)
    past.poll(None)
    view = past.poll({100: 1000, 101: 0})
    assert process(view).threads[WHO].per_mille() == [100, 0, 0, 200]
    assert (101, 6000) not in process(view).threads


def test_ten_minutes_are_kept() -> None:
    """After as many steps as there are slots the oldest value goes; a ring without any goes whole."""
    past = Past()
    past.poll({100: 0})
    view = past.poll({100: 500})
    for _ in range(SLOTS - 1):
        view = past.poll(None)
    assert process(view).cpu.per_mille() == [100] + [0] * (SLOTS - 1)
    for _ in range(SLOTS // 4 + 1):
        view = past.poll(None)
    assert process(view).cpu.per_mille() == [0] * SLOTS
    assert past.rings == 0
    view = past.poll({100: 500})
    assert process(view).threads[WHO].per_mille() == [0] * (SLOTS - 1) + [100]


def test_a_daemon_that_was_stopped_makes_good_for_it() -> None:
    """What was used in a gap is spread over the steps that were missed."""
    past = Past()
    past.poll({100: 0})
    view = past.poll({100: 2000}, after_ns=4 * STEP_NS)
    assert process(view).cpu.per_mille() == [100] * 4
    view = past.poll({100: 1}, after_ns=1000 * STEP_NS)
    assert len(process(view).cpu.per_mille()) == SLOTS


def test_rare_polls_make_longer_steps() -> None:
    """Where polls are farther apart than a step, each is one; when that changes, all begins anew."""
    past = Past()
    past.poll({100: 0}, interval_ns=15 * SECOND)
    view = past.poll({100: 1500}, after_ns=15 * SECOND, interval_ns=15 * SECOND)
    assert view.step_ns == 15 * SECOND
    assert process(view).cpu.per_mille() == [100]
    view = past.poll({100: 1500}, interval_ns=SECOND)
    assert process(view).cpu.per_mille() == []


def test_who_has_gone_leaves_nothing_behind() -> None:
    """Rings of ended threads and processes go, so that others have room."""
    past = Past()
    past.poll({100: 0, 101: 0})
    past.poll({100: 10, 101: 10})
    assert past.rings == 4
    past.poll({100: 10})
    assert past.rings == 3
    past.account.close(KEY, (), past.now_ns)
    for _ in range(SLOTS // 4):
        past.poll(None)
    assert past.rings == 1  # the group's
    assert KEY not in past.history.view().processes


def test_there_are_no_more_rings_than_agreed() -> None:
    """Beyond the bound threads have no history, until others have gone."""
    past = Past(most=4)
    threads = range(100, 110)
    past.poll(dict.fromkeys(threads, 0))
    past.poll(dict.fromkeys(threads, 10))
    assert past.rings == 4
    past.poll(dict.fromkeys(threads[2:], 10))
    assert past.rings == 4
    assert len(process(past.history.view()).threads) == 2


def test_memory_is_what_the_documentation_says() -> None:
    """Each ring takes at most RING_BYTES, with all that belongs to it, and twice that if it is shown."""
    past = Past()
    threads = range(100, 2100)
    past.poll(dict.fromkeys(threads, 0))
    read = sample(
        *(thread(tid, "t", MS) for tid in threads), clock_ns=2 * SECOND, time_ns=past.now_ns
    )
    past.account.charge(read)
    groups, ledgers = past.account._groups.values(), past.account._ledgers
    tracemalloc.start()
    try:
        past.history.record(past.now_ns + STEP_NS, SECOND, groups, ledgers)
        kept, _ = tracemalloc.get_traced_memory()
        view = past.history.view()
        shown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert past.rings == len(process(view).threads) + 2 == len(threads) + 2
    assert 0 < kept <= RING_BYTES * past.rings
    assert shown <= 2 * RING_BYTES * past.rings


@pytest.mark.parametrize("used", [100_000_000, 400_000_000])
def test_values_have_an_upper_bound(used: int) -> None:
    """More than 65 CPUs are shown as 65.5, and a thread is never shown with more than one."""
    past = Past()
    past.poll({100: 0})
    view = past.poll({100: used})
    assert process(view).cpu.per_mille() == [65_535]
    assert process(view).threads[WHO].per_mille() == [1000]
