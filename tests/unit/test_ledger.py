"""One process's books: lives, ends, names, and the rest that the process clock has."""

from __future__ import annotations

import pytest

from tests.books import KEY, MS, SECOND, Books, ended, thread
from threadwatch.accounting.exit_tails import TAIL_NS
from threadwatch.model.keys import OTHER, UNATTRIBUTED, ProcessKey
from threadwatch.model.readings import EndedThread, ThreadReading, Waits


def test_first_sight_charges_a_whole_life() -> None:
    """A thread that has run for long before it is seen is charged with all of it."""
    books = Books()
    books.charge(
        thread(100, "main", 7 * SECOND, runqueue_ns=5, timeslices=9, minor_faults=11),
        first=True,
    )
    totals = books.totals("main")
    assert totals.user_ns == 7 * SECOND
    assert (totals.runqueue_ns, totals.timeslices, totals.minor_faults) == (5, 9, 11)
    assert (totals.started, totals.ended) == (1, 0)


def test_counters_never_fall_when_what_was_read_falls() -> None:
    """A reading that goes back, of clock or counts, is no reading."""
    books = Books()
    books.charge(thread(100, "main", 8 * MS, runqueue_ns=9, read_bytes=5), clock_ns=9 * MS)
    books.charge(thread(100, "main", 8 * MS, runqueue_ns=3, read_bytes=2), clock_ns=7 * MS)
    assert books.group().cpu_ns == 9 * MS
    assert (books.totals("main").runqueue_ns, books.totals("main").read_bytes) == (9, 5)
    books.charge(thread(100, "main", 10 * MS, runqueue_ns=12, read_bytes=6), clock_ns=11 * MS)
    assert books.cpu() == {"main": 10 * MS, UNATTRIBUTED: MS}
    assert (books.totals("main").runqueue_ns, books.totals("main").read_bytes) == (12, 6)


def test_a_clock_that_falls_takes_nothing_back() -> None:
    """What the clock had for threads that were not read stays theirs when it is read as less."""
    books = Books()
    books.charge(thread(100, "main"), clock_ns=MS, unread_ns=MS, open_ns=MS)
    books.charge(thread(100, "main"), clock_ns=0, unread_ns=MS, open_ns=MS)
    assert books.group().cpu_ns == MS


def test_threads_ahead_of_the_process_clock_wait_for_it() -> None:
    """Threads are read after the clock: what they are ahead counts, and is not counted twice."""
    books = Books()
    books.charge(thread(100, cpu_ns=12 * MS), clock_ns=10 * MS)
    assert books.group().cpu_ns == 12 * MS
    books.charge(thread(100, cpu_ns=12 * MS), clock_ns=12 * MS)
    assert books.group().cpu_ns == 12 * MS
    books.charge(thread(100, cpu_ns=12 * MS), clock_ns=13 * MS)
    assert books.cpu() == {"worker": 12 * MS, UNATTRIBUTED: MS}


def test_a_vanished_thread_keeps_what_it_used() -> None:
    """A thread that the kernel does not show any more has ended; its time stays under its name."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "worker", 5 * MS))
    books.charge(thread(100, "main"), clock_ns=5 * MS)
    assert books.cpu() == {"main": 0, "worker": 5 * MS}
    assert (books.totals("worker").started, books.totals("worker").ended) == (1, 1)
    assert books.living() == {"main": 1}


def test_threads_that_rest_live_on() -> None:
    """Threads that were not read have not gone, as long as the kernel shows them."""
    books = Books()
    books.charge(thread(100, "main"), thread(101), thread(102))
    books.charge(thread(100, "main", MS), resting=None)
    assert books.living() == {"main": 1, "worker": 2}
    books.charge(thread(100, "main", MS), resting=frozenset({(102, 6000)}))
    assert books.living() == {"main": 1, "worker": 1}
    assert books.totals("worker").ended == 1


def test_what_was_not_read_is_not_unattributed_yet() -> None:
    """What the clock has beyond the threads that were read may be of the others."""
    books = Books()
    books.charge(thread(100, "main"), thread(101))
    books.charge(
        thread(100, "main", 2 * MS), clock_ns=3 * MS, resting=None, unread_ns=MS, open_ns=MS
    )
    assert books.cpu() == {"main": 2 * MS, "worker": 0}
    books.charge(thread(101, cpu_ns=MS), clock_ns=3 * MS, resting=frozenset({(100, 6000)}))
    assert books.cpu() == {"main": 2 * MS, "worker": MS}


def test_a_reused_tid_is_another_thread() -> None:
    """The same TID with another start time is charged with its own life, from the start."""
    books = Books()
    books.charge(thread(101, "one", 9 * MS, start_ticks=6000))
    books.charge(thread(101, "two", 4 * MS, start_ticks=6001), clock_ns=13 * MS)
    assert books.cpu() == {"one": 9 * MS, "two": 4 * MS}
    assert (books.totals("one").ended, books.totals("two").started) == (1, 1)


def test_a_tid_reused_within_a_tick_is_another_thread() -> None:
    """Where start times are equal, a clock that has gone back tells."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "one", 9 * MS))
    books.charge(thread(100, "main"), thread(101, "two", 4 * MS), clock_ns=13 * MS)
    assert books.cpu() == {"main": 0, "one": 9 * MS, "two": 4 * MS}
    assert (books.totals("one").ended, books.totals("two").started) == (1, 1)


def test_a_tid_reused_within_a_tick_by_a_thread_that_has_used_more() -> None:
    """Where the clock has not gone back, the published end of the thread before tells."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "one", 2 * MS, slot=2))
    again = thread(101, "two", 9 * MS, slot=3)
    end = ended(2, 101, "one", 4 * MS, early=True)
    books.charge(thread(100, "main"), again, clock_ns=13 * MS, ended=(end,))
    books.charge(thread(100, "main"), clock_ns=13 * MS, ended=(ended(3, 101, "two", 9 * MS),))
    assert books.cpu() == {"main": 0, "one": 4 * MS, "two": 9 * MS}
    for name in ("one", "two"):
        assert (books.totals(name).started, books.totals(name).ended) == (1, 1)


def test_a_thread_without_schedstat_for_once_is_the_same_thread() -> None:
    """Where the exact clock cannot be read in one poll, nothing is charged again."""
    books = Books()
    books.charge(thread(100, cpu_ns=25 * MS, timeslices=4), clock_ns=25 * MS)
    books.charge(
        thread(100, cpu_ns=20 * MS, exact=False, timeslices=None, runqueue_ns=None),
        clock_ns=26 * MS,
        open_ns=20 * MS,
    )
    books.charge(thread(100, cpu_ns=27 * MS, timeslices=6), clock_ns=27 * MS)
    assert books.cpu() == {"worker": 27 * MS}
    assert (books.totals("worker").started, books.totals("worker").timeslices) == (1, 6)


def test_a_rename_moves_the_thread_and_not_its_past() -> None:
    """What was used before stays under the old name; the thread and what it uses are the new name's."""
    books = Books()
    books.charge(thread(100, "old", 5 * MS, slot=1, state="R", minor_faults=3))
    books.wait(3)
    books.charge(thread(100, "new", 9 * MS, slot=1, state="S", minor_faults=10))
    assert books.cpu() == {"old": 5 * MS, "new": 4 * MS}
    old, new = books.totals("old"), books.totals("new")
    assert (old.minor_faults, new.minor_faults) == (3, 7)
    assert (old.started, old.ended, new.started, new.ended) == (1, 0, 0, 0)
    assert books.living() == {"new": 1}
    assert old.states["sleeping"].at(books.now_ns) == 4 * SECOND - 4 * MS  # it ran, meanwhile
    assert (old.now["running"], new.now["sleeping"]) == (0, 1)
    assert new.states["running"].at(books.now_ns) == 4 * MS
    books.charge(clock_ns=9 * MS)
    assert (books.totals("old").ended, books.totals("new").ended) == (0, 1)


def test_threads_that_fold_into_one_name_share_its_series() -> None:
    """A rename within one series changes nothing about it."""
    books = Books(fold=lambda name: name.split("-")[0])
    books.charge(thread(100, "pool-1", 5 * MS), thread(101, "pool-2", 2 * MS))
    (view, _) = books.charge(thread(100, "pool-9", 6 * MS), thread(101, "pool-2", 2 * MS))
    assert (view.name, view.thread) == ("pool-9", "pool")
    assert books.cpu() == {"pool": 8 * MS}
    assert books.living() == {"pool": 2}


def test_states_are_in_the_words_of_the_project() -> None:
    """The kernel's letters become running, sleeping, disk, stopped, zombie; the rest is other."""
    books = Books()
    views = books.charge(*(thread(100 + i, state=state) for i, state in enumerate("RSDTtZXIP")))
    assert [view.state for view in views] == [
        *("running", "sleeping", "disk", "stopped", "stopped", "zombie", "zombie", "other", "other")
    ]


def test_a_view_says_how_much_of_a_cpu_was_used() -> None:
    """CPU time per elapsed time; None at first sight, of the process or of the thread."""
    books = Books()
    (view,) = books.charge(thread(100, cpu_ns=500 * MS), first=True)
    assert view.cpu_ratio is None
    one, other = books.charge(thread(100, cpu_ns=750 * MS), thread(101, cpu_ns=100 * MS))
    assert (one.cpu_ratio, other.cpu_ratio) == (0.25, None)


# Ends that are published.


def test_the_end_of_a_known_thread_tells_its_last_clock() -> None:
    """What a thread used between the last poll and its end is charged to its name."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "job", 5 * MS, slot=2))
    books.charge(thread(100, "main"), clock_ns=8 * MS, ended=(ended(2, 101, "job", 8 * MS),))
    assert books.cpu() == {"main": 0, "job": 8 * MS}
    assert (books.totals("job").started, books.totals("job").ended) == (1, 1)


def test_a_life_that_no_poll_saw_is_charged_whole() -> None:
    """Threads that were born and ended between two polls count: start, end and CPU time."""
    books = Books()
    books.charge(thread(100, "main"))
    books.charge(
        thread(100, "main"),
        clock_ns=6 * MS,
        ended=tuple(ended(2 + i, 101 + i, "request", 2 * MS) for i in range(3)),
    )
    assert books.cpu() == {"main": 0, "request": 6 * MS}
    assert (books.totals("request").started, books.totals("request").ended) == (3, 3)
    assert books.living() == {"main": 1}


def test_an_end_is_not_booked_while_the_kernel_shows_the_thread() -> None:
    """A thread lives as long as the kernel shows it; what it then uses is its own, too."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "job", 5 * MS, slot=2))
    end = ended(2, 101, "job", 8 * MS)
    books.charge(thread(100, "main"), thread(101, "job", 9 * MS, slot=2), ended=(end,))
    assert books.living() == {"main": 1, "job": 1}
    books.charge(thread(100, "main"), clock_ns=9 * MS)
    assert books.cpu() == {"main": 0, "job": 9 * MS}
    assert (books.totals("job").started, books.totals("job").ended) == (1, 1)


def test_slots_of_the_dead_are_forgotten() -> None:
    """Nothing is kept of ends, however many there are."""
    books = Books()
    for poll in range(5):
        ends = tuple(ended(100 * poll + i, 101, "job", 1000) for i in range(100))
        books.charge(thread(100, "main"), clock_ns=(poll + 1) * 100_000, ended=ends)
    ledger = books.account._ledgers[KEY]
    assert (len(ledger._accounts), ledger._balance._dues, ledger._late) == (1, [], {})
    assert books.cpu() == {"main": 0, "job": 500_000}


def test_a_name_that_only_the_end_tells_gets_the_last_time() -> None:
    """A thread renamed since the last poll is charged under its last name for what it used since."""
    books = Books()
    books.charge(thread(101, "old", 5 * MS, slot=2))
    books.charge(clock_ns=8 * MS, ended=(ended(2, 101, "new", 8 * MS),))
    assert books.cpu() == {"old": 5 * MS, "new": 3 * MS}
    assert (books.totals("old").started, books.totals("new").ended) == (1, 1)
    assert books.living() == {}


def test_a_thread_that_was_seen_before_its_table_is_charged_once() -> None:
    """An end of a thread that was seen without a slot belongs to that thread, by its TID."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "python3", 5 * MS))
    books.charge(thread(100, "main"), clock_ns=8 * MS, ended=(ended(2, 101, "job", 8 * MS),))
    assert books.cpu() == {"main": 0, "python3": 5 * MS, "job": 3 * MS}
    started = sum(books.totals(name).started for name in ("python3", "job"))
    assert (started, books.totals("job").ended, books.living()) == (1, 1, {"main": 1})


def test_an_end_of_unknown_cost_is_an_end() -> None:
    """Where the publisher could not read the clock, or it has been charged, the end alone is counted."""
    books = Books()
    books.charge(thread(100, "main"), clock_ns=MS)
    books.charge(thread(100, "main"), clock_ns=MS, ended=(ended(2, 101, "job", None),))
    assert (books.totals("job").started, books.totals("job").ended) == (1, 1)
    assert books.cpu() == {"main": 0, "job": 0, UNATTRIBUTED: MS}


def test_a_thread_that_is_published_anew_is_no_other_thread() -> None:
    """A living thread that moves to another slot is not ended by what becomes of the old one."""
    books = Books()
    books.charge(thread(101, "job", 5 * MS, slot=2))
    again = thread(101, "job", 6 * MS, slot=3)
    books.charge(again, ended=(ended(2, 101, "job", None),))
    books.charge(again, ended=(ended(2, 101, "job", 5 * MS),))
    assert (books.totals("job").started, books.totals("job").ended) == (1, 0)
    books.charge(thread(101, "job", 6 * MS, slot=4))
    assert (books.totals("job").started, books.totals("job").ended) == (1, 0)
    books.charge(clock_ns=7 * MS, ended=(ended(4, 101, "job", 7 * MS),))
    assert books.cpu() == {"job": 7 * MS}
    assert (books.totals("job").started, books.totals("job").ended) == (1, 1)


def test_no_publisher_can_make_up_time() -> None:
    """What ends claim only divides what the process has used."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS, slot=1))
    for poll in range(5):
        lies = ended(2 + poll, 101, "liar", 2**63), ended(1, 100, "main", 2**63)
        books.charge(thread(100, "main", 5 * MS, slot=1), ended=lies)
    assert books.group().cpu_ns == 5 * MS
    assert books.totals("liar").ended == 5
    books.charge(thread(100, "main", 5 * MS, slot=1), clock_ns=8 * MS)
    assert books.cpu() == {"main": 5 * MS, "liar": 3 * MS}


def test_the_last_ends_of_a_process_are_believed_within_a_second() -> None:
    """There is no clock any more to hold them against."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS))
    books.close(ended(2, 101, "liar", 2**63))
    assert books.cpu() == {"main": 5 * MS, "liar": SECOND}


def test_an_end_that_is_younger_than_the_clock_is_charged_with_the_next() -> None:
    """Tables are read after the clock: what it has not got yet waits until it has."""
    books = Books()
    books.charge(thread(100, "main"))
    books.charge(thread(100, "main"), clock_ns=MS, ended=(ended(2, 101, "job", 3 * MS),))
    assert books.cpu() == {"main": 0, "job": MS}
    books.charge(thread(100, "main"), clock_ns=3 * MS)
    books.charge(thread(100, "main"), clock_ns=3 * MS)
    assert books.cpu() == {"main": 0, "job": 3 * MS}


def test_more_than_the_clock_has_is_worked_off() -> None:
    """Should threads ever have been charged too much, they are charged less until the clock has it."""
    books = Books()
    books.charge(thread(100, "main", 90 * MS), clock_ns=0)
    books.charge(thread(100, "main", 100 * MS), clock_ns=10 * MS)
    assert books.group().cpu_ns == 90 * MS
    books.charge(thread(100, "main", 220 * MS), clock_ns=220 * MS)
    assert books.group().cpu_ns == 220 * MS


# Threads of C that call Python now and then.


def visit(serial: int, tid: int, cpu_ns: int) -> EndedThread:
    """Return the end of one call."""
    return ended(serial, tid, f"Dummy-{serial}", cpu_ns, visitor=True)


def test_a_visitor_is_charged_once_and_lives_on() -> None:
    """Whichever numbers its calls have, before and between polls, it is one thread with one clock."""
    books = Books(fold=lambda name: "Dummy-N" if name.startswith("Dummy") else name)
    books.charge(thread(101, "Dummy-1", 10 * MS, slot=1), ended=(visit(1, 101, 9 * MS),))
    ends = tuple(visit(serial, 101, serial * 10 * MS) for serial in range(2, 5))
    books.charge(thread(101, "Dummy-4", 41 * MS, slot=4), ended=ends)
    books.charge(thread(101, "Dummy-5", 55 * MS, slot=5))
    assert books.cpu() == {"Dummy-N": 55 * MS}
    assert (books.totals("Dummy-N").started, books.totals("Dummy-N").ended) == (1, 0)
    ends = visit(5, 101, 60 * MS), visit(6, 101, 70 * MS)
    books.charge(clock_ns=70 * MS, ended=ends)
    assert books.cpu() == {"Dummy-N": 70 * MS}
    assert (books.totals("Dummy-N").started, books.totals("Dummy-N").ended) == (1, 1)


def test_a_visitor_that_no_poll_saw_is_one_thread() -> None:
    """Several calls of a thread of C that lived between two polls are its one life."""
    books = Books(fold=lambda name: "Dummy-N" if name.startswith("Dummy") else name)
    books.charge(thread(100, "main"))
    ends = (*(visit(serial, 101, serial * MS) for serial in range(1, 5)), visit(5, 102, 3 * MS))
    books.charge(thread(100, "main"), clock_ns=7 * MS, ended=ends)
    assert books.cpu() == {"main": 0, "Dummy-N": 7 * MS}
    assert (books.totals("Dummy-N").started, books.totals("Dummy-N").ended) == (2, 2)


def test_a_thread_that_ends_again_and_again_is_one_as_long_as_the_kernel_shows_it() -> None:
    """A greenlet that passes for a thread ends, and the thread that runs it does not."""
    books = Books()
    for poll in range(1, 4):
        end = ended(poll, 101, "green", poll * 10 * MS)
        books.charge(thread(101, "green", poll * 10 * MS, slot=poll + 1), ended=(end,))
    assert books.cpu() == {"green": 30 * MS}
    assert (books.totals("green").started, books.totals("green").ended) == (1, 0)


def test_who_may_be_another_thread_by_its_publishers_word_gets_what_the_clock_has() -> None:
    """A TID can be used again within a tick; a publisher that only says so gains nothing by it."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "one", 8 * MS, slot=2))
    for serial in range(2, 6):
        end = ended(serial, 101, "one", 8 * MS, early=True)
        books.charge(thread(100, "main"), thread(101, "one", 8 * MS, slot=serial + 1), ended=(end,))
    assert books.cpu() == {"main": 0, "one": 8 * MS}
    books.charge(thread(100, "main"), thread(101, "one", 9 * MS, slot=6))
    assert books.cpu() == {"main": 0, "one": 9 * MS}


def test_an_end_that_is_read_late_is_no_second_one() -> None:
    """A thread has gone before its end could be read: it has ended once."""
    books = Books()
    books.charge(thread(100, "main"), thread(101, "job", 5 * MS, slot=2))
    books.charge(thread(100, "main"), clock_ns=6 * MS, behind=True)
    books.charge(
        thread(100, "main"), clock_ns=6 * MS, ended=(ended(2, 101, "job", 6 * MS),), behind=True
    )
    assert (books.totals("job").started, books.totals("job").ended) == (1, 1)
    assert sum(books.cpu().values()) == 6 * MS
    books.charge(thread(100, "main"), clock_ns=6 * MS)
    assert books.account._ledgers[KEY]._late == {}


def test_later_threads_with_its_tid_are_counted_beside_one_that_is_told_late() -> None:
    """Of ends with one TID that are read late, one is that of the thread that has gone."""
    for slot in (2, None):
        books = Books()
        books.charge(thread(100, "main"), thread(101, "job", 5 * MS, slot=slot))
        books.charge(thread(100, "main"), clock_ns=6 * MS, behind=True)
        told = tuple(ended(serial, 101, "job", MS) for serial in (2, 3, 4))
        books.charge(thread(100, "main"), clock_ns=8 * MS, ended=told)
        assert (books.totals("job").started, books.totals("job").ended) == (3, 3)


def test_tails_are_as_long_as_starts_tell() -> None:
    """On a slow machine threads use more after their ends, as they did before they could be published."""
    books = Books()
    books.charge(thread(100, "main"))
    slow = ended(2, 200, "a", MS, start_ns=400_000)
    books.charge(thread(100, "main"), clock_ns=MS + 700_000, ended=(slow,))
    assert books.cpu() == {"main": 0, "a": MS + 700_000}


# # CPU time that no poll has seen.


def test_what_no_thread_has_is_unattributed() -> None:
    """CPU time that the process clock has and no thread that was seen goes to (unattributed), once."""
    books = Books()
    books.charge(thread(100, "main", 5 * MS), clock_ns=8 * MS)
    books.charge(thread(100, "main", 6 * MS), clock_ns=9 * MS)
    assert books.cpu() == {"main": 6 * MS, UNATTRIBUTED: 3 * MS}
    assert (books.totals(UNATTRIBUTED).started, books.living()) == (0, {"main": 1})


def test_the_tail_of_an_end_belongs_to_those_that_ended() -> None:
    """What is left when all ends are published is shared by the threads that ended, by count."""
    books = Books()
    books.charge(thread(100, "main"))
    ends = (*(ended(i, 200, "a", MS) for i in range(3)), ended(9, 200, "b", MS))
    books.charge(thread(100, "main"), clock_ns=4 * MS + 80_000, ended=ends)
    assert books.cpu() == {"main": 0, "a": 3 * MS + 60_000, "b": MS + 20_000}


def test_tails_may_come_a_poll_later() -> None:
    """The clock was read before the ends: their tails can be in the next one, and only there."""
    books = Books()
    books.charge(thread(100, "main"))
    books.charge(thread(100, "main"), clock_ns=MS, ended=(ended(2, 200, "a", MS),))
    books.charge(thread(100, "main"), clock_ns=MS + 30_000)
    assert books.cpu() == {"main": 0, "a": MS + 30_000}
    books.charge(thread(100, "main"), clock_ns=MS + 50_000)
    assert books.cpu() == {"main": 0, "a": MS + 30_000, UNATTRIBUTED: 20_000}


def test_tails_can_be_hidden_by_threads_that_were_not_read() -> None:
    """As long as not all threads have been read, the tails of ends from before are waited for."""
    books = Books()
    books.charge(thread(100, "main"))
    end = ended(2, 200, "a", MS)
    books.charge(thread(100, "main"), clock_ns=MS, ended=(end,))
    for _ in range(3):
        books.charge(resting=None, clock_ns=MS + 50_000, unread_ns=50_000, open_ns=50_000)
    books.charge(thread(100, "main", 20_000), clock_ns=MS + 50_000)
    assert books.cpu() == {"main": 20_000, "a": MS + 30_000}


def test_tails_are_bounded() -> None:
    """Ends do not account for what they cannot have used: threads that no poll saw did."""
    books = Books()
    books.charge(thread(100, "main"))
    books.charge(thread(100, "main"), clock_ns=9 * MS, ended=(ended(2, 200, "a", MS),))
    assert books.cpu() == {"main": 0, "a": MS + TAIL_NS, UNATTRIBUTED: 8 * MS - TAIL_NS}


def test_tails_go_to_other_names_when_theirs_has_expired() -> None:
    """A name that has expired before the tail came is charged no more; the sum is kept all the same."""
    books = Books(expire_after_ns=SECOND // 2)
    books.charge(thread(100, "main"))
    books.charge(thread(100, "main"), clock_ns=MS, ended=(ended(2, 200, "a", MS),))
    books.wait(1)
    assert books.cpu() == {"main": 0, OTHER: MS}
    books.charge(thread(100, "main"), clock_ns=MS + 30_000)
    assert books.cpu() == {"main": 0, OTHER: MS, UNATTRIBUTED: 30_000}


def test_a_newborn_waits_for_its_name() -> None:
    """A thread whose name is about to come is neither shown nor unattributed, and then charged whole."""
    books = Books()
    newborn = thread(101, "python3", 2 * MS, name_pending=True, too_young_to_show=True)
    assert len(books.charge(thread(100, "main"), newborn, open_ns=2 * MS)) == 1
    assert books.cpu() == {"main": 0}
    books.charge(thread(100, "main"), thread(101, "job", 3 * MS, slot=2))
    assert books.cpu() == {"main": 0, "job": 3 * MS}


def test_clocks_in_ticks_are_allowed_to_lag() -> None:
    """Without schedstat a thread's clock is cut off to ticks, twice; no other thread gets that much."""
    books = Books()
    ticks = thread(100, cpu_ns=30 * MS, exact=False, runqueue_ns=None, timeslices=None)
    books.charge(ticks, clock_ns=49 * MS, open_ns=20 * MS)
    assert books.cpu() == {"worker": 30 * MS}
    books.charge(ticks, clock_ns=51 * MS, open_ns=20 * MS)
    assert books.cpu() == {"worker": 30 * MS, UNATTRIBUTED: MS}
    assert books.totals("worker").runqueue_ns is None


def test_unattributed_time_is_split_as_the_process_splits_its_own() -> None:
    """Of what is known by its sum alone, the kernel's part is as large as the whole process's, of late."""
    books = Books()
    books.charge(clock_ns=8 * MS, user_ticks=3, system_ticks=1)
    assert books.totals(UNATTRIBUTED).system_ns == 2 * MS
    books.charge(clock_ns=12 * MS, user_ticks=3, system_ticks=2)
    assert books.totals(UNATTRIBUTED).system_ns == 6 * MS


# The ends of processes.


def test_the_end_of_a_process_ends_its_threads() -> None:
    """Ends that were published last are charged, also of threads that no poll saw."""
    books = Books()
    books.charge(thread(100, "main", MS, slot=1), thread(101, "job", 2 * MS, slot=2))
    books.close(ended(2, 101, "job", 5 * MS), ended(3, 102, "late", 4 * MS))
    assert books.cpu() == {"main": MS, "job": 5 * MS, "late": 4 * MS}
    assert books.group().cpu_ns == 10 * MS
    assert books.living() == {}
    for name in ("main", "job", "late"):
        assert (books.totals(name).started, books.totals(name).ended) == (1, 1)


def test_the_end_of_a_process_leaves_nothing_open() -> None:
    """An allowance is settled when no thread is left to claim it."""
    books = Books()
    books.charge(thread(100, "main", MS), clock_ns=2 * MS, unread_ns=MS, open_ns=MS)
    books.close()
    assert sum(books.cpu().values()) == books.group().cpu_ns == 2 * MS


# exec, called by a thread that is not the leader.


def leader(name: str, cpu_ns: int, **values: int) -> ThreadReading:
    """Return the thread whose TID and start time are the process's."""
    return thread(KEY.pid, name, cpu_ns, start_ticks=KEY.start_ticks, **values)


@pytest.mark.parametrize(
    ("main_ns", "faults"), [(900 * MS, 4), (800 * MS, 99), (2 * MS, 99), (2 * MS, 4)]
)
def test_a_worker_that_execs_takes_its_clock_along(main_ns: int, faults: int) -> None:
    """The thread that calls exec becomes the leader: whichever had counted more, nothing counts twice."""
    books = Books()
    main = leader("main", main_ns, minor_faults=faults)
    books.charge(main, thread(101, "job", 700 * MS, minor_faults=4), thread(102, "idle", MS))
    books.charge(leader("exec", 820 * MS, minor_faults=90), clock_ns=main_ns + 821 * MS)
    assert books.cpu() == {"main": main_ns, "job": 700 * MS, "idle": MS, "exec": 120 * MS}
    assert books.totals("exec").minor_faults == 86
    assert books.living() == {"exec": 1}
    assert [books.totals(name).ended for name in ("main", "job", "idle")] == [1, 0, 1]


def test_a_worker_that_execs_has_the_leaders_series() -> None:
    """Per thread, the TID of the series is the one that the thread has now."""
    books = Books(per="thread")
    books.charge(leader("main", 900 * MS), thread(101, "main", 7 * MS))
    books.charge(leader("main", 8 * MS), clock_ns=908 * MS)
    assert books.totals("main", pid=100, tid=100).user_ns == 901 * MS
    assert books.totals("main", pid=100, tid=101).user_ns == 7 * MS


def test_an_exec_of_a_thread_that_was_never_seen() -> None:
    """Where the thread that calls exec was born since the last poll, its whole life is new."""
    books = Books()
    books.charge(leader("main", 50 * MS), thread(101, "busy", 9 * MS))
    books.charge(leader("exec", 3 * MS), clock_ns=62 * MS)
    assert books.cpu() == {"main": 50 * MS, "busy": 9 * MS, "exec": 3 * MS}
    assert books.living() == {"exec": 1}


def test_the_last_worker_ends_and_the_leader_works_on() -> None:
    """A leader that is left alone is the same thread, as long as the clock has room for what it gained."""
    books = Books()
    books.charge(leader("main", 50 * MS), thread(101, "job", 9 * MS))
    books.charge(leader("main", 250 * MS), clock_ns=260 * MS)
    assert books.cpu() == {"main": 250 * MS, "job": 9 * MS + TAIL_NS, UNATTRIBUTED: MS - TAIL_NS}
    assert books.totals("main").started == 1


def test_nobody_has_called_exec_while_others_live() -> None:
    """exec ends all other threads: as long as there is one, the leader is who it was."""
    books = Books()
    books.charge(leader("main", 2 * MS), thread(101, "job", 90 * MS), thread(102, "idle", MS))
    # threads were read long after the clock, which has no room for the leader's gain yet
    books.charge(leader("main", 95 * MS), thread(102, "idle", MS), clock_ns=93 * MS)
    assert books.cpu() == {"main": 95 * MS, "job": 90 * MS, "idle": MS}
    assert books.totals("job").ended == 1


def test_two_processes_with_one_pid_are_two() -> None:
    """A PID that is used again belongs to another process, with books of its own."""
    books = Books()
    again = ProcessKey(KEY.pid, KEY.start_ticks + 1)
    books.charge(thread(100, "main", 5 * MS))
    books.close()
    books.charge(thread(100, "main", 3 * MS, start_ticks=again.start_ticks), key=again)
    assert books.cpu() == {"main": 8 * MS}
    assert (books.totals("main").started, books.totals("main").ended) == (2, 1)
    assert books.group().processes == 1


def sampled(*times: tuple[str, int], now: str, held_ns: int = 0) -> dict[tuple[int, int], Waits]:
    """Return what samples have seen of thread 100."""
    return {(100, 6000): Waits(now, dict(times), held_ns)}


def shown(books: Books, name: str = "worker") -> dict[str, int]:
    """Return the time in each state in ms."""
    states = books.totals(name).states
    return {state: time.at(books.now_ns) // MS for state, time in states.items()}


def test_what_samples_have_seen_is_taken_from_where_the_thread_was() -> None:
    """Whatever state the thread is found in then, of another letter or another name."""
    for letter in "SD":
        books = Books()
        books.charge(thread(100), waits=sampled(now="sleep"))
        seen = sampled(("file", 300 * MS), ("sleep", 700 * MS), now="file")
        books.charge(thread(100, state=letter), waits=seen)
        assert shown(books) == {"sleeping": 0, "sleep": 700, "file": 300} | (
            {"disk": 0} if letter == "D" else {}
        )
        seen = sampled(("file", 600 * MS), ("sleep", 400 * MS), now="sleep")
        books.charge(thread(100, "other", cpu_ns=100 * MS), waits=seen)
        assert shown(books)["file"] + shown(books)["sleep"] == 1900
        assert shown(books, "other") == {"file": 0, "sleep": 0, "running": 100}


def test_time_that_was_shown_is_not_taken_back() -> None:
    """Time that its clocks tell too late waits until as much has passed that was not shown."""
    books = Books()
    books.charge(thread(100), waits=sampled(now="gil"))
    books.charge(thread(100), waits=sampled(("gil", SECOND), now="gil"))
    assert shown(books)["gil"] == 1000
    late = thread(100, cpu_ns=900 * MS, runqueue_ns=600 * MS, timeslices=1)
    books.charge(late, waits=sampled(("gil", 400 * MS), ("running", 600 * MS), now="gil"))
    assert shown(books) == {"sleeping": 0, "gil": 1000, "running": 900, "runnable": 600}
    books.charge(late, waits=sampled(("gil", SECOND), now="gil"))
    assert shown(books) == {"sleeping": 0, "gil": 1500, "running": 900, "runnable": 600}


def test_who_is_always_found_running_waits_for_what_it_was_seen_to() -> None:
    """A thread of which no poll has seen a wait is not ``sleeping``, if samples between polls have."""
    books = Books()
    books.charge(thread(100, state="R"), waits=sampled(now="running"))
    seen = sampled(("running", 400 * MS), ("gil", 500 * MS), ("lock", 100 * MS), now="running")
    books.charge(thread(100, cpu_ns=400 * MS, state="R"), waits=seen)
    assert shown(books) == {"sleeping": 0, "gil": 500, "lock": 100, "running": 400}
    books.charge(
        thread(100, cpu_ns=700 * MS, state="R"), waits=sampled(("running", SECOND), now="running")
    )
    assert shown(books) == {"sleeping": 0, "gil": 1200, "lock": 100, "running": 700}


def test_what_samples_say_of_a_stopped_thread_is_no_reason() -> None:
    """It is in the call that it was stopped in, and its time is ``stopped``."""
    books = Books()
    books.charge(thread(100), waits=sampled(now="lock"))
    books.charge(thread(100, state="T"), waits=sampled(("lock", SECOND), now="lock"))
    books.charge(thread(100, state="T"), waits=sampled(("lock", SECOND), now="lock"))
    assert shown(books) == {"sleeping": 0, "lock": 1000, "stopped": 1000}
    books.charge(thread(100), waits=sampled(("lock", SECOND), now="lock"))
    assert shown(books) == {"sleeping": 0, "lock": 1000, "stopped": 2000}
    assert books.totals("worker").now["lock"] == 1


def test_who_runs_again_after_a_stop_is_stopped_no_more() -> None:
    """Time that it does not run is not ``stopped`` any more, though no poll has seen yet what it is."""
    books = Books()
    books.charge(thread(100, state="T"), waits={})
    books.charge(thread(100, state="R"), waits={})
    books.charge(thread(100, cpu_ns=400 * MS, state="R"), waits={})
    assert shown(books) == {"stopped": 1000, "sleeping": 600, "running": 400}


def test_the_gil_is_known_from_the_first_look_on() -> None:
    """Held is 0, not absent, where it can be seen; absent where it cannot; and it only grows."""
    books = Books()
    books.charge(thread(100), waits=sampled(now="gil"))
    assert books.totals("worker").gil_held_ns is None
    books.charge(thread(100), waits=sampled(now="gil"), has_gil=True)
    assert books.totals("worker").gil_held_ns == 0
    books.charge(thread(100), waits=sampled(now="gil", held_ns=7), has_gil=True)
    books.charge(thread(100), waits=None)
    assert books.totals("worker").gil_held_ns == 7
