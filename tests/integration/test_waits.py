"""Why threads wait, on real interpreters: every kind of wait, and the GIL against the kernel's clocks."""

from __future__ import annotations

import math
import time

import pytest

from tests import harness, testbed
from tests.integration import sampling
from tests.integration.conftest import Fleet
from tests.testbed import Interpreter


def test_each_wait_has_its_state(interpreter: Interpreter, fleet: Fleet) -> None:
    """A thread that waits for something is in that state in every sample, and all its time is."""
    target = fleet.start(interpreter, "waiting.py", options=())
    step = target.next_step()
    assert step is not None
    names = {tid: name for name, tid in sampling.tids(step.processes[0]).items()}
    with sampling.watching(step.processes[0].pid) as everything:
        watch = everything.of(tids=tuple(names))
        deadline = time.monotonic() + harness.DEADLINE
        wrong: dict[str, object] = {"the start": None}
        while wrong and time.monotonic() < deadline:  # until all have come to wait
            time.sleep(0.02)
            watch.sample()
            taken = watch.take()
            wrong = {
                name: taken.get(tid)
                for tid, name in names.items()
                if tid not in taken or taken[tid].state != name.split(":")[0]
            }
        assert not wrong, target.complaint(f"in other states: {wrong}")
        for _ in range(30):
            watch.sample()
        for tid, waits in watch.take().items():
            assert set(waits.times) == {names[tid].split(":")[0]}, names[tid]
            assert waits.gil_held_ns == 0, names[tid]
        assert not watch.errors
    target.go()
    assert target.next_step() is None


@pytest.mark.parametrize("version", [(3, 9), (3, 15)], ids=lambda v: f"{v[0]}.{v[1]}")
def test_threads_that_share_the_gil(version: tuple[int, int], fleet: Fleet) -> None:
    """Of N threads that only compute, each waits for the GIL (N − 1)/N of the time, and one always holds it.

    That each interpreter's GIL is found, test_states shows; this is about what samples say. The
    truth is the kernel's: a thread that neither ran nor was ready to has waited, and these wait for
    nothing but the GIL. A running thread holds it, but for the moments in which a waiter wakes up
    to ask for it.
    """
    target = fleet.start(testbed.require(*version), "contention.py", "4", options=())
    step = target.next_step()
    assert step is not None
    workers = [t for name, t in sampling.tids(step.processes[0]).items() if "worker" in name]
    with sampling.watching(step.processes[0].pid) as watch:
        assert len(watch.target.gils) == 1
        run = sampling.run(watch, 2.0)
        assert not watch.errors
    # all four together: 3 of 4 wait, as exactly as the kernel knows
    waiting = sum(run.share(tid, "gil") for tid in workers) / 4
    truth = sum(1 - run.busy[tid] for tid in workers) / 4
    error = math.sqrt(truth * (1 - truth) / run.samples)
    assert waiting == pytest.approx(truth, abs=3 * error)
    for tid in workers:
        # 8 comparisons on each of 2 interpreters: chance exceeds 4.5 standard errors in one of 9,000 runs
        error = math.sqrt(run.busy[tid] * (1 - run.busy[tid]) / run.samples)
        assert run.share(tid, "gil") == pytest.approx(1 - run.busy[tid], abs=4.5 * error)
        assert run.held(tid) < run.busy[tid] + 4.5 * error
        assert set(run.waits[tid].times) <= {"running", "gil"}
        assert sum(run.waits[tid].times.values()) == run.elapsed_ns
    held = sum(waits.gil_held_ns for waits in run.waits.values()) / run.elapsed_ns
    ran = min(sum(run.ran.values()), 0.99)
    assert ran - 0.01 - 3 * math.sqrt(ran * (1 - ran) / run.samples) < held <= 1
    target.go()
    assert target.next_step() is None


def test_threads_that_do_without_the_gil(interpreter: Interpreter, fleet: Fleet) -> None:
    """Threads that compute outside of the GIL are running, and neither wait for it nor hold it.

    For the moments in which they need it, one of 20 parts of the time is allowed; on top comes the error of
    that share: chance exceeds 4.5 standard errors in one of 150,000 comparisons.
    """
    target = fleet.start(interpreter, "contention.py", "2", "hash", options=())
    step = target.next_step()
    assert step is not None
    workers = [t for name, t in sampling.tids(step.processes[0]).items() if "worker" in name]
    with sampling.watching(step.processes[0].pid) as watch:
        run = sampling.run(watch, 0.5)
        assert not watch.errors
    most = 0.05 + 4.5 * math.sqrt(0.05 * 0.95 / run.samples)
    for tid in workers:
        # what it is not on a CPU or ready to be, by the kernel's clocks, it waits for the GIL
        assert run.share(tid, "running") > min(run.busy[tid], 1) - most
        assert run.held(tid) < most
    target.go()
    assert target.next_step() is None
