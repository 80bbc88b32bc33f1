"""Processes and groups: which belong together, what stays, and what goes with time."""

from __future__ import annotations

from tests.books import KEY, MS, SECOND, Books, cpu_by_name, ended, sample, thread
from threadwatch.accounting.children import EndedChild
from threadwatch.accounting.places import SHARE
from threadwatch.model.keys import OTHER, UNATTRIBUTED, ProcessKey, SeriesKey
from threadwatch.procfs import Waited

OTHER_KEY = ProcessKey(200, 7000)


def test_processes_of_a_group_share_series_and_clock() -> None:
    """The same name in two processes of a group is one series, and their clocks add up."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS))
    books.charge(thread(200, "main", 3 * MS), key=OTHER_KEY, published=False)
    group = books.group()
    assert (group.cpu_ns, group.processes, group.published) == (8 * MS, 2, 1)
    assert books.cpu() == {"main": 8 * MS}
    assert books.living() == {"main": 2}


def test_series_per_process_and_per_thread() -> None:
    """A group can keep its processes, or threads, apart; what is unattributed is the process's."""
    for per, one, two in (
        ("process", SeriesKey("job", 100), SeriesKey("job", 200)),
        ("thread", SeriesKey("job", 100, 101), SeriesKey("job", 200, 201)),
    ):
        books = Books(per=per)
        books.charge(thread(101, "job", 5 * MS), clock_ns=6 * MS)
        books.charge(thread(201, "job", 3 * MS), key=OTHER_KEY)
        series = books.group().series
        assert set(series) == {one, two, SeriesKey(UNATTRIBUTED, 100)}
        assert (series[one].user_ns, series[two].user_ns) == (5 * MS, 3 * MS)


def test_per_thread_each_thread_has_its_own_series() -> None:
    """Threads of one name, and those that only their ends told of, are told apart by TID."""
    books = Books(per="thread")
    books.charge(thread(101, "job", 5 * MS, slot=1), thread(102, "job", 2 * MS, slot=2))
    books.charge(
        thread(101, "job", 5 * MS, slot=1), ended=(ended(3, 103, "job", 4 * MS),), clock_ns=11 * MS
    )
    series = books.group().series
    assert {key.tid: totals.user_ns for key, totals in series.items()} == {
        101: 5 * MS,
        102: 2 * MS,
        103: 4 * MS,
    }
    assert cpu_by_name(books.group()) == {"job": 11 * MS}


def test_a_process_that_changes_its_group_leaves_what_it_used() -> None:
    """What was charged stays; the threads, and what they use from now on, are the other group's."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS), thread(101, "job", 2 * MS), clock_ns=8 * MS)
    books.open(group="bakery")
    assert books.living("shop") == {}
    assert books.living("bakery") == {"main": 1, "job": 1}
    assert (books.group("shop").processes, books.group("bakery").processes) == (0, 1)
    assert (books.group("shop").published, books.group("bakery").published) == (0, 1)
    books.charge(thread(100, "main", 9 * MS), thread(101, "job", 2 * MS), clock_ns=12 * MS)
    assert books.cpu("shop") == {"main": 5 * MS, "job": 2 * MS, UNATTRIBUTED: MS}
    assert books.cpu("bakery") == {"main": 4 * MS, "job": 0}
    books.close()
    assert books.totals("main", "bakery").ended == 1


def test_a_change_of_group_counts_nothing_twice() -> None:
    """Where threads were ahead of the clock, the clock catches up in the old group and not in the new."""
    books = Books()
    books.charge(thread(100, "main", 7 * MS), clock_ns=5 * MS)
    books.open(group="bakery")
    books.charge(thread(100, "main", 10 * MS), clock_ns=12 * MS)
    assert (books.group("shop").cpu_ns, books.group("bakery").cpu_ns) == (7 * MS, 5 * MS)


def test_what_is_open_at_a_change_of_group_is_charged_in_the_new_one() -> None:
    """A thread that was not read before the change is charged once, where it is found."""
    books = Books()
    books.charge(thread(100, "main", 7 * MS), clock_ns=9 * MS, unread_ns=2 * MS, open_ns=2 * MS)
    books.open(group="bakery")
    assert books.cpu("shop") == {"main": 7 * MS}
    books.account.charge(sample(thread(100, "main", 9 * MS), clock_ns=9 * MS, time_ns=books.now_ns))
    assert books.cpu("bakery") == {"main": 2 * MS}
    assert books.group("shop").cpu_ns + books.group("bakery").cpu_ns == 9 * MS


def test_a_process_that_comes_back_to_its_group_goes_on_there() -> None:
    """A series that was left is found again as it was."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS))
    books.open(group="bakery")
    books.charge(thread(100, "main", 6 * MS))
    books.open(group="shop")
    books.charge(thread(100, "main", 8 * MS))
    assert (books.cpu("shop"), books.cpu("bakery")) == ({"main": 7 * MS}, {"main": MS})


def test_new_rules_hold_for_the_threads_that_there_are() -> None:
    """After a reload, threads are counted and charged under their new labels; the past stays."""
    books = Books()
    books.charge(thread(100, "pool-1", 5 * MS), thread(101, "pool-2", 2 * MS))
    books.open(fold=lambda name: name.split("-")[0])
    books.charge(thread(100, "pool-1", 6 * MS), thread(101, "pool-2", 2 * MS))
    assert books.cpu() == {"pool-1": 5 * MS, "pool-2": 2 * MS, "pool": MS}
    assert books.living() == {"pool": 2}
    assert (books.group().processes, books.group().published) == (1, 1)


def test_new_rules_can_tell_processes_apart() -> None:
    """After a change of ``per``, the old series stay as they are until they expire."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS), clock_ns=6 * MS)
    books.open(per="process")
    books.charge(thread(100, "main", 6 * MS), clock_ns=8 * MS)
    series = books.group().series
    assert series[SeriesKey("main")].user_ns == 5 * MS
    assert series[SeriesKey("main", 100)].user_ns == MS
    assert series[SeriesKey(UNATTRIBUTED, 100)].user_ns == MS


def test_names_over_the_cap_share_one_series() -> None:
    """What finds no place is charged to (other), with starts, ends and states, and is counted."""
    books = Books(cap=2)
    threads = [thread(101 + i, f"name {i}", (i + 1) * MS, slot=i) for i in range(4)]
    views = books.charge(*threads)
    assert [view.thread for view in views] == ["name 0", "name 1", OTHER, OTHER]
    assert books.cpu() == {"name 0": MS, "name 1": 2 * MS, OTHER: 7 * MS}
    assert books.living() == {"name 0": 1, "name 1": 1, OTHER: 2}
    assert books.group().dropped == 2
    books.charge(*threads[:3], clock_ns=11 * MS, ended=(ended(3, 104, "name 3", 5 * MS),))
    assert books.cpu()[OTHER] == 8 * MS
    assert (books.totals(OTHER).started, books.totals(OTHER).ended) == (2, 1)


def test_expired_names_keep_the_sum() -> None:
    """A name that no thread has had for ``expire_after`` goes into (other), and the sum stays."""
    books = Books(expire_after_ns=60 * SECOND)
    books.charge(thread(100, "main", 5 * MS), thread(101, "job", 2 * MS))
    books.charge(thread(100, "main", 5 * MS), clock_ns=7 * MS)
    books.wait(59)
    assert books.cpu() == {"main": 5 * MS, "job": 2 * MS}
    books.wait(2)
    assert books.cpu() == {"main": 5 * MS, OTHER: 2 * MS}
    assert (books.totals(OTHER).started, books.totals(OTHER).ended) == (1, 1)
    assert books.group().cpu_ns == 7 * MS
    books.charge(thread(100, "main", 5 * MS), thread(102, "job", MS), clock_ns=8 * MS)
    assert books.cpu() == {"main": 5 * MS, OTHER: 2 * MS, "job": MS}


def test_threads_that_sleep_for_ever_do_not_expire() -> None:
    """A name lives as long as a thread has it, whether or not that does anything."""
    books = Books(expire_after_ns=SECOND)
    books.charge(thread(100, "main", 5 * MS))
    books.wait(10_000)
    assert books.cpu() == {"main": 5 * MS}


def test_a_group_without_processes_expires_and_starts_anew() -> None:
    """A group is gone ``expire_after`` after its last process, and comes back from nothing."""
    books = Books(expire_after_ns=60 * SECOND)
    books.charge(thread(100, "main", 5 * MS))
    books.close()
    books.wait(60)
    assert books.cpu() == {"main": 5 * MS}
    assert (books.group().processes, books.living()) == (0, {})
    books.wait(1)
    assert books.groups() == {}
    books.charge(thread(200, "main", 3 * MS), key=OTHER_KEY)
    assert books.cpu() == {"main": 3 * MS}
    assert (books.totals("main").started, books.group().processes) == (1, 1)


def test_a_group_that_gets_a_process_in_time_goes_on() -> None:
    """A restart within ``expire_after`` adds to what there was."""
    books = Books(expire_after_ns=60 * SECOND)
    books.charge(thread(100, "main", 5 * MS))
    books.close()
    books.wait(30)
    books.charge(thread(200, "main", 3 * MS), key=OTHER_KEY)
    books.wait(10_000)
    assert books.cpu() == {"main": 8 * MS}


def test_groups_stand_in_order_of_their_names() -> None:
    """Outputs need not sort."""
    books = Books()
    for pid, name in enumerate("cab"):
        books.open(ProcessKey(pid, 1), name)
    assert [group.name for group in books.account.groups(books.now_ns)] == ["a", "b", "c"]


def test_closing_what_was_never_opened_does_nothing() -> None:
    """A process that went away before it was read has no books."""
    books = Books()
    books.close(ended(1, 100, "main", MS))
    assert books.groups() == {}
    books.open()
    books.close()
    assert (books.group().cpu_ns, books.group().processes, books.group().series) == (0, 0, {})
    assert KEY not in books.account._ledgers


def test_groups_beyond_the_most_share_one() -> None:
    """Processes that call themselves ever other names are one group in the end, and lose nothing by it."""
    books = Books(expire_after_ns=10 * SECOND)
    for number in range(SHARE + 3):
        key = ProcessKey(1000 + number, 5000)
        books.open(key, f"program-{number}", per="process")
        read = sample(
            thread(key.pid, "job", 5 * MS), clock_ns=5 * MS, time_ns=books.now_ns, key=key
        )
        books.account.charge(read)
    groups = books.groups()
    assert len(groups) == SHARE + 1
    rest = groups[OTHER]
    assert (rest.processes, rest.dropped, rest.cpu_ns) == (3, 3, 15 * MS)
    assert cpu_by_name(rest) == {"job": 15 * MS}
    assert set(rest.series) == {SeriesKey("job")}
    for number in range(SHARE):
        books.account.close(ProcessKey(1000 + number, 5000), (), books.now_ns)
    books.wait(11)
    books.open(ProcessKey(7, 7), "late")
    books.groups()
    books.open(ProcessKey(8, 8), "later")
    assert set(books.groups()) >= {OTHER, "later"}


def test_what_ended_children_used_is_in_their_groups() -> None:
    """The last moments of a worker go to its own group under its name, unseen ones to their parent's."""
    books = Books()
    waited = Waited()
    for key, group in ((KEY, "master"), (OTHER_KEY, "work")):
        books.open(key, group)
        books.account.children.open(key, waited, books.now_ns)
    books.charge(thread(100, "main", 5 * MS))
    books.charge(thread(200, "main", 500 * MS), key=OTHER_KEY)
    began_ns = books.now_ns
    closed = books.account.close(OTHER_KEY, (), books.now_ns)
    assert closed is not None
    child = EndedChild(OTHER_KEY, KEY.pid, closed.cpu_ns, books.now_ns, closed.group, closed.series)
    books.account.children.close(child, waited)
    books.wait(1)
    # 0.5 s have been charged, one more can be the worker's, and 0.2 are of others
    books.account.children.read(KEY, Waited(100, 70))
    books.account.settle([KEY], books.now_ns)
    assert books.now_ns == began_ns + SECOND
    assert books.cpu("work") == {"main": 1500 * MS}
    assert books.cpu("master") == {"main": 5 * MS, UNATTRIBUTED: 200 * MS}
    master, work = books.group("master"), books.group("work")
    assert (master.cpu_ns, master.ended_children_ns) == (205 * MS, 200 * MS)
    assert (work.cpu_ns, work.ended_children_ns) == (1500 * MS, 0)
    rest = books.totals(UNATTRIBUTED, "master")
    assert (rest.user_ns, rest.system_ns) == (round(200 * MS * 10 / 17), round(200 * MS * 7 / 17))


def test_the_last_moments_of_several_threads_have_no_name() -> None:
    """It is unknown which of a worker's threads used them; with ``per: process`` they are the worker's."""
    books = Books(per="process")
    for key in (KEY, OTHER_KEY):
        books.open(key)
        books.account.children.open(key, Waited(), books.now_ns)
    books.charge(thread(100, "main", 5 * MS))
    books.charge(thread(200, "main", 5 * MS), thread(201, "job", 5 * MS), key=OTHER_KEY)
    closed = books.account.close(OTHER_KEY, (), books.now_ns)
    assert closed is not None
    assert closed.series is None
    child = EndedChild(OTHER_KEY, KEY.pid, closed.cpu_ns, books.now_ns, closed.group, None)
    books.account.children.close(child, Waited())
    books.wait(1)
    books.account.children.read(KEY, Waited(50, 0))
    books.account.settle([KEY], books.now_ns)
    series = books.group().series
    assert series[SeriesKey(UNATTRIBUTED, 200)].user_ns == 490 * MS
    assert books.group().cpu_ns == sum(cpu_by_name(books.group()).values()) == 505 * MS
    assert books.group().ended_children_ns == 490 * MS
