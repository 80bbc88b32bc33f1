"""A real daemon that watches the demo and two small applications, to try and to draw dashboards with."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.harness import threadwatch, until
from tests.serving import Serving, serving
from tests.testbed import CHECKOUT

RULES = CHECKOUT / "config" / "prometheus" / "rules" / "threadwatch.yml"
_SHIPPED = CHECKOUT / "config" / "prometheus" / "prometheus.yml"
_DEMO = CHECKOUT / "threadwatch/commands/demo_app.py"
_CAPLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""How the daemon runs, and what it shall see: it is denied the tests' own process, which may do more."""

_CONFIGURATION = """
poll_interval: 500ms
thread_info: true
collect: [context_switches, io]
groups:
  - {name: plain, match: {cmdline: plain.py}, threads: {cap: 1, fold: false}, names: {from_memory: false}}
  - {name: pair, match: {cmdline: pair.py}, threads: {per: process}}
"""
_PLAIN = """
import sys, threading, time
for number in range(3):
    threading.Thread(target=time.sleep, args=(600,), name=f"t{number}", daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
"""Does not publish, and has more threads than its group may have names."""

_PAIR = """
import subprocess, sys, threading, time
child = len(sys.argv) == 1 and subprocess.Popen([sys.executable, __file__, "idle"], stdin=subprocess.PIPE)
def compute():
    while True:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            sum(range(100))
        time.sleep(0.02)
if child:
    threading.Thread(target=compute, name="compute", daemon=True).start()
    print("ready", flush=True)
sys.stdin.read()
"""
"""Two processes, of which one computes half of the time; a series for each."""


@contextlib.contextmanager
def _running(*command: str, ready: bool = False) -> Iterator[None]:
    """Run a program meanwhile, with what it starts; if so wished, from when it says that it is ready."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            if ready:
                assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def watched(place: Path) -> Iterator[Serving]:
    """Run the daemon, from when the demo publishes; its files are in ``place``."""
    with contextlib.ExitStack() as stack:
        (place / "plain.py").write_text(_PLAIN)
        (place / "pair.py").write_text(_PAIR)
        handed_over = f"publish_socket: {place / 'publish.socket'}\n"
        (place / "threadwatch.yml").write_text(_CONFIGURATION + handed_over)
        demo = threadwatch("run", "--", sys.executable, str(_DEMO))
        stack.enter_context(_running(*_CAPLESS, *demo))
        plain = (sys.executable, str(place / "plain.py"))
        stack.enter_context(_running(*_CAPLESS, *plain, ready=True))
        pair = threadwatch("run", "--", sys.executable, str(place / "pair.py"))
        stack.enter_context(_running(*_CAPLESS, *pair, ready=True))
        daemon = stack.enter_context(
            serving(place, f"--config.file={place / 'threadwatch.yml'}", prefix=_CAPLESS)
        )
        until(
            lambda: daemon.metric('threadwatch_group_published_processes{group="demo_app"}'),
            "the demo application publishes",
        )
        yield daemon


def scraping(daemon: Serving) -> str:
    """Return the configuration of Prometheus that we ship, in more of a hurry, and with our rules."""
    address = daemon.url.removeprefix("http://")
    changed = (
        _SHIPPED.read_text()
        .replace("127.0.0.1:9749", address)
        .replace("_interval: 15s", "_interval: 1s")
        .replace("rules/*.yml", str(RULES))
    )
    assert address in changed
    assert str(RULES) in changed
    return changed
