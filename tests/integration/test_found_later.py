"""What a daemon finds in processes that it has known for long."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

from tests import harness, testbed
from tests.integration.conftest import Fleet
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.model.view import ProcessView
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS, parse_stat

NAME = "of a late interpreter"


def polled(poller: Poller) -> dict[int, ProcessView]:
    """Return the processes that one more poll shows, by PID."""
    poller.sample_for(0.05)
    return {process.key.pid: process for process in poller.poll().processes}


def test_interpreters_that_come_later(fleet: Fleet) -> None:
    """Threads of a subinterpreter are named, and hold its GIL, though the daemon knew the process before."""
    targets = [fleet.start(i, "late.py", mode="run", options=()) for i in testbed.interpreters()]
    pids = {target.process.pid for target in targets}
    for target in targets:
        assert target.next_step() is not None
    errors: list[str] = []
    config = replace(DEFAULT_CONFIG, watch_unmatched=False)
    with closing(Poller(ProcFS(), config, report=lambda e: errors.append(str(e)))) as poller:
        poller.always_watch(frozenset(pids))
        for _ in range(40):  # until no poll looks at these processes any more
            polled(poller)
        shown = polled(poller)
        assert all(shown[pid].published for pid in pids)
        tids = {}
        for target in targets:
            target.go()
            step = target.next_step()
            assert step is not None
            (tids[target.process.pid],) = (
                t.tid for t in step.processes[0].threads if t.name == NAME
            )
        deadline, missing = time.monotonic() + harness.DEADLINE, dict(tids)
        while missing:
            assert time.monotonic() < deadline, missing
            for pid, process in polled(poller).items():
                thread = next((t for t in process.threads if t.tid == tids[pid]), None)
                if thread is not None and thread.name == NAME and thread.gil_held_ratio:
                    missing.pop(pid, None)
        assert errors == []


def test_a_table_that_comes_later(fleet: Fleet) -> None:
    """A young process begins to publish: the second poll after that has its names.

    The first poll finds that the process has run.
    """
    target = fleet.start(testbed.interpreters()[-1], "publishes_late.py")
    assert target.next_step() is not None
    pid = target.process.pid
    procfs, config = ProcFS(), replace(DEFAULT_CONFIG, watch_unmatched=False)
    with procfs.open_process(pid) as process:
        harness.until(
            lambda: parse_stat(process.read("stat", "stat")).state == "S",
            "it waits to be told to go on",
        )
    with closing(Poller(procfs, config, report=lambda _error: None)) as poller:
        poller.always_watch(frozenset({pid}))
        for _ in range(16):
            assert polled(poller)[pid].names_from != "published"
        target.go()
        assert target.next_step() is not None
        polled(poller)
        assert polled(poller)[pid].names_from == "published"
