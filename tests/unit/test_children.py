"""What is found out about children that have ended, reading by reading."""

from __future__ import annotations

from threadwatch.accounting.children import EndedChild, EndedChildren, Rest
from threadwatch.accounting.group import Group
from threadwatch.model.keys import ProcessKey, SeriesKey
from threadwatch.procfs import Waited

PARENT = ProcessKey(100, 5000)
CHILD = ProcessKey(200, 6000)
GRANDCHILD = ProcessKey(300, 7000)
TICK = 10_000_000
SECOND = 100 * TICK
GROUP = Group("shop", "group", 100, str, 900 * SECOND)
MAIN = SeriesKey("MainThread")


class Reckoning:
    """Ended children on a machine with two CPUs, with a second from poll to poll."""

    def __init__(self, *keys: ProcessKey, waited: Waited | None = None) -> None:
        self.children = EndedChildren(2)
        self.now_ns = 1000 * SECOND
        for key in keys:
            self.children.open(key, waited or Waited(), self.now_ns)

    def end(
        self,
        key: ProcessKey,
        charged_ns: int,
        *,
        parent: int = PARENT.pid,
        waited: int | None = None,
        series: SeriesKey | None = MAIN,
    ) -> None:
        """End a process that was last read in the poll before."""
        self.children.close(
            EndedChild(key, parent, charged_ns, self.now_ns, GROUP, series),
            None if waited is None else Waited(waited, 0),
        )

    def poll(self, ticks: int | None = None, key: ProcessKey = PARENT) -> list[tuple[object, ...]]:
        """Return the result a second later, with these ticks of ended children; None: they were not read."""
        self.now_ns += SECOND
        if ticks is not None:
            self.children.read(key, Waited(ticks, 0))
        return [
            short(rest)
            for rest in self.children.settle([key] if ticks is not None else [], self.now_ns)
        ]


def short(rest: Rest) -> tuple[object, ...]:
    """Return whose it is, where, and how many ticks."""
    return rest.key, rest.series, rest.cpu_ns / TICK


def test_children_that_nobody_saw_are_the_parents() -> None:
    """What no watched child explains is charged to the parent's group, without a name, once."""
    reckoning = Reckoning(PARENT)
    assert reckoning.poll(30) == [(PARENT, None, 30)]
    assert reckoning.poll(30) == []
    assert reckoning.poll(45) == [(PARENT, None, 15)]


def test_what_had_been_waited_for_before_does_not_count() -> None:
    """A parent that is met late brings no CPU time of children from before."""
    reckoning = Reckoning(PARENT, waited=Waited(4000, 1000))
    assert reckoning.poll(5010) == [(PARENT, None, 10)]


def test_a_child_that_was_charged_is_not_charged_again() -> None:
    """What a watched child was charged with is no rest, also if its parent's clock is read a poll later."""
    for late in (False, True):
        reckoning = Reckoning(PARENT, CHILD)
        reckoning.end(CHILD, 50 * TICK)
        if late:
            assert reckoning.poll(0) == []
            continue
        assert reckoning.poll(50) == []


def test_the_last_moments_of_a_child_bear_its_name() -> None:
    """What a child used after its clock was read is its thread's, up to one CPU for the time since."""
    reckoning = Reckoning(PARENT, CHILD)
    reckoning.end(CHILD, 50 * TICK)
    assert reckoning.poll(70) == [(CHILD, MAIN, 20)]
    reckoning = Reckoning(PARENT, CHILD)
    reckoning.end(CHILD, 50 * TICK)
    assert reckoning.poll(50 + 130) == [(CHILD, MAIN, 100), (PARENT, None, 30)]


def test_two_children_share_by_what_they_can_have_used() -> None:
    """Several that ended between two polls share what has come to light, and no tick is lost."""
    other = ProcessKey(201, 6001)
    reckoning = Reckoning(PARENT, CHILD, other)
    reckoning.end(CHILD, 10 * TICK)
    reckoning.end(other, 0)
    found = reckoning.poll(10 + 61)
    assert sorted(found, key=str) == [(CHILD, MAIN, 30.5), (other, MAIN, 30.5)]


def test_a_child_may_claim_once_more_in_the_next_poll() -> None:
    """A child whose end comes to light before its parent's clock does claims what is left then."""
    reckoning = Reckoning(PARENT, CHILD)
    assert reckoning.poll(0) == []
    reckoning.end(CHILD, 50 * TICK)
    # the parent was read just before it waited for the child
    reckoning.now_ns += SECOND
    assert reckoning.children.settle([PARENT], reckoning.now_ns) == []
    assert reckoning.poll(80) == [(CHILD, MAIN, 30)]


def test_grandchildren_are_counted_once() -> None:
    """What a child has waited for comes to its parent with the child, and is no rest there."""
    reckoning = Reckoning(PARENT, CHILD, GRANDCHILD)
    reckoning.end(GRANDCHILD, 40 * TICK, parent=CHILD.pid)
    assert reckoning.poll(65, CHILD) == [(GRANDCHILD, MAIN, 25)]
    reckoning.end(CHILD, 10 * TICK, waited=65)
    assert reckoning.poll(75) == []


def test_a_family_that_ends_between_two_polls() -> None:
    """Children are settled before their parents, and what a parent never showed comes to light above it."""
    reckoning = Reckoning(PARENT, CHILD, GRANDCHILD)
    reckoning.end(CHILD, 10 * TICK, waited=5, series=None)
    reckoning.end(GRANDCHILD, 40 * TICK, parent=CHILD.pid)
    found = reckoning.poll(10 + 5 + 40 + 7)
    assert sum(float(str(ticks)) for _, _, ticks in found) == 5 + 7


def test_a_child_that_was_not_waited_for_hides_nothing() -> None:
    """What a parent's clock should have by now and has not, it never gets: the next child counts in full."""
    reckoning = Reckoning(PARENT, CHILD)
    reckoning.end(CHILD, 500 * TICK)
    assert reckoning.poll(0) == []
    assert reckoning.poll(0) == []
    found = reckoning.poll(40)
    assert [(key, series) for key, series, _ in found] == [(PARENT, None)]
    assert 38 <= float(str(found[0][2])) <= 40


def test_the_children_of_an_ended_process_go_to_its_parent() -> None:
    """A child that outlives its parent is expected to be waited for by that one's parent."""
    reckoning = Reckoning(PARENT, CHILD, GRANDCHILD)
    reckoning.end(CHILD, 10 * TICK)
    assert reckoning.poll(10) == []
    reckoning.end(GRANDCHILD, 40 * TICK, parent=CHILD.pid)
    assert reckoning.poll(50) == []


def test_programs_that_lived_for_long_are_nobodys() -> None:
    """A child that was seen and is not watched takes its CPU time with it; a brief one does not."""
    reckoning = Reckoning(PARENT)
    reckoning.children.see_gone([PARENT.pid, 999], {})
    assert reckoning.poll(3000) == []
    assert reckoning.poll(3010) == [(PARENT, None, 10)]


def test_no_more_than_the_machine_can_have_done() -> None:
    """What comes at once is bounded by the CPUs and the time, but for children that had ended before."""
    reckoning = Reckoning(PARENT)
    assert reckoning.poll(100_000) == [(PARENT, None, 220)]
    reckoning.children.see_gone([], {PARENT.pid: 300 * TICK, 999: TICK})
    assert reckoning.poll(200_000) == [(PARENT, None, 520)]


def test_time_that_stands_still_is_no_room() -> None:
    """A clock that was known to stand leaves room only for what can have been used since."""
    reckoning = Reckoning(PARENT)
    reckoning.now_ns += 50 * SECOND
    reckoning.children.stand(PARENT, reckoning.now_ns)
    assert reckoning.poll(100_000) == [(PARENT, None, 220)]


def test_who_is_forgotten_and_who_is_unknown() -> None:
    """Processes that are not, or no longer, watched are no parents, and no rest is their children's."""
    reckoning = Reckoning(PARENT, CHILD)
    reckoning.children.forget(PARENT)
    reckoning.children.stand(PARENT, reckoning.now_ns)
    reckoning.end(CHILD, 50 * TICK)
    reckoning.end(GRANDCHILD, 50 * TICK)
    assert reckoning.poll(100) == []


def test_the_split_into_modes_is_that_of_the_ended_children() -> None:
    """User and system time of a rest are split as the clock of ended children has grown."""
    reckoning = Reckoning(PARENT)
    reckoning.children.read(PARENT, Waited(30, 10))
    (rest,) = reckoning.children.settle([PARENT], reckoning.now_ns + SECOND)
    assert (rest.cpu_ns, rest.system_share) == (40 * TICK, 0.25)
