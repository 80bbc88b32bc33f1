"""Runs py-spy, which reads the Python stacks of a process from outside, and stops it for some milliseconds.

py-spy knows the frames of each CPython, with lines, and is well kept; reading names needs none of that.
Docs: https://github.com/benfred/py-spy
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Final

from threadwatch.errors import Malformed, Unusable
from threadwatch.stacks.dump import Stack, parse_dump

HOW_TO_INSTALL: Final = "pip install py-spy, or '.[stack]' in a checkout of threadwatch"
_SECONDS: Final = 20
"""It takes 0.01 s for a small process."""


def stacks_of(pid: int, *, nonblocking: bool = False) -> tuple[Stack, ...]:
    """Return the Python stack of each thread of a process.

    ``nonblocking``: read while it runs; its stacks can then be torn.

    :raises Unusable: there is no py-spy, or it cannot read this process: one line that says why.
    """
    program = find_py_spy()
    if program is None:
        raise Unusable(f"py-spy is not installed: {HOW_TO_INSTALL}")
    command = [program, "dump", "--json", "--pid", str(pid)]
    if nonblocking:
        command.append("--nonblocking")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unusable(f"py-spy has not read process {pid} within {_SECONDS} s") from None
    except OSError as error:
        raise Unusable(f"{program}: {error.strerror}") from error
    if done.returncode:
        raise Unusable(_why(pid, done.stderr.decode("utf-8", "replace")))
    try:
        return parse_dump(done.stdout)
    except Malformed as error:
        raise Unusable(f"{program} prints what is not understood: {error.detail}") from None


def find_py_spy() -> str | None:
    """Return the path of py-spy: beside our Python, as pip installs it, or on the PATH."""
    ours = os.path.dirname(sys.executable)
    return shutil.which("py-spy", path=ours) or shutil.which("py-spy")


def _why(pid: int, said: str) -> str:
    """Return in one line why py-spy could not read a process."""
    first = said.strip().partition("\n")[0]
    if first.startswith("Permission Denied"):
        return f"process {pid} may not be read: run as root, or with CAP_SYS_PTRACE"
    causes = dict.fromkeys(
        re.findall(r"^ +\d+: (.+)$", said.partition("Stack backtrace")[0], re.MULTILINE)
    )
    words = ": ".join([first.removeprefix("Error: ") or "no reason given", *causes])
    return f"py-spy cannot read process {pid}: {words}"
