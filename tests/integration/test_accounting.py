"""No CPU time is lost or counted twice: real processes, against what they measure of themselves."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from tests import testbed
from tests.books import MS
from tests.loads import Load, Watch, most_beyond_ns
from tests.testbed import Interpreter
from threadwatch.accounting.exit_tails import TAIL_NS
from threadwatch.model.keys import UNATTRIBUTED

Start = Callable[..., Load]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Yield a poller that ends with its test."""
    watch = Watch()
    yield watch
    watch.close()


@pytest.fixture
def start(watch: Watch) -> Iterator[Start]:
    """Starts loads that the watch finds; they end with their test."""
    loads: list[Load] = []

    def start(interpreter: Interpreter, program: str, *arguments: str, **options: object) -> Load:
        load = Load(interpreter, program, watch.mark, *arguments, **options)
        loads.append(load)
        return load

    yield start
    for load in loads:
        load.close()


def test_a_thread_per_request(watch: Watch, start: Start) -> None:
    """Threads that live between polls are charged to their names: 99 % of the time, every start and end."""
    load = start(testbed.require(3, 11), "load_requests.py", "6", "2000")
    watch.meet(load)
    watch.poll_while(load, interval=1.0)
    served = load.hear("served")
    watch.settle()
    total_ns = sum(watch.cpu.values())
    names = tuple(served["threads"])
    assert total_ns >= served["process_ns"]
    assert total_ns - served["process_ns"] < 10 * MS
    right_ns = sum(watch.cpu[name] for name in (*names, "MainThread"))
    assert right_ns >= 0.99 * total_ns, watch.cpu
    for name in names:
        count = served["threads"][name]
        assert watch.counts(name) == (count, 0)
        beyond_ns = watch.cpu[name] - served["cpu_ns"][name]
        assert 0 <= beyond_ns <= most_beyond_ns(served) * count, (name, beyond_ns / count)
    assert watch.counts("MainThread") == (0, 1)
    assert watch.started == 1 + sum(served["threads"].values())
    rate = sum(served["threads"].values()) / served["seconds"]
    print(f"{rate:.0f} threads per second, {right_ns / total_ns:.2%} under their names")
    load.end()


def test_planned_load(watch: Watch, start: Start) -> None:
    """CPU time by name is within 0.5 % of what the threads say, on old and new interpreters alike."""
    loads = [start(i, "load_planned.py", "3") for i in testbed.interpreters()[::3]]
    for load in loads:
        watch.meet(load)
    for load in loads:
        watch.poll_while(load, interval=0.7)
    told = [load.hear("done") for load in loads]
    watch.settle()
    for name in told[0]["cpu_ns"]:
        own_ns = sum(said["cpu_ns"][name] for said in told)
        count = sum(said["threads"][name] for said in told)
        label = "pool_N" if name == "pool" else name
        # those that end do so after they have measured themselves
        assert own_ns <= watch.cpu[label] <= 1.005 * own_ns + 2 * TAIL_NS * count, name
        assert sum(watch.counts(label)) == count
    others = len(loads) * (1 + 50)  # main threads and sleepers
    assert watch.started == sum(sum(said["threads"].values()) for said in told) + others
    # the tails of a few ends can stay hidden behind what runs while a poll reads
    assert watch.cpu.get(UNATTRIBUTED, 0) <= MS
    for load in loads:
        load.end()


def test_a_restart_goes_on_where_the_process_before_ended(watch: Watch, start: Start) -> None:
    """Processes that come one after the other add up, under the same names."""
    used_ns = worked_ns = 0
    for run in range(1, 4):
        load = start(testbed.require(3, 11), "load_lives.py", "restart")
        watch.meet(load)
        watch.poll_while(load, interval=0.1)
        used_ns += load.hear("done")["process_ns"]
        watch.settle()
        assert used_ns <= watch.group.cpu_ns <= used_ns + 3 * run * MS
        worked_ns += watch.kernels_ns("worker")
        assert worked_ns >= run * 60 * MS
        assert watch.cpu["worker"] == pytest.approx(worked_ns, rel=0.02)
        load.end()
        watch.poll_until(lambda: not watch.group.processes, "the end of the process")
        assert watch.counts("worker") == (run, 0)
    assert watch.cpu.get(UNATTRIBUTED, 0) <= 0.01 * used_ns


def test_a_stopped_process(watch: Watch, start: Start) -> None:
    """SIGSTOP and SIGCONT take nothing away and add nothing."""
    load = start(testbed.require(3, 11), "load_lives.py", "stopped")
    watch.meet(load)
    load.hear("working")
    watch.poll_until(lambda: watch.cpu.get("two", 0) > 0, "work")
    for _ in range(3):
        os.kill(load.pid, signal.SIGSTOP)

        def is_stopped() -> bool:
            process = watch.process(load.pid)
            return process is not None and {t.state for t in process.threads} == {"stopped"}

        watch.poll_until(is_stopped, "the process to stop")
        before_ns = watch.group.cpu_ns
        watch.settle()
        assert watch.group.cpu_ns - before_ns < 50 * MS
        os.kill(load.pid, signal.SIGCONT)
        watch.poll_until(lambda: watch.group.cpu_ns > before_ns + 50 * MS, "work to go on")  # noqa: B023  # it is called at once
    load.go()
    load.hear("ceased")
    watch.settle()
    load.go()
    process_ns = load.hear("done")["process_ns"]
    watch.settle()
    assert process_ns <= watch.group.cpu_ns == load.clock_ns()
    assert watch.cpu.get(UNATTRIBUTED, 0) == 0
    assert watch.counts("one") == watch.counts("two") == (0, 1)
    load.end()


def test_a_leader_that_ends_before_its_threads(watch: Watch, start: Start) -> None:
    """When the main thread has called pthread_exit, names, starts, ends and sums stay right."""
    load = start(testbed.require(3, 11), "load_lives.py", "leaderless")
    watch.meet(load)
    load.hear("before")
    watch.settle()
    load.go()
    load.hear("leaderless")
    watch.settle()
    process = watch.process(load.pid)
    assert process is not None
    assert {t.name: t.state for t in process.threads} == {
        "MainThread": "zombie",
        "herald": "pipe",
        "survivor": "pipe",
        "sleeper": "pipe",
    }
    load.go()
    watch.poll_while(load, interval=0.1)
    done = load.hear("done")
    watch.settle()
    assert done["process_ns"] <= watch.group.cpu_ns == load.clock_ns()
    for name, least in (("survivor", 80), ("sleeper", 50), ("late", 30), ("later", 40)):
        cpu_ns = done["late_ns"] if name == "late" else watch.kernels_ns(name)  # it has ended
        assert cpu_ns >= least * MS
        assert watch.cpu[name] == pytest.approx(cpu_ns, rel=0.05, abs=2 * MS), name
    assert watch.counts("late") == (1, 0)
    assert watch.cpu.get(UNATTRIBUTED, 0) <= MS
    load.end()


def test_fork(watch: Watch, start: Start) -> None:
    """Parent and child have clocks of their own; in the group they add up, and stay when the child ends."""
    load = start(testbed.require(3, 11), "load_lives.py", "forks")
    watch.meet(load)
    watch.poll_while(load, interval=0.05)
    said = load.hear("done")
    watch.settle()
    used_ns = said["process_ns"] + said["child_ns"]
    assert used_ns <= watch.group.cpu_ns <= used_ns + 5 * MS
    assert watch.group.processes == watch.group.published == 2
    for name, least, count in (
        ("before the fork", 50, 1),
        ("after the fork", 60, 2),
        ("in the child", 70, 1),
    ):
        assert watch.kernels_ns(name) >= least * MS
        assert watch.cpu[name] == pytest.approx(watch.kernels_ns(name), rel=0.03, abs=MS)
        assert watch.counts(name) == (0, count)
    load.go()
    load.hear("alone")
    watch.poll_until(lambda: watch.group.processes == 1, "the end of the child")
    watch.settle()
    assert watch.group.cpu_ns >= used_ns
    assert [watch.counts(n) for n in ("after the fork", "in the child")] == [(1, 1), (1, 0)]
    assert watch.cpu.get(UNATTRIBUTED, 0) <= MS
    load.end()


@pytest.mark.parametrize(
    ("caller", "main_ms", "worker_ms"),
    [("main", 50, 80), ("worker", 300, 20), ("worker", 1, 400)],
)
def test_exec(watch: Watch, start: Start, caller: str, main_ms: int, worker_ms: int) -> None:
    """Whichever thread calls exec: the process clock goes on, and nothing is lost or counted twice."""
    arguments = ("execs", caller, str(main_ms), str(worker_ms))
    load = start(testbed.require(3, 11), "load_lives.py", *arguments)
    watch.meet(load)
    worker_ns = load.hear("before")["worker_ns"]
    watch.settle()
    assert watch.cpu["worker"] == worker_ns
    load.go()
    watch.meet(load)
    done = load.hear("done")
    process_ns = done["process_ns"]
    watch.settle()
    assert process_ns <= watch.group.cpu_ns == load.clock_ns()
    assert sum(watch.cpu.values()) == watch.group.cpu_ns
    # What a thread uses for exec is its own until the others have ended (measured: 0.1 to 0.2 ms), then
    # the main thread's, whose TID it has from then on. One that is ended by exec uses as much as any.
    last_ns = done["caller_ns"] + MS if caller == "worker" else worker_ns + TAIL_NS
    assert worker_ns <= watch.cpu["worker"] <= last_ns
    assert watch.kernels_ns("after exec") >= 50 * MS
    assert watch.cpu["after exec"] == pytest.approx(watch.kernels_ns("after exec"), rel=0.05)
    process = watch.process(load.pid)
    assert process is not None
    assert {thread.name for thread in process.threads} == {"MainThread", "herald", "after exec"}
    started, ended = (
        sum(getattr(totals, field) for totals in watch.group.series.values())
        for field in ("started", "ended")
    )
    assert started - ended == 3
    load.end()


def test_renames(watch: Watch, start: Start) -> None:
    """What was used before a rename is the old name's, what is used after it the new one's."""
    load = start(testbed.require(3, 11), "load_lives.py", "renames")
    watch.meet(load)
    for name in ("first", "second", "third"):
        load.hear(name)
        watch.settle()
        load.go()
    said = load.hear("done")
    watch.settle()
    for name, cpu_ns in said["cpu_ns"].items():
        assert watch.cpu[name] == pytest.approx(cpu_ns, rel=0.01, abs=MS), name
    assert [watch.counts(n) for n in ("first", "second", "third")] == [(0, 0), (0, 0), (0, 1)]
    load.end()


def test_without_a_publisher(watch: Watch, start: Start) -> None:
    """Time of threads that no poll saw to their ends is unattributed, and none is lost."""
    load = start(testbed.require(3, 11), "load_lives.py", "unpublished", mode="plain")
    load.hear("ready")
    load.go()
    watch.poll_while(load, interval=0.3)
    process_ns = load.hear("done")["process_ns"]
    watch.settle()
    assert process_ns <= watch.group.cpu_ns == load.clock_ns()
    assert sum(watch.cpu.values()) == watch.group.cpu_ns
    assert watch.cpu[UNATTRIBUTED] > 80 * MS
    load.end()


def test_a_random_schedule(watch: Watch, start: Start) -> None:
    """Births, ends, renames and forks, polled at random times: nothing falls, and in the end all is there."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    load = start(testbed.require(3, 11), "load_random.py", str(seed), "8")
    watch.meet(load)
    while not load.has_spoken(chance.random() * chance.random()):
        watch.poll()
    said = load.hear("done")
    watch.settle()
    assert watch.group.processes == said["processes"]
    # brief children guess what they will have used at their end: at most twice as much as it is
    beyond_ns = watch.group.cpu_ns - said["process_ns"]
    assert said["brief_ns"] // 2 - 20 * MS <= beyond_ns
    assert beyond_ns <= said["brief_ns"] + 3 * MS * said["processes"]
    assert sum(watch.cpu.values()) == watch.group.cpu_ns
    assert watch.cpu["plain"] == pytest.approx(said["plain_ns"], rel=0.02)
    assert watch.counts("plain") == (said["plain"], 0)
    nameless_ns = watch.cpu.get(UNATTRIBUTED, 0) - watch.group.ended_children_ns
    assert nameless_ns <= 0.01 * watch.group.cpu_ns
    load.end()
