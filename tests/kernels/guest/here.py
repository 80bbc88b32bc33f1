"""This very machine, in which the checks run: its commands, its services, and the daemon's answers."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.harness import DEADLINE, TARGETS, until
from tests.service.systemd.machine import Machine, Service
from tests.testbed import CHECKOUT

HERE: Final = Machine(1)
DAEMON: Final = Service(HERE)
URL: Final = "http://127.0.0.1:9749"
PYTHON: Final = "/opt/threadwatch/bin/python"
THREADWATCH: Final = "/usr/local/bin/threadwatch"
"""Where docs/systemd.md puts it."""
UNITS: Final = Path("/etc/systemd/system")

AS_SHOP: Final = ("setpriv", "--reuid=shop", "--regid=shop", "--init-groups", "--reset-env")
AS_NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env")


class CannotRun(Exception):
    """What the check is about is not in this kernel, or not in this release; says what."""


def shell(command: str) -> str:
    """Run a line as root would type it in the checkout; return its output."""
    return HERE.run("sh", "-c", f"cd {CHECKOUT} && {command}")


def answer(*arguments: str, prefix: Sequence[str] = ()) -> Any:
    """Return what a command of threadwatch prints with ``--json``, whatever its exit status."""
    done = subprocess.run(
        [*prefix, THREADWATCH, *arguments, "--json"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout, f"{arguments}: status {done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def script(name: str) -> str:
    """Give ``kernel_load.py`` another name, by which its group is called; return its path."""
    path = Path("/srv") / f"{name}.py"
    path.unlink(missing_ok=True)
    path.symlink_to(TARGETS / "kernel_load.py")
    return str(path)


def start(
    name: str,
    *arguments: str,
    user: str = "shop",
    publish: bool = True,
    limits: Sequence[str] = (),
) -> int:
    """Start ``kernel_load.py`` under this name, as a unit of this name; return its PID once it runs.

    ``limits``: properties of the unit.
    """
    program = (PYTHON, script(name), *arguments)
    published = ["--setenv=THREADWATCH=1"] if publish else []
    unit = ("systemd-run", "--quiet", f"--unit={name}", f"--uid={user}", *published)
    HERE.run(*unit, *(f"--property={one}" for one in limits), *program)
    return until(Service(HERE, name).pid, f"{name} runs")


def stop(*names: str) -> None:
    """Stop units that :func:`start` has started."""
    HERE.run("systemctl", "stop", *names, check=False)


def view() -> dict[int, Mapping[str, Any]]:
    """Return the daemon's view of each process by its PID; empty while it has none."""
    try:
        with urllib.request.urlopen(f"{URL}/api/v1/view", timeout=DEADLINE) as response:  # noqa: S310 - our own daemon's address
            processes = json.load(response)["processes"]
    except urllib.error.URLError:  # no view yet, or no daemon
        return {}
    return {process["pid"]: process for process in processes}


def drop_in(name: str) -> None:
    """Give the unit as it is shipped one of its drop-ins, as docs/systemd.md says, and restart it."""
    _bare()
    target = UNITS / "threadwatch.service.d"
    shell(f"install -D -m 644 -t {target} systemd/drop-ins/{name}")
    shell("systemctl daemon-reload && systemctl restart threadwatch")


def as_shipped() -> None:
    """Take the unit's drop-ins and options away, and restart it."""
    _bare()
    shell("systemctl restart threadwatch")


def with_config(text: str) -> None:
    """Restart the unit as it is shipped with a configuration."""
    _bare()
    HERE.write("/etc/threadwatch.yml", text)
    DAEMON.options("--config.file=/etc/threadwatch.yml")
    shell("systemctl restart threadwatch")


def _bare() -> None:
    shell(f"rm -rf {UNITS}/threadwatch.service.d /etc/default/threadwatch /etc/threadwatch.yml")
    shell("systemctl daemon-reload && systemctl reset-failed")
