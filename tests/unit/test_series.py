"""Series, groups, and the arithmetic of time in states."""

from __future__ import annotations

import pytest

from tests.books import KEY, SECOND, thread
from threadwatch.accounting.group import Group, Interpreter
from threadwatch.accounting.series import Series
from threadwatch.accounting.thread_account import ThreadAccount
from threadwatch.model.keys import OTHER, UNATTRIBUTED, ProcessKey, SeriesKey
from threadwatch.model.readings import COUNTED, counts_of
from threadwatch.model.view import StateTime

UNKNOWN = (None,) * len(COUNTED)


def group(**values: object) -> Group:
    """Return a group without rules."""
    known: dict[str, object] = {"per": "group", "cap": 2, "fold": str, "expire_after_ns": SECOND}
    return Group("shop", **{**known, **values})  # type: ignore[arg-type]  # by keyword


def test_state_time_counts_every_thread_that_is_in_the_state() -> None:
    """Two threads for three seconds are six thread-seconds, on top of what there was."""
    assert StateTime(2, 5 * SECOND, 10 * SECOND).at(13 * SECOND) == 11 * SECOND
    assert StateTime(0, 5 * SECOND, 10 * SECOND).at(13 * SECOND) == 5 * SECOND


def test_states_add_up_while_threads_come_and_go() -> None:
    """A state's time is the sum of what each thread spent in it."""
    series = Series(0)
    series.enter("sleeping", "sleeping", 0)
    series.enter("sleeping", "sleeping", 2 * SECOND)
    series.leave("sleeping", "sleeping", 5 * SECOND)
    series.enter("running", "running", 5 * SECOND)
    series.leave("running", "running", 6 * SECOND)
    assert series.states["sleeping"].at(10 * SECOND) == (10 + 3) * SECOND
    assert series.states["running"] == StateTime(0, SECOND, 6 * SECOND)
    assert series.living == 1


def test_totals_are_the_same_object_while_nothing_changes() -> None:
    """Output can tell by identity that a series is as it was."""
    series = Series(0)
    totals = series.totals(SECOND, 0)
    assert series.totals(SECOND, 0) is totals
    series.touch(1)
    assert series.totals(SECOND, 0) is not totals


def test_what_is_not_known_is_none_until_it_is() -> None:
    """Counts that could not be read are None in the totals, and later what was read."""
    series = Series(0)
    known = series.count(UNKNOWN, counts_of(thread(1)))
    totals = series.totals(SECOND, 0)
    assert (totals.runqueue_ns, totals.timeslices, totals.read_bytes) == (None, None, None)
    assert (totals.minor_faults, totals.major_faults) == (0, 0)
    series.touch(1)
    series.count(known, counts_of(thread(1, read_bytes=9)))
    series.gain("sleeping", 0, 0, ready_ns=7, timeslices=0)
    totals = series.totals(SECOND, 0)
    assert (totals.runqueue_ns, totals.timeslices, totals.read_bytes) == (7, 0, 9)


def test_a_count_that_cannot_be_read_for_once_is_not_counted_again() -> None:
    """A field is charged by what it has gained since it was last read, however long ago that was."""
    series = Series(0)
    known = series.count(UNKNOWN, counts_of(thread(1, read_bytes=100, minor_faults=10)))
    known = series.count(known, counts_of(thread(1, read_bytes=None, minor_faults=12)))
    series.count(known, counts_of(thread(1, read_bytes=130, minor_faults=11)))
    assert (series.totals(SECOND, 0).read_bytes, series.totals(SECOND, 0).minor_faults) == (130, 12)


def test_absorbing_adds_everything() -> None:
    """A series that takes over another has the sum of both, states and unknown fields included."""
    one, two = Series(0), Series(0)
    one.user_ns, two.user_ns, two.system_ns = 3, 4, 5
    one.started, two.started, two.ended = 1, 2, 2
    one.timeslices, two.timeslices, two.runqueue_ns = 1, 2, 6
    two.count(UNKNOWN, counts_of(thread(2, minor_faults=8)))
    one.enter("sleeping", "sleeping", 0)
    two.enter("sleeping", "sleeping", 0)
    two.enter("running", "lock", 0)
    two.ran_ns, two.ready_ns, two.gil_held_ns = 10, 20, 30
    two.leave("sleeping", "sleeping", SECOND)
    two.leave("running", "lock", SECOND)
    one.absorb(two, 2 * SECOND)
    totals = one.totals(2 * SECOND, 0)
    assert (totals.user_ns, totals.system_ns, totals.started, totals.ended) == (7, 5, 3, 2)
    assert (totals.timeslices, totals.runqueue_ns, totals.minor_faults) == (3, 6, 8)
    assert totals.read_bytes is None
    assert totals.states["sleeping"].at(2 * SECOND) == 3 * SECOND
    assert totals.states["lock"].at(2 * SECOND) == SECOND
    assert totals.states["sleeping"].threads == 1
    assert (totals.states["running"].total_ns, totals.states["runnable"].total_ns) == (10, 20)
    assert totals.gil_held_ns == 30


def test_the_cap_counts_names_and_not_our_own() -> None:
    """Beyond the cap, names go to (other) and are counted; ours need no place."""
    shop = group()
    shop.own(UNATTRIBUTED, KEY, 0)
    assert [shop.place(name, KEY, 1, 0)[0].thread for name in "abab"] == ["a", "b", "a", "b"]
    assert shop.place("c", KEY, 1, 0)[0] == SeriesKey(OTHER)
    assert shop.dropped == 1
    assert shop.place("a", KEY, 1, 0)[0] == SeriesKey("a")


@pytest.mark.parametrize(
    ("per", "key"),
    [
        ("group", SeriesKey("a")),
        ("process", SeriesKey("a", 100)),
        ("thread", SeriesKey("a", 100, 7)),
    ],
)
def test_a_series_is_told_apart_as_the_group_says(per: str, key: SeriesKey) -> None:
    """A series is a name in the group, in a process, or of one thread."""
    assert group(per=per).place("a", KEY, 7, 0)[0] == key


def test_expired_names_make_room_under_the_cap() -> None:
    """A name that no thread has any more passes its totals to (other), and its place to another."""
    shop = group(processes={KEY: True})
    shop.place("a", KEY, 1, 0)[1].user_ns = 5
    living = shop.place("b", KEY, 2, 0)[1]
    living.enter("sleeping", "sleeping", 0)
    assert not shop.expire(SECOND)
    assert set(shop.series) == {SeriesKey("a"), SeriesKey("b")}
    assert not shop.expire(SECOND + 1)
    assert {key.thread: series.user_ns for key, series in shop.series.items()} == {"b": 0, OTHER: 5}
    assert shop.place("c", KEY, 3, 0)[0] == SeriesKey("c")
    assert shop.place("d", KEY, 3, 0)[0] == SeriesKey(OTHER)


@pytest.mark.parametrize("per", ["group", "process"])
def test_names_to_be_folded_are_counted_while_they_have_series(per: str) -> None:
    """The view has the number of names that are alike; it falls when their series expire."""
    shop = group(per=per, cap=200, processes={KEY: Interpreter()})
    other = ProcessKey(KEY.pid + 1, 7)
    for number in range(12):
        for key in (KEY, other):
            shop.place(f"conn-{number}", key, number, 0)
    living = shop.place("conn-0", KEY, 0, 0)[1]
    living.enter("sleeping", "sleeping", 0)
    shop.touch()
    assert shop.view(0, 0).foldable_names == 12
    shop.place("conn-1", KEY, 1, 0)[1].touch(SECOND)
    assert not shop.expire(SECOND + 1)
    assert shop.view(SECOND + 1, 0).foldable_names == 0
    assert len({key.thread for key in shop.series}) == 3


def test_what_is_unattributed_per_process_expires_without_making_room() -> None:
    """Our own series never count under the cap, neither coming nor going."""
    shop = group(per="process", cap=1, processes={KEY: True})
    shop.own(UNATTRIBUTED, ProcessKey(7, 7), 0).system_ns = 3
    assert not shop.expire(2 * SECOND)
    assert {key: series.system_ns for key, series in shop.series.items()} == {SeriesKey(OTHER): 3}
    assert shop.place("a", KEY, 1, 0)[0] == SeriesKey("a", 100)
    assert shop.place("b", KEY, 1, 0)[0] == SeriesKey(OTHER)


def test_what_is_ours_in_the_group_never_expires() -> None:
    """(unattributed) and (other) stay as long as the group does."""
    shop = group(processes={KEY: True})
    for name in (UNATTRIBUTED, OTHER):
        shop.own(name, None, 0).user_ns = 1
    assert not shop.expire(100 * SECOND)
    assert {key.thread: series.user_ns for key, series in shop.series.items()} == {
        UNATTRIBUTED: 1,
        OTHER: 1,
    }


def test_a_group_expires_once_it_has_had_no_process_for_long_enough() -> None:
    """A group with a process stays; one without goes when its time has come."""
    assert not group(processes={KEY: True}).expire(100 * SECOND)
    assert not group(empty_since_ns=SECOND).expire(2 * SECOND)
    assert group(empty_since_ns=SECOND).expire(2 * SECOND + 1)


def test_counts_change_without_cpu_time() -> None:
    """A thread can fault, or wait, between two ticks of its clock: the totals show it."""
    series = Series(0)
    entry = ThreadAccount(SeriesKey("a"), series, "running", "sleeping", thread(1))
    entry.gain(thread(1, cpu_ns=1000, minor_faults=1), 1)
    assert series.totals(SECOND, 0).minor_faults == 1
    entry.gain(thread(1, cpu_ns=1000, minor_faults=3, runqueue_ns=5), 2)
    assert (series.totals(SECOND, 0).minor_faults, series.totals(SECOND, 0).runqueue_ns) == (3, 5)


def test_user_and_system_time_only_grow_and_add_up() -> None:
    """The split follows the kernel's ticks, but each part only grows, and the sum is the exact clock."""
    series = Series(0)
    entry = ThreadAccount(SeriesKey("a"), series, "running", "sleeping", thread(1))
    # the kernel's ticks are samples: their proportion can swing while the exact clock grows
    for cpu_ns, user, system in (
        (1000, 0, 0),
        (5000, 1, 1),
        (5200, 3, 1),
        (9000, 3, 9),
        (9100, 9, 0),
    ):
        before = entry.user_ns, entry.system_ns
        entry.gain(thread(1, cpu_ns=cpu_ns, user_ticks=user, system_ticks=system), 1)
        assert entry.user_ns >= before[0]
        assert entry.system_ns >= before[1]
        assert entry.user_ns + entry.system_ns == cpu_ns
    assert (series.user_ns, series.system_ns) == (entry.user_ns, entry.system_ns)
    assert (series.user_ns, series.system_ns) == (2800, 6300)
