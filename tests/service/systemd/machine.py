"""A real systemd for tests: the testbed tree, booted in a container of its own, with the daemon installed.

What it writes goes to memory, and its network is its own: nothing of it stays, and ports are free.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import DEADLINE, until
from tests.testbed import CHECKOUT, TREE, descendants, require

UNITS = CHECKOUT / "systemd"
DROP_INS = UNITS / "drop-ins"
SOURCE = "/srv/threadwatch"
"""Where the machine has the checkout, as far as docs/systemd.md needs it."""

TARGETS = {"books": "root", "shop": "shop", "mail": "nobody"}
"""Programs that stand for services, and the users that they run as."""

WRITER = "ledger-writer-of-the-books"
"""A thread of each that waits for a lock, with a name that the kernel's comm cuts."""

# One source for all; its name is that of the file. Each thread waits for something else.
_TARGET = f"""
import socket, threading, time
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire, name="{WRITER}", daemon=True).start()
pair = socket.socketpair()
threading.Thread(target=pair[0].recv, args=(1,), name="order-socket", daemon=True).start()
time.sleep(100_000)
"""


THREADS = 3
"""How many threads each of them has."""

CROWD = 1000
"""Threads of the target ``crowd`` that wait for a lock, beside its main thread."""

_CROWD = f"""
import threading, time
threading.stack_size(65536)
lock = threading.Lock()
lock.acquire()
for _ in range({CROWD}):
    threading.Thread(target=lock.acquire, daemon=True).start()
time.sleep(100_000)
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A booted systemd."""

    leader: int
    """The PID of its process 1, as seen from here."""

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a command as root in the machine; its output, standard error included."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", *command],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}\n{self.log()}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Make a file, and the directory that it is in."""
        self.run("sh", "-c", f"mkdir -p {os.path.dirname(path)} && cat > {path}", stdin=text)

    def get(self, url: str, *options: str) -> str:
        """Return the body that a URL answers with; empty if it does not answer with success."""
        return self.run("curl", "--silent", "--fail", *options, url, check=False)

    def start_target(self, name: str) -> None:
        """Start one of :data:`TARGETS`, or ``late`` or ``crowd``, as a unit of that name."""
        self.run(
            *("systemd-run", "--quiet", f"--unit={name}", f"--uid={TARGETS.get(name, 'root')}"),
            *("--setenv=THREADWATCH=1", "/opt/threadwatch/bin/python", f"/opt/targets/{name}.py"),
        )

    def await_rest(self, name: str) -> None:
        """Wait until a target has started its threads, and they sleep: before, they are in other states."""
        pid = Service(self, name).pid()
        command = "cd /proc/$0/task && cat */stat && grep -h ctxt */status"

        def rests() -> bool:
            first, second = (self.run("sh", "-c", command, str(pid), check=False) for _ in (1, 2))
            states = re.findall(r"^\d+ \(.*\) (.) ", first, re.MULTILINE)
            return first == second and states == ["S"] * THREADS

        until(rests, f"{name} rests")

    def host_pid(self, pid: int) -> int:
        """Return the PID out here of a process in there."""
        for outside in descendants(self.leader):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{outside}/status").read_text()
                if re.search(rf"^NSpid:\t\d+\t{pid}$", status, re.MULTILINE):
                    return outside
        raise AssertionError(f"no process {pid} in the machine")

    def log(self) -> str:
        """Return the end of the journal, for a message."""
        command = ("nsenter", "-t", str(self.leader), "-a", "journalctl", "--no-pager", "-n", "60")
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        ).stdout


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    message: str
    priority: int
    """As of syslog(3): 3 an error, 4 a warning, 6 information."""
    sender: str
    """``SYSLOG_IDENTIFIER``: the program, or systemd."""


@dataclass(frozen=True, slots=True)
class Service:
    """One unit of the machine."""

    machine: Machine
    name: str = "threadwatch"
    port: int = 9749

    def show(self, unit_property: str) -> str:
        """Return a property of the unit."""
        return self.machine.run(
            "systemctl", "show", "--value", f"--property={unit_property}", self.name
        )

    def do(self, verb: str, *, check: bool = True) -> str:
        """Return ``systemctl VERB`` the unit."""
        return self.machine.run("systemctl", verb, self.name, check=check)

    def drop_in(self, text: str, name: str = "test") -> None:
        """Add a drop-in to the unit."""
        directory = f"/etc/systemd/system/{self.name}.service.d"
        self.machine.write(f"{directory}/{name}.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def options(self, *options: str) -> None:
        """Have it started with these."""
        self.machine.write(
            f"/etc/default/{self.name}", f'THREADWATCH_OPTIONS="{" ".join(options)}"\n'
        )

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self.do("start")
        assert self.show("ActiveState") == "active", self.machine.log()

    def pid(self) -> int:
        """Return its main process; 0 while there is none."""
        return int(self.show("MainPID"))

    def reset(self) -> None:
        """Stop it, and take away all that is not shipped."""
        self.machine.run("systemctl", "stop", f"{self.name}.socket", self.name, check=False)
        self.machine.run(
            *("rm", "-rf", "/etc/threadwatch.yml", f"/etc/default/{self.name}"),
            *(f"/etc/systemd/system/{self.name}.{kind}.d" for kind in ("service", "socket")),
        )
        self.machine.run("sh", "-c", "systemctl daemon-reload && systemctl reset-failed")

    def metrics(self) -> str:
        """Return what it serves; empty while it does not."""
        return self.machine.get(f"http://127.0.0.1:{self.port}/metrics")

    def value(self, series: str) -> float | None:
        """Return the value of a series of its metrics, written as they are; None: there is none."""
        return value(self.metrics(), series)

    def cursor(self) -> str:
        """Return a place in the journal."""
        said = self.machine.run("journalctl", "-n", "0", "--show-cursor", "--no-pager")
        return said.rpartition("-- cursor: ")[2]

    def journal(self, cursor: str) -> list[Entry]:
        """Return what has been logged of the unit since then, by itself and by systemd."""
        self.machine.run("journalctl", "--sync")  # what has been written by now is in it then
        said = self.machine.run(
            *("journalctl", "--no-pager", "--output=json", "--unit", self.name),
            f"--after-cursor={cursor}",
        )
        entries: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
        return [
            Entry(one["MESSAGE"], int(one["PRIORITY"]), one.get("SYSLOG_IDENTIFIER", ""))
            for one in entries
        ]


def value(metrics: str, series: str) -> float | None:
    """Return the value of a series in an exposition; None: there is none."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else None


def environment(directory: Path, wheel: Path) -> Path:
    """Make what /opt/threadwatch is to hold: the wheel with the daemon's needs, for the tree's Python."""
    python = require(3, 14)
    subprocess.run(
        [*python.command, "-m", "venv", "--without-pip", str(directory)],
        check=True,
        timeout=DEADLINE,
    )
    site_packages = directory / f"lib/python{python}/site-packages"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", f"--python-version={python}", f"--target={site_packages}"),
            f"prometheus-threadwatch[daemon,stack] @ {wheel.as_uri()}",
        ],
        check=True,
        timeout=5 * DEADLINE,
    )
    (site_packages / "bin/py-spy").rename(directory / "bin/py-spy")
    command = directory / "bin/threadwatch"
    command.write_text(
        f"#!/opt/threadwatch/bin/python{python}\n"
        "import sys\nfrom threadwatch.commands.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    return directory


@contextlib.contextmanager
def booted(directory: Path, opt: Path) -> Iterator[Machine]:
    """Yield the machine while it runs, with ``opt`` as /opt/threadwatch, and targets in /opt/targets."""
    targets = directory / "targets"
    targets.mkdir()
    (targets / "target.py").write_text(_TARGET)
    for name in (*TARGETS, "late"):
        (targets / f"{name}.py").symlink_to("target.py")
    (targets / "crowd.py").write_text(_CROWD)
    shutil.copy(CHECKOUT / "tests/targets/hostile_memory.py", targets / "hostile.py")
    shutil.copy(CHECKOUT / "tests/targets/slow_start.py", targets)
    log = directory / "console.log"
    binds = {
        opt: "/opt/threadwatch",
        targets: "/opt/targets",
        UNITS: f"{SOURCE}/systemd",
    }
    with log.open("wb") as console:
        container = subprocess.Popen(
            [
                *("systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--console=pipe"),
                *("--directory", str(TREE), "--volatile=overlay", "--private-network", "--boot"),
                "--bind=/dev/fuse",
                *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

    def is_up() -> bool:
        assert container.poll() is None, log.read_text(errors="replace")
        machine = _machine(container.pid)
        if machine is None:
            return False
        return machine.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}

    try:
        until(is_up, "booted", 5 * DEADLINE)
        machine = _machine(container.pid)
        assert machine is not None
        machine.run("systemctl", "stop", "prometheus")  # for the test that wants it
        for unit in ("threadwatch.service", "threadwatch.socket"):
            machine.run("install", "-m", "644", f"{SOURCE}/systemd/{unit}", "/etc/systemd/system/")
        machine.run("systemctl", "daemon-reload")
        machine.run("useradd", "--system", "shop")
        for name in TARGETS:
            machine.start_target(name)
        for name in TARGETS:
            machine.await_rest(name)
        yield machine
    finally:
        found = _machine(container.pid)
        if found is not None:
            with contextlib.suppress(ProcessLookupError):
                # process 1 of a PID namespace takes all of it along
                os.kill(found.leader, signal.SIGKILL)
        else:
            container.kill()
        container.wait(timeout=DEADLINE)


def _machine(nspawn: int) -> Machine | None:
    """Return the machine that nspawn has started: the process that is number 1 of a PID namespace."""
    for pid in descendants(nspawn):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE):
                return Machine(pid)
    return None
