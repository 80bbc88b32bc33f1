"""PIDs and TIDs that are used again, in a PID namespace where the test chooses them.

The test runs itself inside the namespace (``python -m tests.integration.test_accounting_reuse``): only
there are the numbers the same ones for the poller.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import testbed
from tests.books import MS
from tests.harness import run_in_pid_namespace
from tests.loads import Load, Watch

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
PID = 4000


def test_numbers_that_are_used_again() -> None:
    """Processes with one PID, and threads with one TID, are each charged with their own lives."""
    run_in_pid_namespace(__name__)


def pids(watch: Watch) -> None:
    """Give one process after the other the same PID; some follow without a poll in between."""
    used_ns = worked_ns = 0
    python = testbed.require(3, 11)
    for run in range(1, 6):
        LAST_PID.write_text(str(PID - 1))
        load = Load(python, "load_lives.py", watch.mark, "restart")
        assert load.pid == PID, "the PID was not free"
        watch.meet(load)
        watch.poll_while(load, interval=0.05)
        used_ns += load.hear("done")["process_ns"]
        watch.settle()
        assert watch.group.processes == 1
        assert 0 <= watch.group.cpu_ns - used_ns <= 5 * MS * run
        worked_ns += watch.kernels_ns("worker")
        assert worked_ns >= 60 * MS * run
        assert watch.cpu["worker"] == pytest.approx(worked_ns, rel=0.03)
        load.end()
        load.close()
        if run % 2:
            watch.poll_until(lambda: not watch.group.processes, "the end of the process")
            assert watch.counts("worker") == (run, 0)


UNSURE = 0.01
"""The share of lives that may be counted twice, or not at all, where several have one TID in one tick."""


def tids(watch: Watch) -> None:
    """Give one thread after the other the same TID, while a poller looks on.

    Of one that a poll sees, it is not always certain which it is (docs/decisions/0020). CPU time is exact.
    """
    load = Load(testbed.require(3, 11), "load_reuse.py", watch.mark, str(PID))
    watch.meet(load)
    watch.poll_while(load, interval=0.02)
    said = load.hear("done")
    watch.settle()
    assert said["same"] > 100, said
    assert said["process_ns"] <= watch.group.cpu_ns == load.clock_ns(), (
        watch.group.cpu_ns,
        said,
        load.clock_ns(),
        watch.cpu,
        watch.counts("again"),
    )
    assert sum(watch.cpu.values()) == watch.group.cpu_ns
    ended, alive = watch.counts("again")
    assert abs(ended - said["threads"]) <= UNSURE * said["threads"], (ended, said)
    assert alive == 0
    assert watch.cpu["again"] == pytest.approx(said["cpu_ns"], rel=0.1)
    assert watch.started == 1 + ended
    load.end()
    load.close()


if __name__ == "__main__":
    for scenario in (pids, tids):
        watched = Watch()
        scenario(watched)
        watched.close()
