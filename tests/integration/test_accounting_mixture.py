"""The property that all accounting is for, on every interpreter, for as long as a run of tests can spare."""

from __future__ import annotations

import random

from tests import mixture


def test_any_mixture_of_threads_adds_up() -> None:
    """Whatever they do, their sum is the kernel's CPU time, and all that have started live or have ended."""
    for line in mixture.run(random.randrange(1 << 30), seconds=15.0):
        print(line)
