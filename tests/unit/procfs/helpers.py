"""Real processes to be read, and readers that run as another user."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from tests.testbed import CHECKOUT

DEADLINE_S = 60.0

# For code that needs namespaces: Python has no unshare() and mount() of its own (3.11).
NAMESPACES = """
import ctypes, os, tempfile
_libc = ctypes.CDLL(None, use_errno=True)
NEWNS, REC_PRIVATE, BIND, DETACH = 0x20000, 0x44000, 0x1000, 2  # <linux/sched.h>, <linux/mount.h>
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def own_mounts():
    check(_libc.unshare(NEWNS))
    check(_libc.mount(None, b"/", None, REC_PRIVATE, None))
def mount(source, target, kind=None, flags=0):
    check(_libc.mount(source.encode(), target.encode(), kind, flags, None))
def detach(target):
    check(_libc.umount2(target.encode(), DETACH))
    while _libc.umount2(target.encode(), DETACH) == 0:  # what that one was mounted over
        pass
"""

# For code that has to run as a user without any rights. A change of uid makes a process one that
# others of the same uid cannot look into; PR_SET_DUMPABLE undoes that.
NOBODY = """
import ctypes, os
def become_nobody():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""


@dataclass
class Target:
    """A child that runs some code and then waits for its input to end."""

    popen: subprocess.Popen[bytes]
    words: list[str]
    """The one line that it printed: words."""

    @property
    def pid(self) -> int:
        """Return its PID."""
        return self.popen.pid

    def end(self) -> None:
        """Kill it and reap it: afterwards its PID is free."""
        self.popen.kill()
        self.popen.wait()


@contextmanager
def started(code: str) -> Iterator[Target]:
    """Yield a process that has printed what the code left in ``words``; it ends with the context."""
    script = f"import os, sys\nwords = []\n{code}\nprint(*words, flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        (sys.executable, "-I", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        try:
            assert popen.stdout is not None
            yield Target(popen, _read_line(popen.stdout).decode().split())
        finally:
            popen.kill()


def read_elsewhere(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    """Return what some code prints that runs in a process of its own, with threadwatch.procfs imported."""
    script = (
        "import os, sys\nfrom threadwatch.errors import *\nfrom threadwatch.procfs import *\n"
        "from threadwatch.names.slots import *\n"
    )
    done = subprocess.run(
        (*prefix, sys.executable, "-c", script + code, *map(str, arguments)),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _read_line(stream: IO[bytes]) -> bytes:
    line = b""
    until = time.monotonic() + DEADLINE_S
    while not line.endswith(b"\n"):
        left = max(0.0, until - time.monotonic())
        assert select.select([stream], [], [], left)[0], "the child says nothing"
        byte = os.read(stream.fileno(), 1)
        assert byte, f"the child ended after {line!r}"
        line += byte
    return line
