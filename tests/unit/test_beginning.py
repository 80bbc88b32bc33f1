"""How old an iteration is told to be is never more than it is."""

from __future__ import annotations

import pytest

from threadwatch.model.loops import CALLBACK, LOOP, UNKNOWN, LoopSample
from threadwatch.tasks.beginning import Beginning

BEFORE_NS, LOOKED_NS, READ_NS, NOW_NS = 100, 500, 800, 1000


def _sample(holder: str | None, iteration: int | None = 7, *, woken: bool = False) -> LoopSample:
    return LoopSample(1, "uvloop", holder, None, None, 0, woken=woken, iteration=iteration)


def _waited() -> Beginning:
    """Return what a look has left that found a loop at its wait for events."""
    beginning = Beginning()
    assert beginning.age_ns(_sample(None), BEFORE_NS, LOOKED_NS, lasted=True) == 0
    return beginning


@pytest.mark.parametrize("holder", ["a task", CALLBACK + "tick"])
def test_what_runs_is_as_old_as_the_time(holder: str) -> None:
    """Once something runs, the library's time is of this iteration."""
    assert _waited().age_ns(_sample(holder), READ_NS, NOW_NS, lasted=True) == NOW_NS - READ_NS


@pytest.mark.parametrize("holder", [LOOP, UNKNOWN])
def test_a_loop_that_has_just_been_woken(holder: str) -> None:
    """As long as nothing is known to run, the time can be that before the wait, and is not believed."""
    assert _waited().age_ns(_sample(holder), BEFORE_NS, NOW_NS, lasted=True) == 0


def test_an_iteration_that_has_not_lasted() -> None:
    """If another iteration has begun before the time was read, the time says nothing of the first."""
    assert _waited().age_ns(_sample("a task"), READ_NS, NOW_NS, lasted=False) == 0


def test_no_older_than_the_look_before() -> None:
    """An iteration that the look before has not seen has begun since."""
    beginning = _waited()
    assert beginning.age_ns(_sample("a task"), BEFORE_NS, NOW_NS, lasted=True) == NOW_NS - LOOKED_NS


@pytest.mark.parametrize("lasted", [True, False])
@pytest.mark.parametrize("holder", ["another task", LOOP, UNKNOWN])
def test_an_iteration_that_goes_on(holder: str, *, lasted: bool) -> None:
    """What was seen to run in the same iteration goes on to age, whatever the time says by now."""
    beginning = _waited()
    beginning.age_ns(_sample("a task"), READ_NS, NOW_NS, lasted=True)
    age_ns = beginning.age_ns(_sample(holder), NOW_NS + 50, NOW_NS + 90, lasted=lasted)
    assert age_ns == NOW_NS + 90 - READ_NS


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("holder", [LOOP, UNKNOWN])
def test_a_loop_that_goes_to_wait(holder: str, *, seen: bool) -> None:
    """An iteration is not as old as the look that saw the loop on its way to that wait."""
    beginning = _waited()
    beginning.age_ns(_sample(holder), BEFORE_NS, LOOKED_NS + 50, lasted=True)
    if seen:
        beginning.age_ns(_sample(None), BEFORE_NS, LOOKED_NS + 60, lasted=True)
    assert beginning.age_ns(_sample("a task"), READ_NS, NOW_NS, lasted=True) == NOW_NS - READ_NS


def test_work_of_the_loop_itself() -> None:
    """A loop that does its own work ages from the look that saw it first."""
    beginning = _waited()
    assert beginning.age_ns(_sample(LOOP), BEFORE_NS, READ_NS, lasted=True) == 0
    assert beginning.age_ns(_sample(LOOP), BEFORE_NS, NOW_NS, lasted=True) == NOW_NS - READ_NS


def test_what_may_only_have_been_woken_is_not_kept() -> None:
    """The look after one at which the thread may not have run begins anew."""
    beginning = _waited()
    assert beginning.age_ns(_sample(LOOP, woken=True), BEFORE_NS, NOW_NS, lasted=True) == 0
    age_ns = beginning.age_ns(_sample("a task"), NOW_NS + 50, NOW_NS + 90, lasted=True)
    assert age_ns == 40


def test_loops_that_do_not_count() -> None:
    """Of a loop that does not count its iterations, no age is told."""
    assert _waited().age_ns(_sample("a task", None), READ_NS, NOW_NS, lasted=True) is None
