"""systemd's unit: judged by systemd-analyze, and run by a real systemd, booted in the testbed tree."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.prometheus import DEADLINE, until
from tests.testbed import CHECKOUT, TREE, descendants, require

UNIT = CHECKOUT / "systemd/threadwatch.service"
EXPOSURE = 2.1
"""What ``systemd-analyze security`` may say at most, of 10. Debian's exporters score 9.2."""

CAPABILITIES = (1 << 2) | (1 << 19)
"""CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE, in the bits of /proc/PID/status (linux/capability.h)."""

# A service of another user, with a thread that has a name in Python only.
_SERVICE = """
import threading
threading.Thread(target=threading.Event().wait, name="ledger-writer").start()
"""


@dataclass(frozen=True)
class Machine:
    """A booted systemd."""

    leader: int
    """The PID of its process 1, as seen from here."""

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command as root in the machine; its output."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}\n{self._journal()}"
        return done.stdout.strip()

    def show(self, unit_property: str) -> str:
        """A property of the unit."""
        return self.run(
            "systemctl", "show", "--value", f"--property={unit_property}", "threadwatch"
        )

    def metrics(self) -> str:
        """What the daemon serves; empty while it does not."""
        state = self.show("ActiveState")
        assert state in {"active", "activating", "reloading"}, f"{state}: {self._journal()}"
        assert self.show("NRestarts") == "0", self._journal()
        return self.run("curl", "--silent", "http://127.0.0.1:9749/metrics", check=False)

    def _journal(self) -> str:
        command = (
            "nsenter",
            "-t",
            str(self.leader),
            "-a",
            "journalctl",
            "-u",
            "threadwatch",
            "-n",
            "50",
        )
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        ).stdout


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What /opt/threadwatch is to hold: the package with the daemon's needs, for the tree's Python."""
    python = require(3, 14)
    directory = tmp_path_factory.mktemp("opt") / "threadwatch"
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
            f"prometheus-threadwatch[daemon] @ {wheel.as_uri()}",
        ],
        check=True,
        timeout=100,
    )
    command = directory / "bin/threadwatch"
    command.write_text(
        f"#!/opt/threadwatch/bin/python{python}\n"
        "import sys\nfrom threadwatch.cli import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def machine(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The testbed tree, booted with the unit in it; what it writes goes to memory, its network is its own."""
    directory = tmp_path_factory.mktemp("machine")
    (directory / "service.py").write_text(_SERVICE)
    log = directory / "console.log"
    binds = {
        environment: "/opt/threadwatch",
        UNIT: "/etc/systemd/system/threadwatch.service",
        directory / "service.py": "/opt/service.py",
    }
    with log.open("wb") as console:
        container = subprocess.Popen(
            [
                *("systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--console=pipe"),
                *("--directory", str(TREE), "--volatile=overlay", "--private-network", "--boot"),
                *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

    def booted() -> bool:
        assert container.poll() is None, log.read_text(errors="replace")
        machine = _machine(container.pid)
        if machine is None:
            return False
        return machine.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}

    try:
        until(booted, "booted")
        machine = _machine(container.pid)
        assert machine is not None
        yield machine
    finally:
        found = _machine(container.pid)
        if found is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(
                    found.leader, signal.SIGKILL
                )  # process 1 of a PID namespace takes all of it along
        else:
            container.kill()
        container.wait(timeout=DEADLINE)


def _machine(nspawn: int) -> Machine | None:
    """The machine that nspawn has started: the process that is number 1 of a PID namespace."""
    for pid in descendants(nspawn):
        with contextlib.suppress(OSError):
            if re.search(
                r"^NSpid:\t\d+\t1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
            ):
                return Machine(pid)
    return None


def _analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["chroot", str(TREE), "systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_unit_is_accepted_without_a_word(tmp_path: Path) -> None:
    """systemd-analyze verify has nothing to say about the unit, its program being installed."""
    program = tmp_path / "threadwatch"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/threadwatch/bin/threadwatch", str(program)))
    assert _analyze("verify", str(copy)) == ""


def test_unit_is_hardly_exposed() -> None:
    """systemd-analyze security gives the unit no more exposure than its two capabilities cost."""
    report = _analyze("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for threadwatch.service: ([0-9.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE


def test_unit_runs_with_two_capabilities_and_reads_other_users(machine: Machine) -> None:
    """Under systemd the daemon is a user of its own, with just two capabilities, and sees root's names."""
    machine.run(
        *("systemd-run", "--unit=service", "--setenv=THREADWATCH=1"),
        *("/opt/threadwatch/bin/python", "/opt/service.py"),
    )
    machine.run("systemctl", "start", "threadwatch")
    until(lambda: 'thread="ledger-writer"' in machine.metrics(), "root's thread in the metrics")
    assert machine.show("ActiveState") == "active"
    assert machine.show("NRestarts") == "0"
    status = machine.run("cat", f"/proc/{machine.show('MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(fields[kind], 16) == CAPABILITIES, kind
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


def test_unit_reloads_and_stops_cleanly(machine: Machine) -> None:
    """A reload leaves the daemon running and is counted as successful; a stop is no failure."""
    machine.run("systemctl", "start", "threadwatch")
    until(machine.metrics, "metrics")
    pid = machine.show("MainPID")

    def reloaded() -> float:
        found = re.search(
            r"^threadwatch_config_last_reload_success_timestamp_seconds (\S+)$",
            machine.metrics(),
            re.MULTILINE,
        )
        assert found
        return float(found[1])

    before = reloaded()
    machine.run("systemctl", "reload", "threadwatch")
    until(lambda: reloaded() > before, "the reload in the metrics")
    assert machine.show("MainPID") == pid
    machine.run("systemctl", "stop", "threadwatch")
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")


def test_unit_gives_up_on_a_bad_configuration(machine: Machine) -> None:
    """With a configuration that is wrong the unit fails with status 78, and is not started again."""
    machine.run("systemctl", "stop", "threadwatch")
    machine.run("sh", "-c", "echo 'nonsense: 1' > /etc/bad.yml")
    machine.run(
        "sh", "-c", "echo THREADWATCH_OPTIONS=--config.file=/etc/bad.yml > /etc/default/threadwatch"
    )
    try:
        machine.run("systemctl", "start", "threadwatch", check=False)
        until(lambda: machine.show("ActiveState") == "failed", "failed")
        assert (machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("78", "0")
    finally:
        machine.run("rm", "/etc/default/threadwatch")
        machine.run("systemctl", "reset-failed", "threadwatch")
