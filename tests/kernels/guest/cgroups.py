"""Control groups, of either version: the unit of a process, and how long its limit keeps it from CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.harness import until
from tests.kernels.guest.here import DAEMON, HERE, as_shipped, start, stop, view, with_config
from tests.kernels.guest.series import series
from tests.kernels.guest.threads import STATES, states

_STAT: Final = (
    ("system.slice/throttled.service", "throttled_usec", 1e6),
    ("cpu,cpuacct/system.slice/throttled.service", "throttled_time", 1e9),
)
"""Where version 2 has the count, and where version 1; and in how many parts of a second."""
_OUT: Final = "/var/tmp/throttled.json"  # noqa: S108 - of a machine that has no other user


def units() -> None:
    """Check that a process belongs to its unit, by which it can have a group."""
    config = "groups:\n  - name: of-a-unit\n    match: {systemd_unit: '^rest\\.service$'}\n"
    with_config(config)
    info = "threadwatch_group_container_info"
    until(
        lambda: series(DAEMON.metrics(), info, "unit", group="of-a-unit") == {"rest.service": 1},
        "its unit",
    )


def throttled() -> str:
    """Check that a group was kept from CPUs, by a limit, for as long as the kernel counts."""
    as_shipped()
    pid = start("throttled", _OUT, limits=("CPUQuota=1000%",))
    until(lambda: states(view().get(pid), "published").items() >= STATES.items(), "at rest")
    until(lambda: _counted() == 0, "a group that has a limit, and is kept from nothing")
    HERE.run("systemctl", "set-property", "--runtime", "throttled", "CPUQuota=20%")
    HERE.run("systemctl", "kill", "--signal=USR1", "throttled")
    until(lambda: _kernels() > 2, "two seconds without a CPU")
    HERE.run("systemctl", "kill", "--signal=USR1", "throttled")
    until(Path(_OUT).exists, "the end of its work")
    until(lambda: abs((_counted() or 0) - _kernels()) < 1e-6, "the kernel's count")
    total = _kernels()
    stop("throttled")
    return f"{total:.3f} s"


def _counted() -> float | None:
    metric = "threadwatch_group_throttled_seconds_total"
    return series(DAEMON.metrics(), metric, "group").get("throttled")


def _kernels() -> float:
    """Return the kernel's own count."""
    for directory, key, parts in _STAT:
        stat = Path("/sys/fs/cgroup", directory, "cpu.stat")
        if stat.exists():
            lines = dict(line.split() for line in stat.read_text().splitlines())
            return int(lines[key]) / parts
    raise AssertionError("no cgroup of the unit has a cpu.stat")
