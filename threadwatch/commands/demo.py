"""``threadwatch demo`` starts an application with every kind of thread, and watches it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from threadwatch import publish
from threadwatch.commands.run import environment
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.errors import Unusable
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.view import View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.own import raise_file_limit
from threadwatch.web.app import App
from threadwatch.web.health import Health
from threadwatch.web.listen import parse_listen_address
from threadwatch.web.server import WebServer
from threadwatch.words.choose import choose
from threadwatch.words.ps_text import report
from threadwatch.words.style import Style

_APPLICATION = Path(__file__).with_name("demo_app.py")
_LOOK_AFTER_POLLS = 3
"""After this many polls CPU % covers a whole second."""
_LOOK_AT_LAST = 30
"""After this many polls the mapping is shown in any case."""
_PROCESSES = 4
"""The application, its two workers, and what cleans up behind them (multiprocessing's resource tracker)."""
_LAST_THREAD = "http_0"
"""The application starts its pool last."""


def demo(listen: str | None, default: str, seconds: float | None) -> int:
    """Start the application, show the mapping, serve its metrics until Ctrl-C, and return the exit code.

    :raises Unusable: nothing can be watched or served here, or the application ended by itself.
    """
    publish()  # the demo is a Python process like those that it shows
    exporter = Exporter()
    health = Health()
    server = _server(exporter, health, listen, default)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    application = subprocess.Popen(
        [sys.executable, str(_APPLICATION), str(os.getpid())],
        env=environment(os.environ),
        start_new_session=True,
    )
    raise_file_limit()
    poller = Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _: None)
    end = time.monotonic() + seconds if seconds is not None else None
    shown = False
    try:
        print(
            f"Started a demo application: PID {application.pid}. Looking at its threads …",
            flush=True,
        )
        while not stop.is_set() and (end is None or time.monotonic() < end):
            if application.poll() is not None:
                raise Unusable(f"demo: the application ended with status {application.returncode}")
            view = poller.poll()
            family = _family(view, application.pid)
            exporter.publish(family)
            health.polled()
            if not shown and _can_be_shown(family):
                shown = True
                _show(view, application.pid, server)
            poller.sample_for(1, stop.wait)
    finally:
        os.killpg(application.pid, signal.SIGKILL)
        application.wait()
        server.stop()
        poller.close()
    return 0


def _server(exporter: Exporter, health: Health, listen: str | None, default: str) -> WebServer:
    app = App(exporter, health, host=socket.gethostname())
    try:
        address = parse_listen_address(listen or default)
    except ValueError as error:
        raise Unusable(str(error)) from None
    server = WebServer([address], app)
    try:
        server.start()
    except Unusable:
        if listen is not None:
            raise
        server = WebServer([replace(address, port=0)], app)
        server.start()
    return server


def _family(view: View, pid: int) -> View:
    """Return the view of the application and its workers, without the rest of the host."""
    members = (
        choose(view, [str(pid)], "demo") if any(p.key.pid == pid for p in view.processes) else ()
    )
    names = {process.group for process in members}
    return view._replace(
        processes=members, groups=tuple(group for group in view.groups if group.name in names)
    )


def _can_be_shown(family: View) -> bool:
    """Return whether the application is complete, which takes long on a busy machine, or has had its time."""
    if family.sequence < _LOOK_AFTER_POLLS:
        return False
    processes = family.processes
    names = {thread.name for process in processes for thread in process.threads}
    is_complete = (
        len(processes) >= _PROCESSES
        and all(process.published for process in processes)
        and _LAST_THREAD in names
    )
    return is_complete or family.sequence >= _LOOK_AT_LAST


def _show(view: View, pid: int, server: WebServer) -> None:
    style = Style.of_stdout()
    print()
    for line in report(
        choose(view, [str(pid)], "demo"),
        columns=style.columns,
        color=style.color,
    ):
        print(line)
    print()
    for line in _ways(str(server.addresses[0])):
        print(line)
    sys.stdout.flush()


def _ways(address: str) -> Iterator[str]:
    """Yield the commands and addresses to look at next, each ready to be pasted."""
    query = "sum by (thread) (rate(threadwatch_thread_cpu_seconds_total[1m]))"
    yield "Look at it while this runs; Ctrl-C stops it:"
    yield f"  in the browser   http://{address}/"
    yield f"  in a terminal    {_own_command()} top demo_app"
    yield f"  the metrics      http://{address}/metrics"
    yield f"  in Prometheus    {query}"
    yield f"                   once it scrapes {address} (README, “Quick start”)"


def _own_command() -> str:
    """Return the command by which a shell starts this threadwatch."""
    own = sys.argv[0]
    if Path(own).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m threadwatch"
    found = shutil.which("threadwatch")
    return "threadwatch" if found and Path(own).samefile(found) else shlex.quote(own)
