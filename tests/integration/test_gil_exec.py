"""Reads of a GIL that is gone, by a reader that has not learned that yet."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests import testbed
from tests.harness import Target, until
from tests.integration import sampling
from tests.testbed import Interpreter
from threadwatch.names.slots import Gil

SECOND = 1_000_000_000


def become(target: Target, before: str) -> None:
    """Have it exec, and wait until it has."""
    exe = Path(f"/proc/{target.process.pid}/cmdline")
    target.go()
    until(lambda: exe.read_bytes().decode() != before, "it is another program")


def test_another_program_at_the_same_address(interpreter: Interpreter) -> None:
    """From exec on, what stands where the GIL was is no error: neither at once nor later, whatever it is."""
    same_root = [one for one in testbed.interpreters() if one.root == interpreter.root]
    for other in ["/bin/cat", *(one.command[-1] for one in same_root)][-3:]:
        target = Target(interpreter, "becomes.py", other, options=())
        try:
            assert target.next_line() == b"ready"
            _exec(target)
        finally:
            target.close()


def _exec(target: Target) -> None:
    """Sample it before and after it becomes another program."""
    pid = target.process.pid
    cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    with sampling.watching(pid) as found:
        published, directory = found.published, found.target.dir
        watch = found.of(still_tells=lambda gil: published.still_tells(directory, gil))
        assert watch.target.gils
        watch.sample(SECOND)
        become(target, cmdline)
        for second in range(2, 200):
            watch.sample(second * SECOND)
            if second % 20 == 0:
                time.sleep(0.005)
        assert watch.errors == []


def test_another_program_that_ends_before_its_table_is_looked_for() -> None:
    """A program without a GIL that ends right after the read of its memory is no error, either."""
    target = Target(testbed.require(3, 12), "becomes.py", "/usr/bin/tail", "-f", options=())
    pid = target.process.pid
    try:
        assert target.next_line() == b"ready"
        cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        with sampling.watching(pid) as found:
            published, directory = found.published, found.target.dir
            asked = []

            def still_tells(gil: Gil) -> bool:
                """Ask, once the program has ended."""
                target.process.kill()
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                asked.append(published.still_tells(directory, gil))
                return asked[-1]

            watch = found.of(still_tells=still_tells)
            watch.sample(SECOND)
            become(target, cmdline)
            for second in range(2, 5):
                watch.sample(second * SECOND)
            assert asked == [False]
            assert watch.errors == []
    finally:
        target.close()
