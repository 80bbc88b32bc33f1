"""What happens when a read takes too long: reads that take until they are told to end."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness import until
from tests.testbed import CHECKOUT
from threadwatch.handover import receiver
from threadwatch.procfs.marks import Lock, reading
from threadwatch.reading import reader as guarded
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader

SECOND = 1_000_000_000


@pytest.fixture
def its() -> Iterator[GuardedReader]:
    """Yield a reader that is closed in the end."""
    reader = GuardedReader(0.02)
    yield reader
    reader.close()


class Slow:
    """A process whose reads take until it is told to end."""

    def __init__(self, user: int = 1) -> None:
        self.user = user
        self.hangs = HangRecords()
        self.end = threading.Event()
        self.came_back = False

    def read(self) -> None:
        """Read, as a process is read."""
        with reading():
            self.end.wait()
        self.came_back = True


def keep_waiting(its: GuardedReader, slow: Slow, now_ns: int = 0) -> None:
    """Read it, and give it up."""

    def stuck(one: Slow, lock: Lock) -> None:
        its.give_up(one.hangs, lock, one.user, now_ns)

    its.run_all([slow], Slow.read, stuck)


def may(its: GuardedReader, user: int, lock: Lock = "exec") -> bool:
    """Return whether a process of that user may be read."""
    return its.may_read(HangRecords(), lock, lambda: user, 0)


def all_back(its: GuardedReader) -> Callable[[], bool]:
    """Return whether no thread is stuck."""
    return lambda: may(its, 0) and not its._stuck["exec"]


def test_what_is_done_is_done_in_order_elsewhere(its: GuardedReader) -> None:
    """By one thread, which is not the caller's, and whose CPU time is known."""
    done: list[tuple[int, int]] = []
    its.run_all(range(3), lambda n: done.append((n, threading.get_ident())), lambda *_: None)
    its.run_all([3], lambda n: done.append((n, threading.get_ident())), lambda *_: None)
    assert [n for n, _ in done] == [0, 1, 2, 3]
    assert len({ident for _, ident in done} - {threading.get_ident()}) == 1
    assert its.cpu_ns > 0


def test_what_is_harmless_and_first_is_done_by_the_caller(its: GuardedReader) -> None:
    """No other thread wakes up for it; behind one that is not harmless, all is done elsewhere."""
    me, done = threading.get_ident(), []

    def do(n: int) -> None:
        done.append((n, threading.get_ident() == me))

    its.run_all([0, 2], do, lambda *_: None, harmless=lambda n: n % 2 == 0)
    assert its.cpu_ns == 0
    its.run_all([4, 5, 6], do, lambda *_: None, harmless=lambda n: n % 2 == 0)
    assert done == [(0, True), (2, True), (4, True), (5, False), (6, False)]


def test_what_comes_next_is_asked_for_when_it_is_due(its: GuardedReader) -> None:
    """An item can hang on what was done with the one before, also behind one that was given up."""
    slow = Slow()
    done: list[object] = []

    def items() -> Iterator[object]:
        yield "first"
        yield slow
        yield len(done)
        yield len(done)

    def do(one: object) -> None:
        if isinstance(one, Slow):
            one.read()
        done.append(one)

    def stuck(_: object, lock: Lock) -> None:
        its.give_up(slow.hangs, lock, slow.user, 0)

    its.run_all(items(), do, stuck)
    assert done == ["first", 1, 2]
    slow.end.set()
    until(all_back(its), "all threads are back")
    assert done == ["first", 1, 2]


def test_who_keeps_us_waiting_is_left_alone(its: GuardedReader) -> None:
    """The others are read, by another thread; the one that was left ends without going on."""
    slow = Slow()
    done: list[object] = []

    def read(one: object) -> None:
        if isinstance(one, Slow):
            one.read()
        else:
            done.append(one)

    def stuck(one: object, lock: Lock) -> None:
        assert isinstance(one, Slow)
        assert (done, lock) == ([1], "exec")
        its.give_up(one.hangs, lock, one.user, 1000 * SECOND)

    its.run_all([1, slow, 2], read, stuck)
    assert done == [1, 2]
    assert not its.may_read(slow.hangs, "exec", lambda: 1, 5000 * SECOND), "it is still stuck"
    assert its.may_read(slow.hangs, "memory", lambda: 1, 0)
    slow.end.set()
    until(lambda: its.may_read(slow.hangs, "exec", lambda: 1, 1002 * SECOND), "it may be read")
    assert not slow.came_back


def test_work_that_takes_long_is_not_given_up(its: GuardedReader) -> None:
    """Only a single read that takes too long is; what lies between reads, and many reads, may."""
    never = threading.Event()

    def work(_: int) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            with reading():
                sum(range(1000))  # waits for nothing but a CPU
        never.wait(0.3)

    its.run_all([1], work, lambda *_: pytest.fail("it was given up"))


def test_a_thread_that_wants_a_cpu_is_not_given_up(its: GuardedReader) -> None:
    """It is in one read all the time, but does not wait for anything there."""

    def work(_: int) -> None:
        with reading():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000)  # without the GIL

    its.run_all([1], work, lambda *_: pytest.fail("it was given up"))


def test_errors_are_the_callers(its: GuardedReader) -> None:
    """What is raised is raised again; the next work is done by the same thread."""
    done: list[int] = []
    with pytest.raises(ZeroDivisionError):
        its.run_all([0, 1], lambda n: done.append(1 // n), lambda *_: None)
    assert not done
    its.run_all([1], done.append, lambda *_: None)
    assert done == [1]


def test_who_is_merely_late_is_read_again_at_once(its: GuardedReader) -> None:
    """Less than a second too late: nothing is made of it, however often."""
    hangs = HangRecords()
    for second in range(3):
        slow = Slow()
        slow.hangs = hangs
        keep_waiting(its, slow, second * SECOND)
        assert not hangs.exec.allows(second * SECOND)
        assert not hangs.exec.is_stuck(second * SECOND)
        assert hangs.exec.is_stuck(second * SECOND + SECOND + 1)
        slow.end.set()
        until(all_back(its), "all threads are back")
        assert hangs.exec.allows(second * SECOND)


def test_pauses_grow_and_are_forgiven(its: GuardedReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long each time, up to ten minutes; after so long without trouble, from the beginning."""
    monkeypatch.setattr(
        "threadwatch.reading.hangs._STUCK_NS", 0
    )  # no test waits a second for nothing
    hangs, now_ns = HangRecords(), 10_000 * SECOND
    pauses = []

    def keep_waiting_once() -> None:
        slow = Slow()
        slow.hangs = hangs
        keep_waiting(its, slow, now_ns)
        slow.end.set()
        until(all_back(its), "all threads are back")

    for _ in range(12):
        keep_waiting_once()
        pauses.append(next(p for p in range(700) if hangs.exec.allows(now_ns + p * SECOND)))
        now_ns += pauses[-1] * SECOND
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]
    now_ns += 601 * SECOND
    keep_waiting_once()
    assert hangs.exec.allows(now_ns + 2 * SECOND)


def test_threads_that_are_stuck_are_few(
    its: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most this many for each user and in all, for each lock; owners are asked while there are any."""
    monkeypatch.setattr(its, "_most_stuck", 8)
    all_slow = []
    assert its.may_read(HangRecords(), "exec", lambda: 1 // 0, 0)
    for number in range(8):
        user = number // 4
        assert may(its, user)
        all_slow.append(Slow(user))
        keep_waiting(its, all_slow[-1])
        assert may(its, user) == (number % 4 < 3)
        assert may(its, user, "memory")
    assert not may(its, 100)
    all_slow[0].end.set()
    until(lambda: may(its, 100), "its user may be read")
    for slow in all_slow:
        slow.end.set()


def test_two_readers_at_a_time() -> None:
    """A wait of one reader is not taken for one of the other, which is in no read."""
    one, other = GuardedReader(0.02), GuardedReader(0.02)
    slow = Slow()
    given_up: list[object] = []

    def wait_for_it() -> None:
        other.run_all([slow], Slow.read, lambda process, _: given_up.append(process))

    def work(_: int) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            time.sleep(0.01)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    one.run_all([1], work, lambda *_: pytest.fail("it was given up"))
    thread.join()
    assert given_up == [slow]
    slow.end.set()
    one.close()
    other.close()


def run_where_threads_are_few(program: str) -> None:
    """Run it as a user who may have three threads."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


_FEW_THREADS = """
import os, resource, subprocess, threading, time
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.reading import reader as guarded
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.marks import reading
poller = Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _: None)
poller.poll()  # all modules are loaded now; that user may not be able to
poller.close()
user = 100_000 + int.from_bytes(os.urandom(3), "big")  # who has no other threads
os.setgroups([])
os.setgid(user)
os.setuid(user)
def limit(threads):
    resource.setrlimit(resource.RLIMIT_NPROC, (threads, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
"""


def test_no_other_thread_can_be_started() -> None:
    """What no thread can be had for is left out, and done when there are threads again."""
    run_where_threads_are_few(
        _FEW_THREADS
        + """
limit(3)
its, end = GuardedReader(0.02), threading.Event()
done, stuck, left = [], [], []
def do(n):
    if n < 4 and not end.is_set():
        with reading():
            end.wait()
    done.append(n)
def go_on(n, lock):
    stuck.append(n)
    its.give_up(HangRecords(), lock, n, 0)
its.run_all(range(6), do, go_on, left_out=left.append)
assert (done, stuck, left) == ([], [0, 1], [2, 3, 4, 5]), (done, stuck, left)
end.set()
while threading.active_count() > 1:
    time.sleep(0.001)
its.run_all(left, do, go_on)
assert done == [2, 3, 4, 5], done
"""
    )


def test_a_poll_without_a_thread() -> None:
    """It ends, with one error; what was due in it is looked at in the next one."""
    run_where_threads_are_few(
        _FEW_THREADS
        + """
command = ["/usr/bin/python3", "-c", "input()"]
programs = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
poller = Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _: None)
def shown():
    return {process.key.pid for process in view.processes} & {one.pid for one in programs}
limit(1)
for _ in range(2):
    view = poller.poll()
    assert not shown()
assert view.stats.read_errors == {("process", "eagain"): 2}, view.stats.read_errors
limit(resource.getrlimit(resource.RLIMIT_NPROC)[1])
view = poller.poll()
assert len(shown()) == 2
poller.close()
for one in programs:
    one.communicate(b"")
"""
    )


@pytest.mark.parametrize("unit", ["threadwatch.service", "user/threadwatch.service"])
def test_the_unit_has_room_for_threads_that_are_stuck(unit: str) -> None:
    """The limits of both locks, of the receiver, and a dozen other threads, fit into what systemd allows."""
    text = (CHECKOUT / "systemd" / unit).read_text(encoding="utf-8")
    (most,) = [line.removeprefix("TasksMax=") for line in text.splitlines() if "TasksMax=" in line]
    assert int(most) >= 2 * guarded._MAX_STUCK + receiver._MOST_STUCK + 12
