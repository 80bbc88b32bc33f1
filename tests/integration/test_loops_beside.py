"""A loop is seen in the thread that runs it, and no function of another thread in its tasks."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.harness import TARGETS, environ
from tests.loops_outside import TRIOS, Outside
from tests.programs import environment, python
from tests.testbed import require

LOOKS = 1000


@pytest.mark.parametrize(
    ("version", "kind"),
    [((3, 9), "asyncio"), ((3, 10), "asyncio"), ((3, 12), "asyncio"), ((3, 10), "trio")],
    ids=str,
)
def test_threads_beside_a_loop(version: tuple[int, int], kind: str) -> None:
    """Threads whose frames lie where those of the loop's thread have been run no loop, at any look."""
    interpreter = require(*version)
    command = interpreter.command
    if kind == "trio":
        command = python(interpreter, environment(interpreter, dict(TRIOS)[str(interpreter)]))
    with subprocess.Popen(
        [*command, str(TARGETS / "beside.py"), kind],
        env=environ("plain", {}),
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            outside = Outside(pid)
            outside.find_all(1)
            functions = set()
            for _ in range(LOOKS):
                assert outside.find() <= {pid}
                samples = outside.sample(time.monotonic_ns(), functions=True)
                assert {sample.tid for sample in samples} <= {pid}
                functions |= {sample.function for sample in samples}
            assert {"beside.work"} <= functions <= {"beside.work", None}
            outside.close()
        finally:
            process.kill()
