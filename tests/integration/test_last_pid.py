"""Where new PIDs are learned from: the kernel's own loadavg, or the list where another file is in its place.

Containers have such: lxcfs puts its own over ``/proc/loadavg`` (LXC, LXD, Incus, Proxmox), and gVisor's
kernel has a constant in the last field. Each is mounted in a PID namespace, as those do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import DEADLINE
from tests.testbed import CHECKOUT

PROGRAM = """
import subprocess, sys
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

procfs = ProcFS()
print("kernel's" if procfs.last_pid() is not None else "list", flush=True)
poller = Poller(procfs, DEFAULT_CONFIG, report=print)
poller.poll()
for _ in range(5):
    code = "print(flush=True); input()"
    job = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)
    job.stdout.readline()
    seen = [process.key.pid for process in poller.poll().processes]
    print(job.pid in seen, flush=True)
    job.communicate(b"\\n")
poller.close()
"""


LXCFS = """
place=$0/lxcfs options=$1; shift
mkdir "$place" && mount -t tmpfs none /run  # it keeps files of its own there
lxcfs $options -f -p "$place.pid" "$place" > "$place.log" 2>&1 & lxcfs=$!
until [ -e "$place/proc/loadavg" ]; do kill -0 $lxcfs || exit 1; sleep 0.05; done
"$@"
status=$?
kill $lxcfs
exit $status
"""
"""Runs a command beside a real lxcfs, in its mount namespace."""


def _look(loadavg: str | None, *prefix: str) -> list[str]:
    """Return what the program says in a PID namespace with this file as ``/proc/loadavg``."""
    mount = 'mount --bind "$0" /proc/loadavg && ' if loadavg else ""
    done = subprocess.run(
        [
            *(*prefix, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", f'{mount}exec "$@"', loadavg or "sh", sys.executable, "-c", PROGRAM),
        ],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_kernels_own_is_believed() -> None:
    """In a PID namespace with nothing in between, the last PID is the kernel's, and jobs are seen at once."""
    assert _look(None) == ["kernel's", *["True"] * 5]


@pytest.mark.parametrize("option", ["", "--enable-loadavg"], ids=["plain", "loadavg"])
def test_lxcfs(option: str, tmp_path: Path) -> None:
    """With the host's numbers over it, each job is seen at the next poll all the same."""
    prefix = ("unshare", "--mount", "sh", "-c", LXCFS, str(tmp_path), option)
    loadavg = str(tmp_path / "lxcfs/proc/loadavg")
    assert _look(loadavg, *prefix) == ["list", *["True"] * 5]


def test_a_number_that_stands_still(tmp_path: Path) -> None:
    """Neither a file that a user wrote is believed, nor one of procfs that does not follow our threads."""
    written = tmp_path / "loadavg"
    written.write_text("0.00 0.00 0.00 0/0 0\n")
    # seven numbers, of which the fifth is 0 for ever: as gVisor's loadavg, on the procfs itself
    still = "/proc/sys/fs/inode-state"
    assert Path(still).read_text().split()[4] == "0"
    for place in (str(written), still):
        assert _look(place) == ["list", *["True"] * 5]
