"""The soak's own judgement: what is well passes, and each kind of harm is seen."""

from __future__ import annotations

from tests.soak.checks import GroupCpu, conservation, falls, trend, unexplained


def test_groups_that_add_up() -> None:
    """A thousandth, a tick per running thread, and newborn threads' time may belong to none yet."""
    assert conservation([GroupCpu("a", 100.0, 100.0, 0, 1)]) == []
    assert conservation([GroupCpu("a", 100.0, 99.9, 4, 1)]) == []


def test_lost_time_and_time_counted_twice() -> None:
    """Threads that have less than their processes, or more, are named with their group."""
    wrong = conservation([GroupCpu("lost", 100.0, 99.5, 1, 1), GroupCpu("twice", 1.0, 1.001, 5, 5)])
    assert [text.partition(":")[0] for text in wrong] == ["lost", "twice"]


def test_a_leak_grows_and_noise_does_not() -> None:
    """A few per cent a minute is a leak; a jump in warming up, and what swings, are none."""
    leak = [(second / 60, 30_000 + second * 5) for second in range(1800)]
    assert trend(leak).grows(share=0.05, amount=1024)
    assert round(trend(leak).slope) == 300
    swinging = [
        (second / 60, 20_000 + min(second, 300) * 40 + second % 7 * 200) for second in range(1800)
    ]
    assert not trend(swinging).grows(share=0.05, amount=1024)
    assert abs(trend(swinging).slope) < 20


def test_errors_that_nothing_explains() -> None:
    """A kind of error that targets do not bring with them is named; one that was never seen is not."""
    found = unexplained({("table", "malformed"): 2.0, ("mem", "eio"): 7.0, ("fd", "emfile"): 0.0})
    assert found == ["2 × table malformed"]
    assert unexplained({("process", "timeout"): 3.0}, 1000) == []
    assert unexplained({("process", "timeout"): 30.0}, 1000) == ["30 × timeout in 1000 polls"]
    assert unexplained({("process", "timeout"): 5.0}, 10) == []
    assert unexplained({("process", "timeout"): 6.0}, 10) == ["6 × timeout in 10 polls"]


def test_counters_that_fall() -> None:
    """A fall is one, unless the series had been absent for as long as they take to expire."""
    assert falls({1.0: 5.0, 6.0: 5.0, 11.0: 7.0}, 900) == []
    assert falls({1.0: 5.0, 6.0: 4.0, 11.0: 7.0}, 900) == ["5 at 1, 4 at 6"]
    assert falls({1.0: 5.0, 1000.0: 1.0}, 900) == []
