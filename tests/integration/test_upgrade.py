"""What earlier versions left in services that run goes on working when the package is upgraded under them."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.harness import DEADLINE
from tests.testbed import CHECKOUT, Interpreter

_SHOW = "; import glob, os; print(*map(os.path.realpath, glob.glob('/proc/self/fd/*')))"
_STARTS = {
    "the start-up file": "from threadwatch._autostart import main; main()",
    "the package": "import threadwatch; from threadwatch import publisher; assert publisher.publish()",
    "withdrawing": "from threadwatch.publisher import publish, unpublish; publish(); unpublish(); publish()",
}
"""What 0.1.0 runs: in its .pth file, and in a process that had imported the package and publishes later."""


@pytest.mark.parametrize("start", _STARTS.values(), ids=_STARTS)
def test_earlier_places(interpreter: Interpreter, start: str) -> None:
    """The places that earlier versions import from publish the process, silently."""
    done = subprocess.run(
        [*interpreter.command, "-W", "error", "-c", start + _SHOW],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "THREADWATCH": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "memfd:threadwatch" in done.stdout, done.stdout
