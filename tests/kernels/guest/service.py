"""docs/systemd.md, followed word for word, and what it says of a service that reloads, hangs and dies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.harness import until
from tests.kernels.guest.here import (
    DAEMON,
    HERE,
    UNITS,
    URL,
    CannotRun,
    as_shipped,
    drop_in,
    shell,
    start,
    stop,
    view,
    with_config,
)
from tests.kernels.guest.threads import STATES, states
from tests.service.systemd.machine import Service, value
from tests.service.systemd.steps import steps
from tests.testbed import CHECKOUT

_STEPS: Final = steps()
_NAMED: Final = Path("/opt/threadwatch/bin/threadwatch")


def _take(heading: str) -> None:
    for step in _STEPS[heading]:
        shell(step)


def install() -> None:
    """Check that, installed as described, the unit is active and ready, and systemd has no complaint."""
    for step in _STEPS["Install it, in a minute"]:
        # the disk has what these two make, where it was made faster
        if not (_NAMED.exists() and ("pip" in step or "venv" in step)):
            shell(step)
    assert DAEMON.show("ActiveState") == "active"
    assert DAEMON.show("NRestarts") == "0"
    assert "ready" in HERE.get(f"{URL}/-/ready")
    assert HERE.run("systemd-analyze", "verify", f"{UNITS}/threadwatch.service") == ""
    until(lambda: "Watching" in DAEMON.show("StatusText"), "a status")


def upgrade() -> None:
    """Check that a new version is installed over one that runs, and then finds the tables again."""
    package = CHECKOUT / "threadwatch/__init__.py"
    package.write_text(re.sub(r'(__version__ = ".*?)"', r'\1+new"', package.read_text()))
    pid, polls = DAEMON.pid(), DAEMON.value("threadwatch_polls_total") or 0
    HERE.write("/etc/threadwatch.yml", "poll_interval: 1s\n")
    *before, restart = _STEPS["To upgrade"]
    for step in before:
        shell(step)
    until(lambda: (DAEMON.value("threadwatch_polls_total") or 0) > polls, "the old one goes on")
    assert DAEMON.pid() == pid
    shell(restart)
    assert '+new"' in DAEMON.metrics(), "the new version"
    target = Service(HERE, "rest").pid()
    until(lambda: states(view().get(target), "published").items() >= STATES.items(), "its table")


def several() -> None:
    """Check that a second daemon of the same file, with options of its own, is ready on its port."""
    _take("Several of them")
    assert "ready" in HERE.get("http://127.0.0.1:9750/-/ready")
    shell("systemctl disable --now threadwatch@shop")


def reload() -> None:
    """Check that a good configuration is taken, and a bad one refused, as status, log and metric say."""
    with_config("poll_interval: 1s\n")
    pid = DAEMON.pid()
    good = "groups:\n  - name: renamed\n    match: {cmdline: 'rest\\.py'}\n"
    HERE.write("/etc/threadwatch.yml", good)
    shell("chmod 600 /etc/threadwatch.yml")
    DAEMON.do("reload")
    until(lambda: 'group="renamed"' in DAEMON.metrics(), "the new configuration")
    HERE.write("/etc/threadwatch.yml", "poll_intervall: 1s\n")
    cursor = DAEMON.cursor()
    DAEMON.do("reload")
    until(lambda: DAEMON.value("threadwatch_config_last_reload_successful") == 0, "the refusal")
    until(lambda: "The last reload failed" in DAEMON.show("StatusText"), "the status")
    assert any("poll_intervall" in entry.message for entry in DAEMON.journal(cursor))
    assert 'group="renamed"' in DAEMON.metrics()
    assert (DAEMON.pid(), DAEMON.show("NRestarts")) == (pid, "0")


def reload_that_waits() -> None:
    """Check that with notify-reload.conf a configuration is in force when the command returns."""
    version = int(re.findall(r"\d+", HERE.run("systemctl", "--version"))[0])
    if version < 253:
        raise CannotRun(f"systemd {version} has no Type=notify-reload")
    drop_in("notify-reload.conf")
    HERE.write("/etc/threadwatch.yml", "poll_interval: 1s\n")
    DAEMON.options("--config.file=/etc/threadwatch.yml")
    DAEMON.do("restart")
    HERE.write(
        "/etc/threadwatch.yml", "groups:\n  - name: waited\n    match: {cmdline: 'rest\\.py'}\n"
    )
    DAEMON.do("reload")
    assert 'group="waited"' in DAEMON.metrics()


def watchdog() -> None:
    """Check that a daemon that stands still is ended, says where its threads were, and starts again."""
    as_shipped()
    assert DAEMON.show("WatchdogUSec") == "1min"
    DAEMON.drop_in("[Service]\nWatchdogSec=15\n")
    DAEMON.do("restart")
    cursor, pid = DAEMON.cursor(), DAEMON.pid()
    HERE.run("kill", "-STOP", str(pid))
    until(lambda: DAEMON.pid() not in {0, pid}, "a new process")
    until(lambda: DAEMON.show("ActiveState") == "active", "active again")
    said = "\n".join(entry.message for entry in DAEMON.journal(cursor))
    assert "Watchdog timeout" in said, said
    assert "Fatal Python error: Aborted" in said, said
    assert 'threadwatch/commands/serve.py"' in said, said


def memory_max() -> None:
    """Check that beyond MemoryMax= the kernel ends the daemon, and systemd starts it until it has room."""
    DAEMON.drop_in("[Service]\nMemoryMax=12M\n")
    HERE.run("systemctl", "restart", "--no-block", "threadwatch")
    until(lambda: int(DAEMON.show("NRestarts")) >= 2, "two restarts")
    assert "Memory cgroup out of memory" in HERE.run("dmesg")
    as_shipped()
    assert DAEMON.show("ActiveState") == "active"
    assert DAEMON.show("MemoryMax") == str(1 << 30)


def no_capabilities() -> None:
    """Check that no-capabilities.conf has the names of a process of another user that starts after it."""
    drop_in("no-capabilities.conf")
    pid = start("late", user="nobody")
    sleeping = dict.fromkeys(STATES, "sleeping")
    until(lambda: states(view().get(pid), "published").items() >= sleeping.items(), "names")
    stop("late")


def socket() -> None:
    """Check that systemd holds the port: the service has no network, and a scrape waits for its restart."""
    _take("Socket activation")
    for unit in ("threadwatch.socket", "threadwatch.service"):
        assert HERE.run("systemctl", "is-active", unit) == "active"
    own, others = (HERE.run("readlink", f"/proc/{pid}/ns/net") for pid in (DAEMON.pid(), 1))
    assert own != others
    pid = DAEMON.pid()
    HERE.run("systemctl", "restart", "--no-block", "threadwatch")
    until(lambda: "ready" in HERE.get(f"{URL}/-/ready", "--max-time", "600"), "a scrape")
    until(lambda: DAEMON.pid() not in {0, pid}, "a new process")


def users_own() -> None:
    """Check that under a user's own service manager it sees that user's threads, without a session."""
    home = Path("/home") / "shop"
    unit = home / ".config/systemd/user/threadwatch.service"
    HERE.write(str(unit), (CHECKOUT / "systemd/user/threadwatch.service").read_text())
    HERE.write(
        str(home / ".config/threadwatch.env"),
        "THREADWATCH_OPTIONS=--web.listen-address=127.0.0.1:9751\n",
    )
    shell(f"install -d {home}/.local/bin && ln -s {_NAMED} {home}/.local/bin/threadwatch")
    shell(f"chown -R shop: {home} && loginctl enable-linger shop")
    until(
        lambda: HERE.run("systemctl", "is-active", "user@1000", check=False) == "active", "linger"
    )
    users("enable", "--now")
    service = Service(HERE, port=9751)
    series = f'threadwatch_threads{{group="rest",state="lock",thread="{next(iter(STATES))}"}}'
    until(lambda: value(service.metrics(), series) == 1, "the user's own threads")


def users(*arguments: str) -> str:
    """Return ``systemctl --user`` of the user's own unit."""
    prefix = ("setpriv", "--reuid=shop", "--regid=shop", "--init-groups", "env")
    runtime = "XDG_RUNTIME_DIR=/run/user/1000"
    return HERE.run(*prefix, runtime, "systemctl", "--user", *arguments, "threadwatch", check=False)


def after_reboot() -> None:
    """Check that after a restart of the machine all units are active by themselves, and names are seen."""
    for unit in ("threadwatch.socket", "threadwatch.service"):
        until(lambda: HERE.run("systemctl", "is-active", unit, check=False) == "active", unit)  # noqa: B023 - used at once
    assert DAEMON.show("NRestarts") == "0"
    until(lambda: users("is-active") == "active", "the user's own unit")
    pid = start("rest")
    until(lambda: states(view().get(pid), "published").items() >= STATES.items(), "ten states")
