"""Single threads as they are shown: where their time went since they were last shown."""

from __future__ import annotations

import pytest

from tests.books import MS, SECOND, Books, thread
from threadwatch.model.readings import Waits
from threadwatch.model.view import ThreadView

WHO = (100, 6000)


def shares(views: tuple[ThreadView, ...]) -> dict[str, float]:
    """Return the one thread's states, after the check that they sum to 1."""
    (view,) = views
    assert view.states is not None
    assert sum(view.states.values()) == pytest.approx(1)
    return {state: round(share, 6) for state, share in view.states.items()}


def test_at_first_sight_nothing_is_known_of_its_time() -> None:
    """What a thread did before it was first seen is in no state."""
    (view,) = Books().charge(thread(100, cpu_ns=MS), first=True)
    assert (view.states, view.user_ratio, view.system_ratio) == (None, None, None)


def test_running_and_ready_are_the_kernels_and_the_rest_is_its_wait() -> None:
    """CPU time and run-queue wait come from the clocks, and what is left is where it was."""
    books = Books()
    books.charge(thread(100), first=True)
    views = books.charge(thread(100, cpu_ns=600 * MS, runqueue_ns=100 * MS))
    assert shares(views) == {"running": 0.6, "runnable": 0.1, "sleeping": 0.3}


def test_user_and_system_are_the_parts_of_cpu() -> None:
    """The two ratios sum to the thread's CPU ratio, as the kernel splits it."""
    books = Books()
    books.charge(thread(100), first=True)
    (view,) = books.charge(thread(100, cpu_ns=400 * MS, user_ticks=30, system_ticks=10))
    assert (view.cpu_ratio, view.user_ratio, view.system_ratio) == pytest.approx((0.4, 0.3, 0.1))


def test_time_before_a_change_passed_in_the_state_before() -> None:
    """A thread that is seen to wait for a lock from now on has waited otherwise until now."""
    books = Books()
    books.charge(thread(100), first=True)
    books.charge(thread(100), waits={WHO: Waits("poll", {}, 0)})
    views = books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)})
    assert shares(views) == {"poll": 1.0}
    views = books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)})
    assert shares(views) == {"lock": 1.0}


def test_samples_say_what_else_it_waited_for() -> None:
    """Of the time that no clock counted, samples divide what they saw; its own wait has the rest."""
    books = Books()
    books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)}, first=True)
    books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)})
    seen = Waits("lock", {"gil": 300 * MS, "running": 250 * MS, "lock": 450 * MS}, 0)
    views = books.charge(thread(100, cpu_ns=200 * MS), waits={WHO: seen}, has_gil=True)
    assert shares(views) == {"running": 0.2, "gil": 0.3, "lock": 0.5}


def test_samples_give_way_to_clocks() -> None:
    """Where samples saw more waiting than there was room for beside the clocks, they are scaled down."""
    books = Books()
    books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)}, first=True)
    books.charge(thread(100), waits={WHO: Waits("lock", {}, 0)})
    seen = Waits("lock", {"gil": 300 * MS, "poll": 600 * MS}, 0)
    views = books.charge(thread(100, cpu_ns=700 * MS), waits={WHO: seen})
    assert shares(views) == {"running": 0.7, "gil": 0.1, "poll": 0.2}


def test_clocks_that_are_ahead_are_scaled_to_the_time_that_there_was() -> None:
    """A clock can be charged with more than the time between two polls; the shares still sum to 1."""
    books = Books()
    books.charge(thread(100), first=True)
    views = books.charge(thread(100, cpu_ns=3 * SECOND, runqueue_ns=1 * SECOND))
    assert shares(views) == {"running": 0.75, "runnable": 0.25}


def test_a_thread_at_rest_keeps_its_view() -> None:
    """Nothing is made anew for a thread to which nothing happens."""
    books = Books()
    books.charge(thread(100), first=True)
    resting = thread(100)
    books.charge(resting)
    (before,) = books.charge(resting)
    (now,) = books.charge(resting)
    assert now is before
    assert now.states == {"sleeping": 1.0}


def test_the_gil_is_shared_out_over_the_time_that_samples_stand_for() -> None:
    """However late in its poll a process has been read, a GIL that was always held was held 100 %."""
    books = Books()
    books.charge(thread(100), waits={WHO: Waits("running", {}, 0)}, has_gil=True, first=True)
    waits = {WHO: Waits("running", {"gil": SECOND // 4}, SECOND)}
    for elapsed_ns in (700 * MS, 1300 * MS):
        (view,) = books.charge(thread(100), waits=waits, has_gil=True, elapsed_ns=elapsed_ns)
        assert (view.gil_held_ratio, view.gil_wait_ratio) == (1.0, 0.25)
