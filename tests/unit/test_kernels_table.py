"""The table of ``./dev kernels``: what did not hold, or was not answered, cannot be overlooked."""

from __future__ import annotations

import pytest

from tests.kernels.table import Outcome, from_line, has_failed, table, to_line

HELD = Outcome("names", "held", seconds=1.5)
CHECKS = ("names", "Yama")


def test_outcomes_survive_their_lines() -> None:
    """An outcome is the same behind the port of the machine, with several lines of detail, too."""
    outcome = Outcome("names", "failed", "Traceback:\n  assert 'ü'", 3.0)
    assert "\n" not in to_line(outcome)
    assert from_line(to_line(outcome)) == outcome


@pytest.mark.parametrize("line", ["", "[1]", "{}", '{"check": "names", "other": 1}', "half a li"])
def test_other_lines_are_none(line: str) -> None:
    """A line that is no outcome is an error of one kind."""
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


@pytest.mark.parametrize(
    ("yama", "failed"),
    [
        (Outcome("Yama", "held"), False),
        (Outcome("Yama", "cannot run", "not built in"), False),
        (Outcome("Yama", "failed", "names were seen"), True),
        (None, True),
    ],
)
def test_what_is_not_answered_has_failed(yama: Outcome | None, *, failed: bool) -> None:
    """A check that did not hold, or said nothing, fails the run; one that cannot run does not."""
    column = {"names": HELD} | ({"Yama": yama} if yama else {})
    assert has_failed(CHECKS, {"6.1": {**column}}) == failed


def test_only_what_held_is_called_so() -> None:
    """Each cell says what came of it; below the table stands why, for all that did not hold."""
    columns = {
        "6.1": {"names": HELD, "Yama": Outcome("Yama", "failed", "names were seen")},
        "6.12": {"names": HELD, "Yama": Outcome("Yama", "cannot run", "not built in")},
        "5.10": {"names": HELD},
    }
    assert list(table(CHECKS, columns)) == [
        "       6.1           6.12  5.10",
        "names  held          held  held",
        "Yama   DID NOT HOLD  –     NO ANSWER",
        "6.1: Yama: DID NOT HOLD: names were seen",
        "6.12: Yama: –: not built in",
        "5.10: Yama: the machine said nothing of it",
    ]
