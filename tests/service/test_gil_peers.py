"""The holder of the GIL, by the daemon, py-spy and CPython's own profiler, in the same seconds."""

from __future__ import annotations

from benchmarks import agreement
from benchmarks.observers import PROFILER, attach_profiler, attach_py_spy
from tests import testbed
from tests.integration import sampling

_SECONDS = 7.0


def test_everybody_agrees_on_who_holds_the_gil() -> None:
    """The shares of three threads differ by no more than samples do, from each other and from the truth.

    The truth is what the threads write down themselves. Chance exceeds 4.5 standard errors in one of
    150,000 comparisons; the rest is for what profilers do not see quite as it is.
    """
    interpreter = testbed.require(*PROFILER)
    peers = {
        "profiling.sampling": attach_profiler(interpreter, 100, blocking=False),
        "py-spy": attach_py_spy(100, blocking=False),
    }
    with sampling.promptly():
        seen = agreement.measure(interpreter, peers, _SECONDS)
    table = agreement.table([(interpreter, seen)]).rows
    for thread in agreement.THREADS:
        assert abs(agreement.differ(seen.ours, seen.truth, thread)) < 4.5, table
        for peer in seen.peers.values():
            assert abs(agreement.differ(seen.ours, peer, thread)) < 4.5, table
    assert seen.ours.samples > 50 * _SECONDS
