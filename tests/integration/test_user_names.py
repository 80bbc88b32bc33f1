"""A name service that hangs, of the C library's own kind, and what a poll makes of users meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.harness import DEADLINE
from tests.testbed import CHECKOUT

PROGRAM = """
import os, pathlib, subprocess, sys, threading, time
import threadwatch.discovery.user_names
from tests.harness import DEADLINE
from tests.stopwatch import Stopwatch
from threadwatch.config.parse import parse_config
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

threadwatch.discovery.user_names._NONE_FOR_S = threadwatch.discovery.user_names._REFRESH_S = 0.5
down = pathlib.Path(os.environ["SLOW_DOWN"])
config = parse_config(b"groups: [{name: shop, match: {user: ^shopuser$}}]", "test")

def start(number):
    command = [sys.argv[1], "-c", "while True: import time; time.sleep(0.05)"]
    return subprocess.Popen(command, user=4242 + number)

def groups():
    watch = Stopwatch()
    view = poller.poll()
    assert watch.seconds() < 5, "it has waited"
    pids = [process.pid for process in programs]
    return [process.group for pid in pids for process in view.processes if process.key.pid == pid]

def become(expected, reload=False):
    end = time.monotonic() + DEADLINE
    while (now := groups()) != expected:
        assert time.monotonic() < end, now
        time.sleep(0.05)

programs = [start(0)]
poller = Poller(ProcFS(), config, report=print)
down.touch()
(first,) = groups()
assert first != "shop"
programs.append(start(1))
assert "shop" not in groups()
asking = [thread for thread in threading.enumerate() if thread.name == "user-names"]
assert len(asking) == 1, asking
down.unlink()
become(["shop", "shop"])      # by itself
down.touch()
poller.reload(config)
assert groups() == ["shop", "shop"]  # what was known counts until there is an answer
programs.append(start(2))
assert groups()[:2] == ["shop", "shop"]
threadwatch.discovery.user_names._NONE_FOR_S = threadwatch.discovery.user_names._REFRESH_S = 1000
down.unlink()
poller.reload(config)
become(["shop"] * 3)          # and by a reload
for program in programs:
    program.kill()
"""


def test_a_name_service_that_hangs(tmp_path: Path) -> None:
    """No poll waits for it, and a process gets its group when it is back: by itself, or by a reload."""
    (tmp_path / "program.py").write_text(PROGRAM)
    module = tmp_path / "libnss_slow.so.2"
    source = CHECKOUT / "tests" / "targets" / "nss_slow.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", module, source], check=True, timeout=DEADLINE)
    program = f"{sys.executable} {tmp_path}/program.py /usr/bin/python3"
    (tmp_path / "nsswitch.conf").write_text("passwd: files slow\ngroup: files\n")
    done = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"),
            f"mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf && exec {program}",
        ],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "LD_LIBRARY_PATH": str(tmp_path),
            "SLOW_DOWN": str(tmp_path / "down"),
        },
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
