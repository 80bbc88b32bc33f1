"""Which checks ``./dev kernels --only`` runs."""

from __future__ import annotations

import pytest

from tests.kernels.guest.checks import CHECKS, chosen

NAMES = [check.name for check in CHECKS]
BASIS = NAMES[:4]
"""They install the service, and start what is looked at."""


def test_without_words_all_are_chosen() -> None:
    """A run that does not choose leaves none out."""
    assert chosen("") == list(CHECKS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hidepid", ["hidepid=1", "hidepid=2", "hidepid=4"]),
        ("CPU time", ["the GIL", "CPU time, by the threads' own clocks"]),
        ("reboot", ["a user's own unit", "docs/systemd.md: socket", "after a reboot"]),
        ("from memory", []),
    ],
)
def test_chosen_are_those_with_the_words_behind_what_they_need(
    words: str, expected: list[str]
) -> None:
    """Words choose the checks that have them in their names, behind what these need."""
    assert [check.name for check in chosen(words)] == [*BASIS, *expected]


def test_words_of_no_check_choose_none() -> None:
    """A typing error does not run what was not asked for."""
    assert chosen("Jama") == []


def test_what_a_check_needs_comes_before_it() -> None:
    """Each name that a check needs is that of an earlier check."""
    for index, check in enumerate(CHECKS):
        assert set(check.needs) <= set(NAMES[:index]), check.name
