"""The daemon on a machine so short of CPU time that its first poll takes very long; or hangs in the middle.

Started as ``slow_start.py SECONDS threadwatch-arguments…``; 0 seconds: it hangs. The one thing that is not as
it is in the daemon: to open a process takes long, and uses CPU time meanwhile.
"""

from __future__ import annotations

import sys
import time

from threadwatch.commands.main import main
from threadwatch.procfs import ProcessDir, ProcFS


def slow_down(seconds: float) -> None:
    """Let the look at all of the present processes take so long."""
    open_process = ProcFS.open_process
    pids = list(ProcFS().pids())
    opened: set[int] = set()

    def slowly(procfs: ProcFS, pid: int) -> ProcessDir:
        if pid in pids and pid not in opened:
            opened.add(pid)
            end = time.monotonic() + seconds / len(pids)
            while time.monotonic() < end or (not seconds and len(opened) > len(pids) // 2):
                pass
        return open_process(procfs, pid)

    ProcFS.open_process = slowly  # type: ignore[method-assign]  # that is the point of it


if __name__ == "__main__":
    slow_down(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
