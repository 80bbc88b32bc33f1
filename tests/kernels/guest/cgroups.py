"""Control groups, of either version: the unit of a process, and how long its limit keeps it from CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.harness import until
from tests.kernels.guest.here import (
    DAEMON,
    HERE,
    PYTHON,
    as_shipped,
    script,
    shell,
    start,
    stop,
    view,
    with_config,
)
from tests.kernels.guest.series import series
from tests.kernels.guest.threads import STATES, states

_STAT: Final = (
    ("system.slice/throttled.service", "throttled_usec", 1e6),
    ("cpu,cpuacct/system.slice/throttled.service", "throttled_time", 1e9),
)
"""Where version 2 has the count, and where version 1; and in how many parts of a second."""
_CONTAINER: Final = "4e5a" * 16
_POD: Final = "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288"
_INFO: Final = "threadwatch_group_container_info"
_OUT: Final = "/var/tmp/throttled.json"  # noqa: S108 - of a machine that has no other user


def units() -> None:
    """Check that a process belongs to its unit, by which it can have a group."""
    config = "groups:\n  - name: of-a-unit\n    match: {systemd_unit: '^rest\\.service$'}\n"
    with_config(config)
    until(
        lambda: series(DAEMON.metrics(), _INFO, "unit", group="of-a-unit") == {"rest.service": 1},
        "its unit",
    )


def containers() -> None:
    """Check the labels of a process in a group that containerd has systemd make for a pod of Kubernetes."""
    as_shipped()
    unit = f"cri-containerd-{_CONTAINER}.scope"
    place = f"--slice=kubepods-burstable-pod{_POD.replace('-', '_')}.slice --unit={unit}"
    program = f"{PYTHON} {script('contained')}"
    group = f"contained@{_CONTAINER[:12]}"
    shell(f"systemd-run --quiet --scope --uid=shop {place} {program} >/dev/null 2>&1 &")
    for label, expected in (("unit", unit), ("container_id", _CONTAINER), ("pod_uid", _POD)):
        until(
            lambda: series(DAEMON.metrics(), _INFO, label, group=group) == {expected: 1},  # noqa: B023 - used at once
            label,
        )
    stop(unit)


def throttled() -> str:
    """Check that a group was kept from CPUs, by a limit, for as long as the kernel counts."""
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
