"""Names, states, the GIL, CPU time and tasks: what the daemon says, against the program's own word."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.harness import Target, until
from tests.kernels.guest.here import DAEMON, HERE, start, stop, view
from tests.kernels.guest.series import Series, series
from tests.service.systemd.machine import Service
from tests.testbed import Interpreter

STATES: Final = {
    "in-a-lock-with-a-long-name": "lock",
    "in-select": "socket",
    "in-epoll": "poll",
    "in-recv": "socket",
    "in-accept": "socket",
    "in-pipe": "pipe",
    "in-sleep": "sleep",
    "in-child": "child",
    "in-queue": "lock",
    "in-file": "lock",
}
"""The threads of ``kernel_load.py`` that wait, and the state in which each of them stays."""
BURNERS: Final = ("burner-a", "burner-b")
BUSY: Final = (*BURNERS, "hasher", "ticker", "acceptor")
OUT: Final = Path("/var/tmp/load.json")  # noqa: S108 - of a machine that has no other user


def states(process: Mapping[str, Any] | None, source: str) -> dict[str, str]:
    """Return the states of the threads that have a name of this source."""
    threads = process["threads"] if process else ()
    return {one["name"]: one["state"] for one in threads if one["source"] == source}


def names_published() -> None:
    """Check names and ten reasons to wait of a process of another user that publishes."""
    pid = start("rest")
    until(lambda: states(view().get(pid), "published").items() >= STATES.items(), "ten states")


def names_from_memory() -> None:
    """Check the same of a process that does not publish."""
    pid = start("plain", publish=False)
    until(lambda: states(view().get(pid), "memory").items() >= STATES.items(), "ten states")


def _of(group: str, metric: str, key: str = "thread") -> Mapping[str, float]:
    """Return the values of a group's metric, by the label ``key``, added up over all other labels."""
    return series(DAEMON.metrics(), f"threadwatch_{metric}", key, group=group)


def gil() -> str:
    """Check that threads that run Python hold the GIL and wait for it, and threads at rest do not."""
    OUT.unlink(missing_ok=True)
    pid = start("load", str(OUT))
    until(lambda: states(view().get(pid), "published").items() >= STATES.items(), "ten states")
    before = _of("load", "gil_held_seconds_total")
    HERE.run("systemctl", "kill", "--signal=USR1", "load")

    def fought() -> bool:
        held, waited = (_of("load", f"gil_{what}_seconds_total") for what in ("held", "wait"))
        return all(held.get(name, 0) > 1 and waited.get(name, 0) > 0 for name in BURNERS)

    until(fought, "two threads that hold the GIL in turn")
    after = _of("load", "gil_held_seconds_total")
    idle = {name: after.get(name, 0) - before.get(name, 0) for name in STATES}
    assert not any(idle.values()), f"held the GIL while they waited: {idle}"
    return ", ".join(f"{name} {after.get(name, 0):.1f} s" for name in (*BURNERS, "hasher"))


def cpu_time() -> str:
    """Check CPU time against each thread's own clock, and the sum against the kernel's: none is lost."""
    pid = Service(HERE, "load").pid()
    HERE.run("systemctl", "kill", "--signal=USR1", "load")
    until(OUT.exists, "the program's own account")
    told = json.loads(OUT.read_text())
    process = time.clock_gettime_ns((~pid << 3) | 2) / 1e9

    def settled() -> bool:
        total = _of("load", "group_cpu_seconds_total", "group").get("load", 0)
        return abs(total - process) < 1e-6

    until(settled, f"the group's CPU time to be {process}, the kernel's")
    used = _of("load", "thread_cpu_seconds_total")
    both = {name: (used.get(name, 0), told["threads"][name]) for name in BUSY}
    wrong = {name: pair for name, pair in both.items() if abs(pair[0] - pair[1]) > 1e-6}
    assert not wrong, f"seen and own: {wrong}"
    assert abs(sum(used.values()) - process) < 1e-6, (used, process)
    started = _of("load", "threads_started_total")
    # in all: one that a poll sees before it can say its name has started under another
    count = 1 + len(STATES) + len(BUSY) + told["started"]
    assert sum(started.values()) == count, (started, count)
    assert used["req"] >= told["req"], (used["req"], told["req"])
    rest = used.get("(unattributed)", 0.0)
    stop("load")
    return (
        f"{process:.3f} s in all; {told['started']} short threads: {used['req']:.4f} s, "
        f"their own clocks {told['req']:.4f} s; unattributed {rest:.4f} s"
    )


def tasks() -> str:
    """Check that tasks of asyncio are told apart: those that use CPU time, and the one that blocks."""
    version = (sys.version_info[0], sys.version_info[1])
    interpreter = Interpreter(
        version, ".".join(map(str, sys.version_info[:3])), (sys.executable,), Path("/")
    )
    target = Target(interpreter, "load_tasks.py", "mark", "plan", mode="plain", options=())

    def seen(metric: str, key: str = "task") -> Series:
        return series(DAEMON.metrics(), f"threadwatch_{metric}", key, group="load_tasks")

    def told_apart() -> bool:
        used = seen("task_cpu_seconds_total")
        return all(used.get(name, 0) > 0 for name in ("heavy", "light", "(callback) beat"))

    try:
        line = target.next_line()
        assert line, target.complaint("ended")
        until(told_apart, "CPU time of two tasks and a callback")
        until(
            lambda: seen("loop_blocked_seconds_total").get("sleeper", 0) > 0, "a task that blocks"
        )
        used = seen("task_cpu_seconds_total")
        thread = sum(seen("thread_cpu_seconds_total", "thread").values())
    finally:
        target.close()
    shown = ", ".join(f"{name} {value:.2f} s" for name, value in sorted(used.items()))
    assert sum(used.values()) <= thread, (shown, thread)
    return shown


def facts() -> str:
    """Return what machine this is."""
    name = os.uname()
    systemd = HERE.run("systemctl", "--version").split()[1]
    cgroup = HERE.run("stat", "--file-system", "--format=%T", "/sys/fs/cgroup")
    modules = Path("/sys/kernel/security/lsm").read_text()
    return (
        f"Linux {name.release} {name.machine}, pages of {os.sysconf('SC_PAGE_SIZE')}, systemd {systemd}, "
        f"CPython {sys.version.split()[0]}, cgroups: {cgroup}, security modules: {modules}"
    )
