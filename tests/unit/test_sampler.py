"""The sampler on real processes: what is credited, what is let go, and what is not permitted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from tests.harness import until
from tests.unit.procfs.helpers import NOBODY, Target, read_elsewhere, started
from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.names.slots import Gil
from threadwatch.procfs import ProcFS, parse_stat, parse_syscall
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.gil_holder import Holder
from threadwatch.waits.records import SampledProcess, SampledThread, thread_of
from threadwatch.waits.sampler import Target as Sampled
from threadwatch.waits.sampler import WaitSampler
from threadwatch.waits.syscalls import CallKind, ways

SECOND = 1_000_000_000
Start = Callable[..., tuple[Target, Sampled]]

THREADS = """
import signal, threading, time
def on_signal(body, *arguments):
    signal.signal(signal.SIGUSR1, lambda *_: body(*arguments))
def start(body, *arguments):
    threading.Thread(target=body, args=arguments, daemon=True).start()
"""


@pytest.fixture
def errors() -> list[ReadError]:
    """Return what the sampler could not read."""
    return []


@pytest.fixture
def guarded() -> Iterator[GuardedReader]:
    """Yield a reader for a sampler."""
    guarded = GuardedReader()
    yield guarded
    guarded.close()


@pytest.fixture
def sampler(errors: list[ReadError], guarded: GuardedReader) -> Iterator[WaitSampler]:
    """Yield a sampler."""
    sampler = WaitSampler(errors, guarded)
    yield sampler
    sampler.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process; gives it, and what to sample: all the threads that it has once it is ready."""
    open_ = []

    def run(code: str = "") -> tuple[Target, Sampled]:
        running = started(THREADS + code)
        process = running.__enter__()
        directory = ProcFS().open_process(process.pid)
        open_.append((running, directory))
        start_ticks = parse_stat(directory.read("stat", "stat")).start_ticks
        tids = tuple(directory.tids())
        key = ProcessKey(process.pid, start_ticks)
        return process, Sampled(key, directory, tids, (), lambda _: None, None)

    yield run
    for running, directory in open_:
        directory.close()
        running.__exit__(None, None, None)


def states(sampler: WaitSampler, target: Sampled) -> Mapping[int, str]:
    """Return the threads' states now."""
    sampler.sample(target, time.monotonic_ns())
    return {tid: waits.state for tid, waits in sampler.take(target.key).items()}


def come_to(sampler: WaitSampler, target: Sampled, *expected: str) -> None:
    """Wait until its threads are in these states, in any order."""
    until(lambda: sorted(states(sampler, target).values()) == sorted(expected), f"{expected}")
    sampler.forget(target.key)


def test_time_is_credited_by_the_clock(start: Start, sampler: WaitSampler) -> None:
    """The first sample credits nothing; after that all the time is, however late a sample is."""
    _, target = start()
    come_to(sampler, target, "pipe")
    sampler.sample(target, 10 * SECOND)
    (waits,) = sampler.take(target.key).values()
    assert (waits.state, waits.times) == ("pipe", {})
    for second in (11, 12, 20):
        sampler.sample(target, second * SECOND)
    (waits,) = sampler.take(target.key).values()
    assert waits.times == {"pipe": 10 * SECOND}
    (waits,) = sampler.take(target.key).values()
    assert (waits.state, waits.times) == ("pipe", {})


def test_what_a_sample_sees_was_so_since_the_sample_before(
    start: Start, sampler: WaitSampler
) -> None:
    """A thread that has gone from one wait to another is credited with the new one in between."""
    code = "start(lambda: (os.read(ends[0], 1), time.sleep(1000)))"
    process, target = start(f"ends = os.pipe()\n{code}\non_signal(os.write, ends[1], b'x')")
    # the main thread too: a signal that comes just before its read would not wake it
    come_to(sampler, target, "pipe", "pipe")
    worker = max(target.tids)
    target = replace(target, tids=(worker,))
    sampler.sample(target, 1 * SECOND)
    sampler.sample(target, 3 * SECOND)
    os.kill(process.pid, signal.SIGUSR1)
    until(lambda: b"nanosleep" in target.dir.read_task(worker, "wchan"), "it sleeps")
    sampler.sample(target, 7 * SECOND)
    sampler.sample(target, 8 * SECOND)
    times = sampler.take(target.key)[worker].times
    assert times == {"pipe": 2 * SECOND, "sleep": 5 * SECOND}


def test_periods_of_watching(start: Start, sampler: WaitSampler) -> None:
    """Between forgetting a process, or a thread, and seeing it again, nothing is credited."""
    _, target = start("start(time.sleep, 1000)")
    come_to(sampler, target, "pipe", "sleep")
    main, other = sorted(target.tids)
    sampler.sample(target, 1 * SECOND)
    sampler.sample(target, 2 * SECOND)
    sampler.sample(replace(target, tids=(main,)), 4 * SECOND)
    taken = sampler.take(target.key)
    assert (taken[main].times, taken[other].times) == ({"pipe": 3 * SECOND}, {"sleep": SECOND})
    sampler.sample(target, 7 * SECOND)
    sampler.sample(target, 8 * SECOND)
    taken = sampler.take(target.key)
    assert (taken[main].times, taken[other].times) == ({"pipe": 4 * SECOND}, {"sleep": SECOND})
    sampler.forget(target.key)
    assert not sampler.take(target.key)
    sampler.sample(target, 20 * SECOND)
    assert all(not waits.times for waits in sampler.take(target.key).values())


def test_threads_and_processes_that_vanish(
    start: Start, sampler: WaitSampler, errors: list[ReadError]
) -> None:
    """What has ended keeps what it was credited with, is given once, and is no error."""
    process, target = start("start(time.sleep, 1000)")
    come_to(sampler, target, "pipe", "sleep")
    target = replace(target, tids=(*target.tids, 2**22 - 1))
    sampler.sample(target, 1 * SECOND)
    sampler.sample(target, 2 * SECOND)
    process.end()
    sampler.sample(target, 3 * SECOND)
    sampler.sample(target, 4 * SECOND)
    taken = sampler.take(target.key)
    assert len(taken) == 2
    assert {sum(waits.times.values()) for waits in taken.values()} == {SECOND}
    sampler.sample(target, 5 * SECOND)
    assert not sampler.take(target.key)
    assert not errors


@pytest.mark.parametrize("keep", [0, 2, 100])
def test_files_that_are_kept_open(
    keep: int, start: Start, errors: list[ReadError], guarded: GuardedReader
) -> None:
    """No more than allowed, none when the process is forgotten; what is seen is the same."""
    _, target = start("for _ in range(5): start(time.sleep, 1000)")
    sampler = WaitSampler(errors, guarded, keep=keep)
    come_to(sampler, target, "pipe", *["sleep"] * 5)
    before = len(os.listdir("/proc/self/fd"))
    sampler.sample(target, 1 * SECOND)
    sampler.sample(target, 2 * SECOND)
    assert len(os.listdir("/proc/self/fd")) == before + min(keep, 6)
    times = [dict(waits.times) for waits in sampler.take(target.key).values()]
    assert sorted(map(repr, times)) == [
        repr({"pipe": SECOND}),
        *[repr({"sleep": SECOND})] * 5,
    ]
    sampler.forget(target.key)
    assert len(os.listdir("/proc/self/fd")) == before
    sampler.close()
    assert not errors


def test_a_file_descriptor_that_is_used_again(start: Start, sampler: WaitSampler) -> None:
    """The same call with the same number: what the number is by now is seen within a second."""
    code = """
import ctypes, socket
ends = os.pipe(), [s.detach() for s in socket.socketpair()]
fd = os.dup(ends[0][0])
def read(function, arguments):
    while True: function(*arguments)
os.write(ends[0][1], b"1234")
start(read, ctypes.CDLL(None).read, (fd, ctypes.create_string_buffer(8), 1))
on_signal(lambda: (os.dup2(ends[1][0], fd), os.write(ends[0][1], b"x")))
words = [fd]
"""
    process, target = start(code)
    come_to(sampler, target, "pipe", "pipe")  # the main thread too, so that the signal wakes it
    tid = max(target.tids)
    target = replace(target, tids=(tid,))
    sampler.sample(target, 1 * SECOND)
    os.kill(process.pid, signal.SIGUSR1)
    until(
        lambda: target.dir.task_fd_link(tid, int(process.words[0])).startswith("socket"), "a socket"
    )
    until(lambda: b"unix" in target.dir.read_task(tid, "wchan"), "it waits for the socket")
    sampler.sample(target, 2 * SECOND)
    assert sampler.take(target.key)[tid].state == "socket"


def test_what_perishes_is_asked_for_again() -> None:
    """After a second, and when the GILs are others; what hangs on no descriptor is not."""
    books = SampledProcess(set())
    lasting, perishable = SampledThread(1, None, 0), SampledThread(2, None, 0)
    gil = Gil(8, 208, 8, 8)

    def known(gils: tuple[Gil, ...], now_ns: int) -> list[bytes]:
        books.perishable.append(perishable)
        books.begin(gils, now_ns)
        seen = [lasting.raw, perishable.raw]
        lasting.raw = perishable.raw = b"same"
        return seen

    books.add(lasting)
    books.add(perishable)
    known((), 1 * SECOND)
    assert known((), 2 * SECOND - 1) == [b"same", b"same"]
    assert known((), 2 * SECOND) == [b"same", b""]
    assert known((), 3 * SECOND - 1) == [b"same", b"same"]
    assert known((gil,), 3 * SECOND - 1) == [b"", b""]


def test_a_stop_and_what_goes_on_after_it(start: Start, sampler: WaitSampler) -> None:
    """A running thread is stopped; one that waited with a timeout waits for the same when it goes on."""
    code = """
import socket
def spin():
    while True: pass
def lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=1000)
def receive():
    a, b = socket.socketpair()
    a.settimeout(1000)
    a.recv(1)
start(spin), start(lock), start(receive)
"""
    process, target = start(code)
    come_to(sampler, target, "lock", "pipe", "running", "socket")

    _, spinning, *_ = sorted(target.tids)

    def stopped_on_its_way() -> bool:
        """Return whether the stop came when it was running, and not about to let another have the GIL."""
        os.kill(process.pid, signal.SIGSTOP)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            if states(sampler, target)[spinning] == "stopped":
                return True
        os.kill(process.pid, signal.SIGCONT)
        return False

    until(stopped_on_its_way, "all stop within their calls", every=0.005)
    os.kill(process.pid, signal.SIGCONT)
    come_to(sampler, target, "lock", "pipe", "running", "socket")
    restarted = ways(os.uname().machine)

    def go_on_with_their_calls() -> bool:
        calls = [parse_syscall(target.dir.read_task(tid, "syscall")) for tid in target.tids]
        # the thread that spins is in no call: it has the number -1 when it is about to run
        ways_on = [call and restarted.get(call.number) for call in calls]
        return ways_on.count(CallKind.RESTART) == 2

    until(go_on_with_their_calls, "they go on with their calls")


def test_a_leader_that_has_ended_before_its_threads(start: Start, sampler: WaitSampler) -> None:
    """It is a zombie; the others' files are still known."""
    code = """
import ctypes
start(lambda: os.read(0, 1))
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
    _, target = start(code)
    come_to(sampler, target, "pipe", "zombie")


def test_nothing_is_given_without_permission() -> None:
    """A reader without permission reports that once per process, and gets no states; of its own it does."""
    code = (
        NOBODY
        + """
import subprocess, time
from threadwatch.model.keys import ProcessKey
from threadwatch.names.slots import Gil
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.sampler import Target, WaitSampler
become_nobody()
own = subprocess.Popen(["sleep", "100"])
errors = []
sampler = WaitSampler(errors, GuardedReader())
targets = []
for pid in (int(sys.argv[1]), own.pid):
    directory = ProcFS().open_process(pid)
    gils = (Gil(8, 24, 0, 0),)
    key = ProcessKey(pid, 1)
    targets.append(Target(key, directory, directory.tids(), gils, lambda _: None, None))
until = time.monotonic() + 60
while time.monotonic() < until:
    for target in targets:
        sampler.sample(target, time.monotonic_ns())
    states = [[waits.state for waits in sampler.take(target.key).values()] for target in targets]
    if states == [[], ["sleep"]]:
        break
print(states, sorted({(error.source, error.reason) for error in errors}), len(errors))
sampler.close()
own.kill()
"""
    )
    with started("") as target:
        said = read_elsewhere(code, target.pid)
    assert said == "[[], ['sleep']] [('mem', 'eio'), ('syscall', 'denied')] 2\n"


def test_machines_that_are_not_known(
    start: Start, guarded: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the numbers of the calls are not known, nothing is sampled."""
    monkeypatch.setattr("threadwatch.waits.sampler.ways", lambda _: {})
    sampler = WaitSampler([], guarded)
    _, target = start()
    sampler.sample(target, SECOND)
    assert not sampler.take(target.key)
    sampler.close()


def test_a_holder_is_a_thread_of_the_process(start: Start) -> None:
    """By its TID, else by its ident; not if that is another process's, or no thread's."""
    process, target = start("start(time.sleep, 1000)")
    main, other = sorted(target.tids)
    target = replace(target, tid_of_ident={5: other, 6: 1}.get)
    books = SampledProcess(set())
    assert main == process.pid
    cases = {
        Holder(ident=5, native=main): main,
        Holder(ident=5, native=0): other,
        Holder(ident=5, native=os.getpid()): other,
        Holder(ident=5, native=2**64 - 1): other,
        Holder(ident=6, native=0): None,
        Holder(ident=7, native=1): None,
        Holder(ident=0, native=0): None,
    }
    assert {holder: thread_of(holder, target, books) for holder in cases} == cases
    inside = replace(target, ns_tids={1: main, 2: other}, tid_of_ident={5: 2}.get)
    assert thread_of(Holder(ident=5, native=1), inside, books) == main
    assert thread_of(Holder(ident=5, native=3), inside, books) == other
