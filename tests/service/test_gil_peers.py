"""The holder of the GIL, by the daemon, py-spy and CPython's own profiler, in the same seconds."""

from __future__ import annotations

from benchmarks import agreement
from benchmarks.agreement import Seen, differ
from benchmarks.observers import PROFILER, attach_profiler, attach_py_spy
from tests import testbed
from tests.harness import until
from tests.integration import sampling

_SECONDS = 7.0
_WRONG = 4.5
"""Standard errors."""


def test_everybody_agrees_on_who_holds_the_gil() -> None:
    """The shares of three threads differ by no more than samples do, from each other and from the truth.

    The truth is what the threads write down themselves. Chance exceeds 4.5 standard errors in one of
    150,000 comparisons: what differs by more is measured once more, and has to do so again. The rest is for
    what profilers do not see quite as it is.
    """
    interpreter = testbed.require(*PROFILER)
    peers = {
        "profiling.sampling": attach_profiler(interpreter, 100, blocking=False),
        "py-spy": attach_py_spy(100, blocking=False),
    }
    measured: list[Seen] = []

    def has_enough_samples() -> bool:
        with sampling.promptly():
            measured.append(agreement.measure(interpreter, peers, _SECONDS))
        return measured[-1].ours.samples > 50 * _SECONDS

    until(has_enough_samples, "enough samples")
    wrong = _differing(measured[-1])
    if wrong:
        until(has_enough_samples, "enough samples")
        wrong &= _differing(measured[-1])
    assert not wrong, [agreement.table([(interpreter, seen)]).rows for seen in measured]


def _differing(seen: Seen) -> set[tuple[str, str]]:
    """Return the threads whose shares differ by more than samples do, and from whose."""
    others = {"the truth": seen.truth, **seen.peers}
    return {
        (thread, name)
        for thread in agreement.THREADS
        for name, other in others.items()
        if abs(differ(seen.ours, other, thread)) >= _WRONG
    }
