"""promtool on the rules that we ship, versions 2 and 3: they are valid, and do what the scenarios say."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from tests import testbed
from tests.harness import DEADLINE

RULES = testbed.CHECKOUT / "config" / "prometheus" / "rules" / "threadwatch.yml"
SCENARIOS = sorted((testbed.CHECKOUT / "tests" / "rules").glob("*.yml"))
PROMTOOLS = {
    "on-path": ("promtool",),
    "testbed": ("chroot", str(testbed.TREE), "/usr/bin/promtool"),
}

both = pytest.mark.parametrize("promtool", PROMTOOLS.values(), ids=PROMTOOLS)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=5 * DEADLINE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@both
def test_rules_are_valid(promtool: Sequence[str]) -> None:
    """promtool has nothing against them: syntax, names, duplicates."""
    _run(*promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@both
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(promtool: Sequence[str], scenario: object) -> None:
    """Over hours of made-up series, each alert fires where it should, with its text, and nowhere else."""
    _run(*promtool, "test", "rules", str(scenario))
