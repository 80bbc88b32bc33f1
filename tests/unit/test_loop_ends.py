"""What events wait for a loop that counts its iterations, told by when the count goes on."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator

from threadwatch.model.loops import LoopWait
from threadwatch.tasks.kind import ELSEWHERE
from threadwatch.waits.asleep import slept_in
from threadwatch.waits.ends import Ends
from threadwatch.waits.records import SampledThread
from threadwatch.waits.syscalls import epolls

MS = 1_000_000


def follow(ends: Ends, edges: list[int], until_ns: int, late_ns: int = 0) -> None:
    """Read the number of the iteration whenever that is due; ``edges``: when iterations end."""
    while ends.due_ns is not None and ends.due_ns <= until_ns:
        at_ns = ends.due_ns + late_ns
        ends.see(bisect_right(edges, at_ns), at_ns)


def test_the_end_lies_between_two_reads() -> None:
    """What a look waited is between the last read of the same number and the first of another."""
    ends, edges = Ends(), [37 * MS]
    ends.look(0, 10 * MS, "task", 3 * MS, 100 * MS)
    follow(ends, edges, 1000 * MS)
    ((holder, lag_ns, stands_for_ns),) = ends.take()
    assert (holder, stands_for_ns) == ("task", 100 * MS)
    assert 25 * MS <= lag_ns <= 50 * MS
    assert ends.due_ns is None
    assert ends.take() == ()


def test_reads_that_are_late() -> None:
    """On a busy machine the shares of short and long waits stay right, though each is known less exactly."""
    chosen = random.Random(1)
    true, told = [], []
    for _ in range(3000):
        end_ns = chosen.choice([chosen.randrange(400_000), chosen.randrange(40 * MS)])
        ends = Ends()
        ends.look(0, 0, "task", 0, 0)
        follow(ends, [end_ns], 100 * MS, late_ns=chosen.randrange(600_000))
        true.append(end_ns)
        told += [wait.lag_ns for wait in ends.take()]
    assert len(told) == len(true)
    for bound in (MS, 5 * MS, 10 * MS, 25 * MS):
        shares = [sum(lag > bound for lag in lags) / 3000 for lags in (true, told)]
        assert abs(shares[0] - shares[1]) < 0.03


def test_a_loop_that_does_not_come_back() -> None:
    """After a second, the looks in an iteration are told by its age; those that follow, at once."""
    ends = Ends()

    def looks() -> Iterator[LoopWait]:
        for moment in range(1, 31):
            at_ns = moment * 100 * MS
            ends.look(7, at_ns, "blocks", at_ns - 20 * MS, 100 * MS)
            follow(ends, [], at_ns)
            yield from ends.take()

    waits = list(looks())
    assert [wait.lag_ns for wait in waits] == [n * 100 * MS - 20 * MS for n in range(1, 31)]
    ends.look(8, 3200 * MS, "next", 0, 0)
    follow(ends, [3200 * MS], 5000 * MS)
    assert [wait.holder for wait in ends.take()] == ["next"]


def test_a_loop_that_ends() -> None:
    """The end of the loop is the end of its iteration."""
    ends = Ends()
    ends.look(1, 10 * MS, "last", 0, 0)
    ends.see(None, 11 * MS)
    assert [wait.holder for wait in ends.take()] == ["last"]
    assert ends.due_ns is None


def test_what_a_thread_slept_in() -> None:
    """A thread in epoll tells which one; in another call it sleeps elsewhere; one that runs, nowhere."""
    numbers = epolls("x86_64")
    assert numbers == {232, 281, 441}
    thread = SampledThread(1, None, 0)

    def slept(raw: bytes, state: str) -> int | None:
        thread.know(raw)
        thread.see(state, 0)
        return slept_in(thread, numbers)

    assert slept_in(None, numbers) is None
    assert slept(b"running\n", "running") is None
    assert slept(b"281 0x7f00000005 0x0 0x0 0x0 0x0 0x0 0x7ffc0 0x7f1\n", "poll") == 5
    assert slept(b"202 0x5 0x0 0x0 0x0 0x0 0x0 0x7ffc0 0x7f1\n", "lock") == ELSEWHERE
    assert slept(b"", "disk") == ELSEWHERE
