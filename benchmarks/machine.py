"""What the figures were measured on, and how busy it was. Names no host, user or path."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import threadwatch


def facts() -> dict[str, str]:
    """Return the machine, the kernel and the versions, by what they are called in a table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPUs": f"{os.cpu_count()} × {_cpu_model()} ({platform.machine()})",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "distribution": _distribution(),
        "Python of the daemon and the load": platform.python_version(),
        "threadwatch": threadwatch.__version__,
        "prometheus_client": _version("prometheus-client"),
    }


class Conditions:
    """How busy the machine is from now until it is asked."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._began = time.monotonic()
        self._busy, self._stolen = _processor_time()
        self._load = os.getloadavg()

    def now(self) -> dict[str, Any]:
        """Return the conditions as JSON can hold them."""
        seconds = time.monotonic() - self._began
        busy, stolen = _processor_time()
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(seconds),
            "load_average_before": [round(value, 2) for value in self._load],
            "load_average_after": [round(value, 2) for value in os.getloadavg()],
            "cpus": os.cpu_count(),
            "cpus_busy": round((busy - self._busy) / seconds, 2),
            "cpus_stolen": round((stolen - self._stolen) / seconds, 3),
        }


def as_sentence(conditions: Mapping[str, Any], *, full: bool) -> str:
    """Return what :meth:`Conditions.now` gave, in words."""
    before, after = conditions["load_average_before"][0], conditions["load_average_after"][0]
    return (
        f"Measured on {conditions['started'][:10]} in {conditions['seconds']} s"
        f"{'' if full else ' (the quick version)'}; load average {before} before, {after} after;"
        f" {conditions['cpus_busy']} of {conditions['cpus']} CPUs were busy, what was measured"
        f" included, and the virtual machine's host took {conditions['cpus_stolen']}."
    )


def _processor_time() -> tuple[float, float]:
    """Return seconds since boot that all CPUs were busy, and that a virtual machine's host took from them."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    ticks = [int(field) for field in fields[:8]]  # user nice system idle iowait irq softirq steal
    hertz = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) / hertz, ticks[7] / hertz


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return "unknown"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return sys.platform


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
