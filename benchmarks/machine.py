"""What the figures were measured on, and how busy it was. Names no host, user or path."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import threadwatch


def facts() -> dict[str, str]:
    """The machine, the kernel and the versions, by what they are called in a table."""
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


def load() -> list[float]:
    """The load averages of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def processor_time() -> tuple[float, float]:
    """Seconds since boot that all CPUs were busy, and that a virtual machine's host took from them."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
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
