"""The soak itself, as short as it can be: that it runs, and that it judges what it has seen."""

from __future__ import annotations

import subprocess
import sys

from tests.harness import DEADLINE
from tests.testbed import CHECKOUT


def test_a_short_soak() -> None:
    """A few seconds of hardship end with a report and no violation."""
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
            *(sys.executable, "-m", "tests.soak", "0.15"),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=5 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("polls", "witness steady", "reloads, bad", "slow clients"):
        assert expected in done.stdout
