"""What is charged to the tasks of a loop: their thread's CPU time, time with the loop, and lags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.books import KEY, SECOND, Books, ended, thread
from threadwatch.accounting.loop_series import MOST_TASKS
from threadwatch.model.keys import OTHER, ProcessKey, SeriesKey
from threadwatch.model.loops import (
    LAG_BUCKETS,
    LOOP,
    NO_LOOP,
    UNKNOWN,
    LoopLook,
    LoopReading,
    LoopTotals,
    LoopView,
    Ran,
    TaskCount,
    TaskTotals,
)
from threadwatch.model.readings import Identity

MS = 1_000_000
MAIN: Identity = (1, 6000)


def look(
    holder: str | None, *, ran: Ran = Ran.NO, age_ns: int | None = 0, ns: int = 100 * MS
) -> LoopLook:
    """Return a look at a loop, 100 ms after the one before."""
    return LoopLook(holder, ran, age_ns, ns)


def ran(*holders: str | None) -> tuple[LoopLook, ...]:
    """Return looks that found these on a CPU."""
    return tuple(look(holder, ran=Ran.YES) for holder in holders)


def loops(
    *looks: LoopLook, identity: Identity = MAIN, **values: Any
) -> dict[Identity, LoopReading]:
    """Return what looks at one thread's loop have seen."""
    known: dict[str, Any] = {"kind": "asyncio", "ready": None, "counts": None, "began_ns": 1 << 62}
    return {identity: LoopReading(looks=looks, **{**known, **values})}


class TaskBooks(Books):
    """Books of a process with one thread, which runs a loop."""

    cpu_ns = 0

    def poll(
        self, gained_ns: int, seen: Mapping[Identity, LoopReading] | None = None, name: str = "main"
    ) -> LoopView | None:
        """Charge what the thread has used in one more second, and what looks have seen."""
        self.cpu_ns += gained_ns
        (view,) = self.charge(thread(1, name, self.cpu_ns), loops=seen)
        return view.loop

    def loop(self, name: str = "main", **key: Any) -> LoopTotals:
        """Return the totals of the loops of one thread name."""
        totals = self.totals(name, **key).loop
        assert totals is not None
        return totals

    def tasks(self, name: str = "main") -> dict[str, int]:
        """Return the CPU time in ns by task."""
        return {task: totals.cpu_ns for task, totals in self.loop(name).tasks.items()}


def begun(**rules: Any) -> TaskBooks:
    """Return books whose thread has used 5 s before its loop was seen."""
    books = TaskBooks(**rules)
    books.poll(5 * SECOND, loops(look(None)))
    return books


def test_cpu_time_is_divided_by_what_ran() -> None:
    """The thread's gain goes to the tasks by the looks that found each on a CPU; its past to none."""
    books = begun()
    books.poll(100, loops(*ran("a", "a", "b", None), look("c"), look(None)))
    assert books.tasks() == {"a": 50, "b": 25, LOOP: 25, "c": 0}


def test_the_poll_in_which_a_loop_is_found() -> None:
    """Of what the thread has used in that poll, the tasks have the part that passed since the first look."""
    books = TaskBooks()
    books.poll(5 * SECOND)
    books.poll(100, loops(*ran("a"), began_ns=books.now_ns + SECOND // 4))
    assert books.tasks() == {"a": 75}
    books.poll(100, loops(*ran("b")))
    assert books.tasks() == {"a": 75, "b": 100}


def test_no_nanosecond_is_lost_by_division() -> None:
    """Shares that do not divide the gain add up to it all the same."""
    books = begun()
    books.poll(100, loops(*ran("a", "b", "c")))
    assert sorted(books.tasks().values()) == [33, 33, 34]


def test_a_gain_without_a_look_waits_for_one() -> None:
    """What no look has seen run is charged with what later looks see, for a minute; then it is unknown."""
    books = begun()
    for _ in range(30):
        books.poll(10, loops(look("a"), look(None)))
    assert books.tasks() == {"a": 0}
    books.poll(10, loops(*ran("a")))
    assert books.tasks() == {"a": 310}
    for _ in range(60):
        books.poll(10, loops(look(None)))
    assert books.tasks() == {"a": 310}
    books.poll(10, loops(look(None)))
    assert books.tasks() == {"a": 310, UNKNOWN: 610}


def test_work_without_a_cpu_counts_where_no_look_finds_one() -> None:
    """For 5 s a gain waits for a look that finds the thread on a CPU; then looks at work will do."""
    books = begun()
    for _ in range(5):
        books.poll(10, loops(look("a", ran=Ran.READY), look(None)))
    assert books.tasks() == {"a": 0}
    books.poll(10, loops(look("b", ran=Ran.READY)))
    assert books.tasks() == {"a": 50, "b": 10}
    books.poll(10, loops(look("a", ran=Ran.READY), look("b", ran=Ran.YES)))
    assert books.tasks() == {"a": 50, "b": 20}


def test_a_look_may_be_ahead_of_the_clock() -> None:
    """A look that found a task on a CPU before the clock shows any gain counts for the next gain."""
    books = begun()
    books.poll(0, loops(*ran("a")))
    books.poll(10)
    assert books.tasks() == {"a": 10}


def test_time_outside_of_the_loop_has_a_name() -> None:
    """CPU time that the thread uses between two loops is in the sum; nothing holds a loop then."""
    books = begun()
    books.poll(90, loops(*ran("a", NO_LOOP, NO_LOOP), kind=None))
    assert books.tasks() == {"a": 30, NO_LOOP: 60}
    loop = books.loop()
    assert (loop.tasks[NO_LOOP].held_ns, loop.tasks["a"].held_ns) == (0, 100 * MS)
    assert loop.kinds == ()


def test_the_end_of_a_thread_charges_what_was_open() -> None:
    """What a thread has used until its end is charged: to what ran last, or else it is unknown."""
    books = begun()
    books.poll(70, loops(look(None)))
    books.charge(clock_ns=books.cpu_ns, living=frozenset())
    assert books.tasks() == {UNKNOWN: 70}
    books = begun()
    books.cpu_ns += 40
    books.charge(thread(1, "main", books.cpu_ns, slot=1), loops=loops(*ran("a")))
    end = ended(1, 1, "main", books.cpu_ns + 60)
    books.charge(clock_ns=books.cpu_ns + 60, ended=(end,), living=frozenset())
    assert books.tasks() == {"a": 40, UNKNOWN: 60}
    assert books.loop().kinds == ()


def test_a_renamed_thread_takes_its_loop_along() -> None:
    """Each name has the tasks' CPU time of its own time, and only the new one has the loop."""
    books = begun()
    books.poll(10, loops(*ran("a"), ready=3, counts={"a": TaskCount(1, 2)}))
    books.poll(10, loops(look(None), ready=3))
    books.poll(30, loops(*ran("b"), ready=4), name="server")
    assert books.tasks() == {"a": 10, UNKNOWN: 10}
    assert books.tasks("server") == {"a": 0, "b": 30}
    before, now = books.loop(), books.loop("server")
    assert (before.ready, before.kinds, before.tasks["a"].alive) == (None, (), TaskCount(0, 0))
    assert (now.ready, now.kinds, now.tasks["a"].alive) == (4, ("asyncio",), TaskCount(1, 2))


def test_another_group_has_other_rules() -> None:
    """A process that moves to another group has its tasks named by the rules of that."""
    books = begun()
    books.poll(10, loops(*ran("a-1")))
    books.open(group="other shop", fold_task=str.upper)
    books.poll(20, loops(*ran("a-1")))
    totals = books.totals("main", "other shop").loop
    assert totals is not None
    assert {name: task.cpu_ns for name, task in totals.tasks.items()} == {"A-1": 20}


def test_time_in_which_a_task_has_the_loop() -> None:
    """Each look stands for the time since the one before, whether or not the thread ran."""
    books = begun(blocked_after_ns=200 * MS)
    books.poll(
        0,
        loops(
            look("a", ran=Ran.YES, age_ns=1 * MS),
            look("b", age_ns=201 * MS, ns=300 * MS),
            look("b", age_ns=None, ns=50 * MS),
            look(None),
            look("b", age_ns=200 * MS, ns=0),
        ),
    )
    tasks = books.loop().tasks
    assert tasks["a"] == TaskTotals(0, 100 * MS, 0, None)
    assert tasks["b"] == TaskTotals(0, 350 * MS, 300 * MS, None)


def test_a_process_at_rest_is_charged_with_what_blocks_it() -> None:
    """While nothing runs, looks count all the same: its CPU time stays what it was."""
    books = begun()
    books.account.see_loops(KEY, loops(look("sleeper", age_ns=5 * SECOND, ns=SECOND)), books.now_ns)
    loop = books.loop()
    assert loop.tasks["sleeper"] == TaskTotals(0, SECOND, SECOND, None)
    assert loop.lag_max_ns(books.now_ns) == 5 * SECOND


def test_lags() -> None:
    """Ages are counted by the first bound that is not less, and the largest is that of the last minute."""
    books = begun()
    bounds = [round(bound * SECOND) for bound in LAG_BUCKETS]
    before = books.loop()
    books.poll(0, loops(*(look("a", age_ns=age) for age in (*bounds, bounds[-1] + 1))))
    loop = books.loop()
    grown = [now - then for now, then in zip(loop.lags, before.lags, strict=True)]
    assert grown == [1] * (len(bounds) + 1)
    assert loop.lag_sum_ns == before.lag_sum_ns + sum(bounds) + bounds[-1] + 1
    assert loop.lag_max_ns(books.now_ns) == bounds[-1] + 1
    for age in (7, 5, 6):
        books.wait(20)
        books.poll(0, loops(look("a", age_ns=age)))
    assert books.loop().lag_max_ns(books.now_ns) == 7
    books.wait(30)
    assert books.loop().lag_max_ns(books.now_ns) == 6
    books.wait(60)
    assert books.loop().lag_max_ns(books.now_ns) is None


def test_names_are_bounded() -> None:
    """A thread name has 50 task names at most, and the rest is one. Names of our own are not counted."""
    books = begun()
    for number in range(3 * MOST_TASKS):
        books.poll(10, loops(*ran(f"task {number}")))
    books.poll(10, loops(*ran(None), counts={"new": TaskCount(1, 1), "newer": TaskCount(1, 0)}))
    tasks = books.loop().tasks
    assert len(tasks) == MOST_TASKS + 2
    assert (tasks[OTHER].cpu_ns, tasks[LOOP].cpu_ns) == (20 * MOST_TASKS, 10)
    assert tasks[OTHER].alive == TaskCount(2, 1)


def test_names_that_nothing_has_expire() -> None:
    """A name that is idle for long goes into (other) with its totals, and makes room; a living one stays."""
    books = begun(expire_after_ns=10 * SECOND)
    books.poll(10, loops(*ran("old"), look("old"), counts={"alive": TaskCount(0, 1)}))
    for _ in range(11):
        books.poll(10, loops(*ran("new")))
    tasks = books.loop().tasks
    assert set(tasks) == {"alive", "new", OTHER}
    assert tasks[OTHER] == TaskTotals(10, 200 * MS, 0, None)
    books.poll(10, loops(*ran("old")))
    assert books.tasks()["old"] == 10


def test_an_expired_thread_name_takes_its_tasks_along() -> None:
    """The tasks of a thread name that has expired stand under the thread (other)."""
    books = begun(expire_after_ns=10 * SECOND)
    books.poll(10, loops(*ran("a")))
    books.charge(thread(2, "else"), clock_ns=books.cpu_ns, living=frozenset({(2, 6000)}))
    books.wait(20)
    books.charge(thread(2, "else"), clock_ns=books.cpu_ns, living=frozenset({(2, 6000)}))
    assert SeriesKey("main") not in books.group().series
    assert books.tasks(OTHER) == {"a": 10}
    assert books.loop(OTHER).ready is None


def test_living_tasks_are_those_of_the_last_count() -> None:
    """A new count of one loop takes the place of its old one; names without tasks are 0; loops add up."""
    books = TaskBooks()
    other = ProcessKey(200, 7000)
    counts = {"a": TaskCount(1, 2), "b": TaskCount(0, 5)}
    books.charge(thread(1, "main"), loops=loops(ready=2, counts=counts))
    books.charge(
        thread(9, "main"),
        key=other,
        loops=loops(identity=(9, 6000), kind="uvloop", ready=5, counts={"a": TaskCount(10, 20)}),
    )
    alive = {name: task.alive for name, task in books.loop().tasks.items()}
    assert alive == {"a": TaskCount(11, 22), "b": TaskCount(0, 5)}
    assert (books.loop().ready, books.loop().kinds) == (7, ("asyncio", "uvloop"))
    books.charge(thread(1, "main"), loops=loops(counts={"a": TaskCount(3, 3)}))
    alive = {name: task.alive for name, task in books.loop().tasks.items()}
    assert alive == {"a": TaskCount(13, 23), "b": TaskCount(0, 0)}
    books.close(key=other)
    alive = {name: task.alive for name, task in books.loop().tasks.items()}
    assert alive == {"a": TaskCount(3, 3), "b": TaskCount(0, 0)}
    assert books.loop().kinds == ("asyncio",)


def test_a_thread_without_a_loop_has_no_tasks() -> None:
    """Nothing is counted for a thread before its first loop has been seen."""
    books = TaskBooks()
    assert books.poll(10, loops(*ran(NO_LOOP), kind=None)) is None
    assert books.totals("main").loop is None


def test_the_view_of_a_loop() -> None:
    """What runs now, and the shares of the time since the view before, by task."""
    books = TaskBooks()
    books.charge(thread(1, "main"), first=True)
    books.poll(5 * MS, loops(look(None), ready=1))
    looks = (look("a", ran=Ran.YES), look("b", ran=Ran.YES, age_ns=3 * MS))
    second = books.poll(600 * MS, loops(*looks, ready=2, counts={"b": TaskCount(1, 0)}))
    assert second is not None
    assert (second.kind, second.holder, second.age_ns, second.ready) == ("asyncio", "b", 3 * MS, 2)
    shares = {task.name: (task.cpu_ratio, task.held_ratio) for task in second.tasks}
    assert shares["b"] == (0.3, 0.1)
    assert {task.name: task.alive for task in second.tasks} == {"a": None, "b": TaskCount(1, 0)}
    third = books.poll(0, loops(look(None), kind=None))
    assert third is not None
    assert (third.kind, third.holder, third.ready) == (None, None, None)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * SECOND),
            st.lists(
                st.tuples(st.sampled_from(["a", "b", "c-1", None, NO_LOOP]), st.integers(0, 2))
            ),
            st.sampled_from(["main", "other"]),
            st.integers(0, 90),
        ),
        max_size=30,
    )
)
def test_the_sum_over_tasks_is_the_threads_cpu_time(
    polls: list[tuple[int, list[tuple[str | None, int]], str, int]],
) -> None:
    """Whatever looks see, names change and time passes: at the end no nanosecond is missing or too many."""
    books = begun(expire_after_ns=30 * SECOND)
    before = books.cpu_ns
    for gained_ns, looks, name, wait in polls:
        books.wait(wait)
        seen = loops(*(look(holder, ran=Ran(on)) for holder, on in looks))
        books.poll(gained_ns, seen, name)
        tasks = sum(
            t.cpu_ns for s in books.group().series.values() if s.loop for t in s.loop.tasks.values()
        )
        assert tasks <= books.cpu_ns - before
    books.close()
    series = books.group().series
    assert books.cpu_ns - before == sum(
        task.cpu_ns for one in series.values() if one.loop for task in one.loop.tasks.values()
    )
