"""Whether a thread was on a CPU while its loop was read."""

from __future__ import annotations

import pytest

from threadwatch.model.loops import Ran
from threadwatch.waits.on_cpu import Turns, has_run

ON, READY, ASLEEP = Turns(7, 6, wants=True), Turns(7, 7, wants=True), Turns(7, 7, wants=False)
AGAIN = Turns(8, 8, wants=False)


@pytest.mark.parametrize(
    ("given", "wanted", "after", "at_work", "in_selector"),
    [
        pytest.param(7, True, ON, Ran.YES, Ran.YES, id="on a CPU all the time"),
        pytest.param(7, True, READY, Ran.READY, Ran.NO, id="ready to run, without a CPU"),
        pytest.param(7, False, READY, Ran.NO, Ran.NO, id="woken meanwhile, without a CPU"),
        pytest.param(7, False, ASLEEP, Ran.NO, Ran.NO, id="blocked all the time"),
        pytest.param(7, True, ASLEEP, Ran.YES, Ran.NO, id="went to sleep meanwhile"),
        pytest.param(7, False, AGAIN, Ran.YES, Ran.NO, id="has run meanwhile"),
        pytest.param(6, True, ON, Ran.YES, Ran.NO, id="came to a CPU meanwhile"),
        pytest.param(None, True, ON, Ran.YES, Ran.YES, id="no count before"),
        pytest.param(7, True, None, Ran.YES, Ran.YES, id="no count after"),
        pytest.param(7, False, None, Ran.NO, Ran.NO, id="no counts, asleep"),
    ],
)
def test_evidence(
    given: int | None,
    wanted: bool,  # noqa: FBT001  # a parameter of the test
    after: Turns | None,
    at_work: Ran,
    in_selector: Ran,
) -> None:
    """Each case is decided, for a loop that something had and for one that was in its selector."""
    assert has_run(given, after, wanted=wanted, at_work=True) is at_work
    assert has_run(given, after, wanted=wanted, at_work=False) is in_selector
