"""Whether a thread was on a CPU while its loop was read."""

from __future__ import annotations

import pytest

from threadwatch.waits.on_cpu import Turns, has_run

ON, READY, ASLEEP = Turns(7, 6, wants=True), Turns(7, 7, wants=True), Turns(7, 7, wants=False)
AGAIN = Turns(8, 8, wants=False)


@pytest.mark.parametrize(
    ("given", "wanted", "after", "at_work", "in_selector"),
    [
        pytest.param(7, True, ON, True, True, id="on a CPU all the time"),
        pytest.param(7, True, READY, False, False, id="ready to run, without a CPU"),
        pytest.param(7, False, ASLEEP, False, False, id="blocked all the time"),
        pytest.param(7, True, ASLEEP, True, False, id="went to sleep meanwhile"),
        pytest.param(7, False, AGAIN, True, False, id="has run meanwhile"),
        pytest.param(6, True, ON, True, False, id="came to a CPU meanwhile"),
        pytest.param(None, True, ON, True, True, id="no count before"),
        pytest.param(7, True, None, True, True, id="no count after"),
        pytest.param(7, False, None, False, False, id="no counts, asleep"),
    ],
)
def test_evidence(
    given: int | None,
    wanted: bool,  # noqa: FBT001  # a parameter of the test
    after: Turns | None,
    at_work: bool,  # noqa: FBT001
    in_selector: bool,  # noqa: FBT001
) -> None:
    """Each case is decided, for a loop that something had and for one that was in its selector."""
    assert has_run(given, after, wanted=wanted, at_work=True) is at_work
    assert has_run(given, after, wanted=wanted, at_work=False) is in_selector
