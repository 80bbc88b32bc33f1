"""What ``threadwatch top`` costs beside htop: each on a terminal of its own, in the same seconds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence

from benchmarks.estimate import estimate, ratios
from benchmarks.report import Result, Table, against
from benchmarks.running import CHECKOUT, DEADLINE, BenchmarkError, Load, process_clock_ns

WHAT = """\
`threadwatch top` and `htop` run beside each other, each on a terminal of 160 × 50, and show every thread
of the host once a second. 200 processes of 6 threads do not publish; 60 of them are awake, with 3 threads
each that wake 5 times a second and work for 0.2 ms. CPU time of each program by its process's clock, in
windows of 10 s, from the 20th second on; *later* begins when `top` has made 300 polls, which is all the
history that it keeps."""

_ROWS, _COLUMNS = 50, 160
_LOAD = (
    *("--processes", "200", "--threads", "5", "--active", "180", "--active-processes", "60"),
    *("--period", "0.2", "--work", "0.0002"),
)
_FIRST = 20.0
_LATER = 310.0
_WINDOW = 10.0
_GOAL = 1.0
"""Times the CPU of htop."""


def run(*, full: bool) -> Result:
    """Return the CPU of both, young and, in full, old."""
    htop = shutil.which("htop")
    if htop is None:
        raise BenchmarkError("htop is not installed (Debian: apt-get install htop)")
    found: dict[str, dict[str, list[float]]] = {}
    with (
        Load(_LOAD, published=False),
        _terminal([sys.executable, "-m", "threadwatch", "top", "-d", "1"]) as ours,
        _terminal([htop, "--delay=10"]) as theirs,
    ):
        began = time.monotonic()
        pids = {"threadwatch top": ours, "htop": theirs}
        found["young"] = _windows(pids, began + _FIRST, 12 if full else 5)
        if full:
            found["later"] = _windows(pids, began + _LATER, 12)
    rows = []
    for age, used in found.items():
        times = estimate(ratios(used["threadwatch top"], used["htop"]))
        rows += [
            (f"{name}, {age}", f"{estimate(values).text()} %") for name, values in used.items()
        ]
        met = against(times.median, _GOAL)
        rows.append((f"threadwatch top / htop, {age}", times.text() + met))
    table = Table("CPU of a terminal view", ("what", "of a CPU; ratio"), tuple(rows))
    return Result("terminal", WHAT, (table,), found)


def _windows(pids: dict[str, int], start: float, count: int) -> dict[str, list[float]]:
    """Return the CPU use of each process in ``count`` windows from ``start`` on, in per cent of a CPU."""
    used: dict[str, list[float]] = {name: [] for name in pids}
    time.sleep(max(start - time.monotonic(), 0))
    for _ in range(count):
        before = {name: process_clock_ns(pid) for name, pid in pids.items()}
        began = time.monotonic()
        time.sleep(_WINDOW)
        seconds = time.monotonic() - began
        for name, pid in pids.items():
            used[name].append((process_clock_ns(pid) - before[name]) / 1e7 / seconds)
    return used


@contextlib.contextmanager
def _terminal(command: Sequence[str]) -> Iterator[int]:
    """Run a program on a terminal of its own, whose output is read and thrown away; yield its PID."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    reader = threading.Thread(target=_drain, args=(ours,), daemon=True)
    reader.start()
    try:
        yield process.pid
        if process.poll() is not None:
            raise BenchmarkError(f"{command[0]} has ended with {process.returncode}")
    finally:
        process.kill()
        process.wait(DEADLINE)
        reader.join(DEADLINE)
        os.close(ours)


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the program has ended
        while os.read(terminal, 1 << 16):
            pass
