"""Other programs that look at the threads of a host: each can do one cycle, and says what it cost.

A cycle is what the program does to be up to date once: an exporter's scrape, a run of ``top``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.running import BenchmarkError, Server, cpu_of

SCRAPE = {"Accept": "text/plain;version=0.0.4", "Accept_Encoding": "gzip"}
"""What all exporters are asked for, threadwatch too."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that is there and ready."""

    name: str
    version: str
    cycle: Callable[[], float]
    """Do one cycle; the CPU seconds that it took."""


@contextlib.contextmanager
def all_peers(*, exporter_alone: bool = False) -> Iterator[tuple[list[Peer], list[str]]]:
    """Yield every peer that is installed, running where it has to, and a line for each that is not.

    ``exporter_alone``: only process-exporter.
    """
    peers: list[Peer] = []
    missing: list[str] = []
    others = () if exporter_alone else (_node_exporter, _psutil, _top, _ps)
    with contextlib.ExitStack() as stack:
        for start in (_process_exporter, *others):
            try:
                peers.append(start(stack))
            except _MissingError as error:
                missing.append(str(error))
        yield peers, missing


class _MissingError(Exception):
    """A peer is not installed; says which, and how to get it."""


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed (Debian: apt-get install {package})"
        raise _MissingError(message)
    return path


def _version(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _process_exporter(stack: contextlib.ExitStack) -> Peer:
    program = _program("prometheus-process-exporter", "prometheus-process-exporter")
    temporary = tempfile.NamedTemporaryFile("w", suffix=".yml")  # noqa: SIM115  # for the stack
    config = stack.enter_context(temporary)
    config.write("process_names:\n- name: '{{.Comm}}'\n  cmdline: ['.+']\n")
    config.flush()
    port = _free_port()
    options = [f"-web.listen-address=127.0.0.1:{port}", f"-config.path={config.name}", "-threads"]
    server = stack.enter_context(Server([program, *options], port=port))
    return Peer(
        "process-exporter -threads",
        _version(program, "-version"),
        lambda: server.cpu_of_get("/metrics", **SCRAPE)[0],
    )


def _node_exporter(stack: contextlib.ExitStack) -> Peer:
    program = _program("prometheus-node-exporter", "prometheus-node-exporter")
    port = _free_port()
    options = ["--collector.disable-defaults", "--collector.processes"]
    listen = f"--web.listen-address=127.0.0.1:{port}"
    server = stack.enter_context(Server([program, *options, listen], port=port))
    return Peer(
        "node_exporter, processes collector alone",
        _version(program, "--version"),
        lambda: server.cpu_of_get("/metrics", **SCRAPE)[0],
    )


_PSUTIL = """
import json, psutil, sys, time
for _ in sys.stdin:
    began = time.process_time()
    for process in psutil.process_iter():
        try:
            process.threads()
        except psutil.Error:
            pass
    print(json.dumps(time.process_time() - began), flush=True)
"""


def _psutil(stack: contextlib.ExitStack) -> Peer:
    if importlib.util.find_spec("psutil") is None:
        raise _MissingError("psutil is not installed (pip install psutil)")
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", _PSUTIL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )

    def cycle() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(file=process.stdin, flush=True)
        said = process.stdout.readline()
        if not said:
            raise BenchmarkError("psutil failed")
        return float(json.loads(said))

    return Peer("psutil, threads() of all processes", version("psutil"), cycle)


def _top(_stack: contextlib.ExitStack) -> Peer:
    program = _program("top", "procps")
    command = [program, "-H", "-b", "-n1"]
    return Peer("top -H -b -n1", _version(program, "-V"), lambda: cpu_of(command))


def _ps(_stack: contextlib.ExitStack) -> Peer:
    program = _program("ps", "procps")
    return Peer("ps -eL", _version(program, "--version"), lambda: cpu_of([program, "-eL"]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
