"""Of a process that has ended no file stays open, though no garbage is collected meanwhile."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.harness import environ, until
from threadwatch.config.parse import parse_config
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

PROGRAM = """
import os, sys, threading, time
number = int(sys.argv[1])
threading.Thread(target=time.sleep, args=(0.3,)).start()
time.sleep(0.05 * number)  # its life: no test waits by it
if number % 3 == 0:
    os.execv("/bin/sleep", ["sleep", "0.2"])
"""
"""Lives for 0.3 to 2 s, or becomes another program."""
COUNT = 30


@pytest.fixture
def without_collection() -> Iterator[None]:
    """Collect no garbage: what is in a cycle of references stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def opened(pids: set[str]) -> list[str]:
    """Return the files of these processes that this one has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the directory that was listed
    return [link for link in links if link.startswith("/proc/") and link.split("/")[2] in pids]


@pytest.mark.usefixtures("without_collection")
def test_no_file_stays_open() -> None:
    """Processes that end, or become other programs, while they are looked at are let go of."""
    config = parse_config(b"{poll_interval: 1s, waits: {rate: 50}}", "test")
    poller = Poller(ProcFS(), config, report=lambda _: None)
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(COUNT):
            programs.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(number)], env=environ("plain", {})
                )
            )
            poller.poll()
            poller.sample_for(0.03)

        def ended() -> bool:
            poller.poll()
            poller.sample_for(0.06)
            return None not in [program.poll() for program in programs]

        until(ended, "all have ended")
        poller.poll()
        poller.poll()
        assert opened({str(program.pid) for program in programs}) == []
    finally:
        for program in programs:
            program.kill()
            program.wait()
        poller.close()
