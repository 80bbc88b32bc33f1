"""What is shown of threads that have come to rest, at whatever moment of a poll they did."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from tests import testbed
from tests.loads import Load, Watch
from threadwatch.procfs import ProcessDir

ROUNDS = 25
ASLEEP = ("sleeping", "pipe")
"""All wait for a pipe, whether or not that can be told."""


def test_threads_at_rest_are_shown_as_they_are() -> None:
    """A thread that stops while it is being read is shown sleeping, with its last CPU time and faults."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    watch = Watch(threads={"per": "thread", "cap": 1000})
    # few enough threads to be read all together, and more than that
    loads = [
        Load(testbed.require(3, 11), "load_rest.py", watch.mark, *map(str, (seed, count, ROUNDS)))
        for count in (8, 40)
    ]
    stale = []
    try:
        for load in loads:
            watch.meet(load)
        for number in range(ROUNDS):
            for load in loads:
                while not load.has_spoken(chance.random() / 1000):
                    watch.poll()
            told = [load.hear("resting")["counts"] for load in loads]
            watch.settle()
            stale += [
                (number, len(counts), *difference)
                for load, counts in zip(loads, told, strict=True)
                for difference in differences(watch, load.pid, counts)
            ]
            for load in loads:
                load.go()
    finally:
        watch.close()
        for load in loads:
            load.close()
    assert stale == []


def test_a_process_at_rest_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads at rest are not read again while they have their turns to be looked at for their waits."""
    monkeypatch.setattr("threadwatch.threads.wait_looks._LOOKS_PER_POLL", 0)
    read: Counter[str] = Counter()
    read_task = ProcessDir.read_task

    def counted(directory: ProcessDir, tid: int, name: str) -> bytes:
        read[name] += 1
        return read_task(directory, tid, name)

    monkeypatch.setattr(ProcessDir, "read_task", counted)
    watch = Watch()
    load = Load(testbed.require(3, 11), "load_rest.py", watch.mark, "1", "60", "1")
    try:
        load.hear("ready")
        watch.poll_until(lambda: states(watch, load) == {"pipe"}, "all are seen to wait for a pipe")
    finally:
        watch.close()
        load.close()
    threads, polls = read["syscall"], len(watch.views)
    assert threads > 60
    # when they are met, and once more if the clock of the process has moved meanwhile
    assert read["schedstat"] <= 3 * threads < polls * threads


def states(watch: Watch, load: Load) -> set[str]:
    """Return the states in which the load's threads are shown."""
    process = watch.process(load.pid)
    assert process is not None
    return {thread.state for thread in process.threads}


def differences(
    watch: Watch, pid: int, counts: dict[str, dict[str, Any]]
) -> list[tuple[str, str, object, object]]:
    """Return what is shown otherwise than the process itself has told: TID, what, shown, told."""
    process = watch.process(pid)
    assert process is not None
    # a thread has two series if it was seen before it could say its name
    exported = dict.fromkeys(counts, (0, 0))
    for key, totals in watch.group.series.items():
        if key.pid == pid and str(key.tid) in counts:
            cpu_ns, faults = exported[str(key.tid)]
            cpu_ns += totals.user_ns + totals.system_ns
            exported[str(key.tid)] = (cpu_ns, faults + totals.minor_faults)
    views = {thread.tid: thread for thread in process.threads}
    assert views.keys() == {pid, *map(int, counts)}
    wrong: list[tuple[str, str, object, object]] = []
    for tid, told in counts.items():
        view = views[int(tid)]
        wrong += [
            (tid, what, shown, true)
            for what, shown, true in (
                ("asleep", view.state in ASLEEP, True),
                ("CPU time shown", view.user_ns + view.system_ns, told["cpu_ns"]),
                ("CPU time exported", exported[tid][0], told["cpu_ns"]),
                ("minor faults", exported[tid][1], told["minor_faults"]),
            )
            if shown != true
        ]
    if views[pid].state not in ASLEEP:
        wrong.append((str(pid), "state", views[pid].state, ASLEEP))
    return wrong
