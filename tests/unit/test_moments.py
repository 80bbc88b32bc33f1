"""When samples are taken, and what each stands for: estimates against the truth of made-up threads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.names.slots import Gil
from threadwatch.waits.moments import Moments
from threadwatch.waits.records import SampledProcess, SampledThread

SECOND = 1_000_000_000
Path = list[tuple[int, str]]
"""From when on a thread is in which state."""


@given(
    rate=st.integers(1, 100),
    begin=st.integers(0, 1 << 62),
    length=st.integers(1, 20 * SECOND),
    late=st.lists(st.integers(0, SECOND), max_size=30),
)
def test_each_moment_lies_in_a_part_of_its_own(
    rate: int, begin: int, length: int, late: list[int]
) -> None:
    """Samples are due in order, each stands for the time up to its end or now, and all end with the time."""
    moments = Moments(rate, begin, begin + length)
    until, count = begin, 0
    while moments.due_ns is not None:
        now = moments.due_ns + (late.pop() if late else 0)
        assert until <= moments.due_ns + 1 <= begin + length + 2
        before, until = until, moments.take(now)
        assert now <= until
        assert before <= until
        count += 1
    assert count <= rate * length / SECOND + 1


def test_as_many_as_the_rate_says() -> None:
    """On average that holds for a time in which no whole number of samples has room."""
    taken = [sum(1 for _ in samples(Moments(3, 0, SECOND // 2))) for _ in range(2000)]
    assert set(taken) == {1, 2}
    assert 1.4 < sum(taken) / len(taken) < 1.6


def test_a_late_sample_leaves_out_the_parts_that_have_passed() -> None:
    """It stands for the time up to now, and the next part that has not passed is next."""
    moments = Moments(10, 0, SECOND)
    assert moments.take(SECOND // 2 + 1) == SECOND // 2 + 1
    assert moments.due_ns is not None
    assert SECOND // 2 < moments.due_ns <= 6 * SECOND // 10
    assert moments.take(2 * SECOND) == 2 * SECOND
    assert moments.due_ns is None


@pytest.mark.parametrize("seed", range(3))
def test_calm_processes_are_credited_with_what_they_do(seed: int) -> None:
    """Sampled as often as the past says, a thread is credited with each state for as long as it was in it.

    It rests for long, and now and then has a busy time, in which it changes its state every few hundredths
    of a second and holds the GIL; some of its waits are for the same thing for seconds. The bound is 4.5
    standard errors of the samples that were taken.
    """
    chance = random.Random(seed)
    random.seed(seed)
    end = 1000 * SECOND
    path = list(life(chance, end))
    process, thread = SampledProcess(set()), SampledThread(1, None, 1)
    process.threads[1] = thread
    process.begin((Gil(0, 0, 0, 0),), 1)
    seen: Counter[str] = Counter()
    variance: Counter[str] = Counter()
    rates: Counter[int] = Counter()
    at = 0
    for poll in range(SECOND, end, SECOND):
        rate = 1 if process.is_calm(poll) else 10
        rates[rate] += 1
        before = poll
        for now, until in samples(Moments(rate, poll, poll + SECOND)):
            at = index(path, at, now)
            process.see_holder(0, 1 if path[at][1] == "gil" else None, now)
            thread.see(path[at][1], process.sampled_ns)
            process.done(until)
            for state, spent in truth(path, at, before, until).items():
                share = spent / (until - before)
                variance[state] += round((until - before) ** 2 * share * (1 - share))
            before = until
        waits = process.take(poll + SECOND)[1]
        if poll > SECOND:  # the first sample credits nothing before it
            seen.update(waits.times)
            seen["held"] += waits.gil_held_ns
    true = truth(path, 0, 2 * SECOND, poll + SECOND)
    print(f"{rates}, {true}")
    assert min(rates[1], rates[10]) > 100
    assert sum(seen.values()) - seen["held"] == sum(true.values())
    for state, spent in true.items():
        assert abs(seen[state] - spent) < 4.5 * variance[state] ** 0.5, state
    assert seen["held"] == pytest.approx(seen["gil"], abs=SECOND)


def samples(moments: Moments) -> Iterator[tuple[int, int]]:
    """Yield each moment, and up to when the sample stands for the time."""
    while (due := moments.due_ns) is not None:
        yield due, moments.take(due)


def life(chance: random.Random, end: int) -> Iterator[tuple[int, str]]:
    """Yield from when on a thread is in which state."""
    now = 0
    while now < end:
        yield now, "sleep"
        now += round(chance.expovariate(1 / 8) * SECOND)
        if chance.random() < 0.3:
            yield now, "lock"
            now += round(chance.expovariate(1 / 3) * SECOND)
        busy = now + round(chance.expovariate(1 / 4) * SECOND)
        while now < busy:
            yield now, chance.choice(("gil", "lock", "socket", "running"))
            now += round(chance.expovariate(1 / 0.03) * SECOND)


def index(path: Path, at: int, now: int) -> int:
    """Return the place of a moment in a path, which is not before ``at``."""
    while at + 1 < len(path) and path[at + 1][0] <= now:
        at += 1
    return at


def truth(path: Path, at: int, begin: int, end: int) -> Counter[str]:
    """Return how long a thread was in each state between two moments; ``at`` is near the first."""
    while at and path[at][0] > begin:
        at -= 1
    found: Counter[str] = Counter()
    last = (max(end, path[-1][0] + 1), "")
    for (since, state), (until, _) in pairwise([*path[at:], last]):
        if since >= end:
            break
        inside = min(until, end) - max(since, begin)
        if inside > 0:
            found[state] += inside
    return found
