"""Polls of a procfs of files, where every number is the test's; its process clock is stat's, in ticks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.books import MS, SECOND, cpu_by_name, fallen, threads_ns
from tests.proctree import Process, ProcTree
from threadwatch.config.parse import parse_config
from threadwatch.errors import ReadError
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import GroupView, View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

OPEN_NS = 40 * MS


class Polled:
    """A tree with one process, and a poller that checks each of its polls."""

    def __init__(self, root: Path, config: str = "{}") -> None:
        self.tree = ProcTree(root)
        self.process: Process = self.tree.process(100, comm=b"main", cmdline=("python3", "shop.py"))
        self.errors: list[ReadError] = []
        config_value = parse_config(config.encode(), "test")
        self.poller = Poller(ProcFS(str(root)), config_value, report=self.errors.append)
        self.view: View | None = None

    def poll(self) -> GroupView:
        """Poll; the group of the process."""
        view = self.poller.poll()
        if self.view is not None:
            last = self.view
            assert fallen(last.groups, view.groups, last.monotonic_ns, view.monotonic_ns) == []
        self.view = view
        (group,) = view.groups
        assert group.name == "shop"
        assert 0 <= group.cpu_ns - threads_ns(group) <= OPEN_NS
        return group

    def run(self, tid: int, *, user_ticks: int = 0, system_ticks: int = 0) -> None:
        """Have a thread use CPU time, in whole ticks."""
        thread = self.process.threads[tid]
        old = thread.values
        thread.set(
            user_ticks=old.user_ticks + user_ticks,
            system_ticks=old.system_ticks + system_ticks,
            cpu_ns=(old.cpu_ns or 0) + (user_ticks + system_ticks) * 10 * MS,
            timeslices=old.timeslices + 1,
        )


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Polled]:
    """Yield a process called shop, with its main thread."""
    polled = Polled(tmp_path)
    yield polled
    polled.poller.close()


def test_whole_lives_then_gains(polled: Polled) -> None:
    """The first poll charges what threads have used in their lives, later ones what they gain."""
    polled.process.thread(101, comm=b"worker")
    polled.run(100, user_ticks=5)
    polled.run(101, user_ticks=3, system_ticks=1)
    assert cpu_by_name(polled.poll()) == {"main": 50 * MS, "worker": 40 * MS}
    polled.run(101, user_ticks=2)
    group = polled.poll()
    assert cpu_by_name(group) == {"main": 50 * MS, "worker": 60 * MS}
    worker = group.series[SeriesKey("worker")]
    assert (worker.user_ns, worker.system_ns) == (50 * MS, 10 * MS)
    assert group.cpu_ns == 110 * MS


def test_threads_come_and_go(polled: Polled) -> None:
    """A thread that has gone has ended and keeps its time."""
    worker = polled.process.thread(101, comm=b"worker")
    polled.run(101, user_ticks=3)
    polled.poll()
    worker.end()
    polled.process.thread(102, comm=b"other")
    polled.run(102, user_ticks=1)
    group = polled.poll()
    assert cpu_by_name(group) == {"main": 0, "worker": 30 * MS, "other": 10 * MS}
    counts = {key.thread: (s.started, s.ended) for key, s in group.series.items()}
    assert counts == {"main": (1, 0), "worker": (1, 1), "other": (1, 0)}


def test_a_process_goes_and_another_comes(polled: Polled) -> None:
    """What a process used stays in its group, where the next one adds to it."""
    polled.run(100, user_ticks=5)
    polled.poll()
    polled.process.end()
    group = polled.poll()
    assert (group.processes, group.cpu_ns) == (0, 50 * MS)
    polled.process = polled.tree.process(
        100, comm=b"main", cmdline=("python3", "shop.py"), start_ticks=5000
    )
    polled.run(100, user_ticks=2)
    for _ in range(64):  # processes are listed once in this many polls
        group = polled.poll()
        if group.processes:
            break
    assert cpu_by_name(group) == {"main": 70 * MS}
    assert (group.series[SeriesKey("main")].started, group.series[SeriesKey("main")].ended) == (
        2,
        1,
    )


def test_a_thread_that_cannot_be_read_for_once(polled: Polled) -> None:
    """A poll that cannot read a thread's stat counts an error, and no time twice afterwards."""
    polled.process.thread(101, comm=b"worker")
    polled.run(101, user_ticks=3)
    polled.poll()
    polled.run(101, user_ticks=4)
    polled.run(100, user_ticks=1)
    (polled.process.threads[101].directory / "stat").write_bytes(b"nonsense")
    polled.poll()
    assert polled.view is not None
    assert polled.view.stats.read_errors["stat", "malformed"] > 0
    assert polled.errors
    polled.run(101, user_ticks=2)
    polled.poll()
    group = polled.poll()
    assert cpu_by_name(group) == {"main": 10 * MS, "worker": 90 * MS}
    assert group.series[SeriesKey("worker")].started == 1
    assert group.cpu_ns == 100 * MS


def test_a_reload_keeps_what_was_counted(polled: Polled) -> None:
    """Other rules hold from the next poll on; totals go on, the old names as they were."""
    polled.process.thread(101, comm=b"job-1")
    polled.run(101, user_ticks=3)
    polled.poll()
    rules = "threads: {rules: [{match: 'job-[0-9]+', name: jobs}]}"
    polled.poller.reload(parse_config(rules.encode(), "test"))
    polled.run(101, user_ticks=2)
    group = polled.poll()
    assert cpu_by_name(group) == {"main": 0, "job-1": 30 * MS, "jobs": 20 * MS}


def test_the_daemon_counts_its_polls(polled: Polled) -> None:
    """Every poll is counted, with its duration in a bucket, and its CPU time grows."""
    before = None
    for sequence in range(1, 4):
        polled.poll()
        assert polled.view is not None
        stats = polled.view.stats
        assert polled.view.sequence == stats.polls == sum(stats.poll_durations) == sequence
        if before is not None:
            assert stats.poll_cpu_ns > before.poll_cpu_ns
            assert stats.poll_duration_ns > before.poll_duration_ns
        before = stats


def test_a_process_that_was_left_out_of_polls_is_shown_over_all_that_time(
    polled: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has used since it was last read is divided by the time since then."""

    def shown() -> tuple[float, float]:
        assert polled.view is not None
        (process,) = polled.view.processes
        (thread,) = process.threads
        assert process.cpu_ratio is not None
        assert thread.cpu_ratio is not None
        return process.cpu_ratio, thread.cpu_ratio

    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    for left_out in (0, 3, 0, 1):
        polled.poll()
        for _ in range(left_out):
            now_ns += SECOND
            polled.run(100, user_ticks=20)
            with monkeypatch.context() as patch:
                # as long as one who kept us waiting is not read
                patch.setattr(polled.poller._guarded, "may_read", lambda *_: False)
                polled.poll()
        now_ns += SECOND
        polled.run(100, user_ticks=20)
        polled.poll()
        assert shown() == pytest.approx((0.2, 0.2)), left_out
        now_ns += SECOND
        polled.run(100, user_ticks=20)
