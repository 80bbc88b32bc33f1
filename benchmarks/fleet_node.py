"""A host of a fleet: applications with named threads, and a daemon that watches them.

Run as a program, by the daemon's Python, as the first process of a PID namespace: the host's ``/proc`` shows
these processes alone. The first argument is the number of applications, the second that of thread names in
each; the rest are the daemon's. The applications are forked before there are threads, so that they share
memory. Each publishes, and has its name from the kernel (comm): ``shop-0``, ``shop-1`` …
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import threadwatch

_REST = (10.0, 50.0)
"""Seconds between two moments in which a thread works: a fleet of them fits on one machine."""
_WORK = 0.0002


def main(applications: int, names: int, arguments: list[str]) -> int:
    """Start everything, and return the daemon's exit code."""
    threadwatch.publish()
    ready, started = os.pipe()
    for number in range(applications):
        if not os.fork():
            _be_application(number, names)
            os.write(started, b".")
            threading.Event().wait()
    for _ in range(applications):
        os.read(ready, 1)
    daemon = [sys.executable, "-m", "threadwatch", "serve", *arguments]
    return subprocess.run(daemon, check=False).returncode


def _be_application(number: int, names: int) -> None:
    Path("/proc/self/comm").write_text(f"shop-{number}", encoding="ascii")
    for name in range(names):
        wait = (time.sleep, threading.Event().wait)[name % 2]
        thread = threading.Thread(
            target=_work, args=(wait,), name=f"role-{name:02d}_0", daemon=True
        )
        thread.start()


def _work(wait: Callable[[float], object]) -> None:
    while True:
        wait(random.uniform(*_REST))
        end = time.thread_time() + _WORK
        while time.thread_time() < end:
            pass


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
