"""Collects ``process_*`` of the daemon itself, which every Prometheus client exposes, and the host's CPUs.

prometheus_client has a collector for them, but it exposes nothing where ``/proc/stat`` is hidden
(``ProcSubset=pid`` in a systemd unit), because it takes the time of boot from there.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator

from prometheus_client.core import Metric

from threadwatch.metrics import families
from threadwatch.metrics.families import Family

_SELF = "/proc/self"
"""Our own ``/proc``, wherever the procfs is mounted that shows the targets."""


class OwnProcess:
    """Collects the metrics of the process that it is made in. A value that cannot be read is left out."""

    def __init__(self) -> None:
        self._start = _start_time()

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as they are now."""
        cpus = os.cpu_count()  # those that are online
        if cpus is not None:
            yield _family(families.HOST_CPUS, cpus)
        yield _family(families.PROCESS_CPU, time.process_time_ns() / 1_000_000_000)
        if self._start is not None:
            yield _family(families.PROCESS_START, self._start)
        memory = _memory()
        if memory is not None:
            resident, virtual = memory
            yield _family(families.PROCESS_RESIDENT, resident)
            yield _family(families.PROCESS_VIRTUAL, virtual)
        open_fds = _open_fds()
        if open_fds is not None:
            yield _family(families.PROCESS_OPEN_FDS, open_fds)
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield _family(
            families.PROCESS_MAX_FDS, float("inf") if soft == resource.RLIM_INFINITY else soft
        )


def _family(family: Family, value: float) -> Metric:
    metric = family.metric()
    metric.add_sample(family.name, {}, value)
    return metric


def _read(name: str) -> bytes:
    descriptor = os.open(f"{_SELF}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _start_time() -> float | None:
    """Return the Unix time of our start: proc_pid_stat(5), field 22, is in clock ticks since boot."""
    try:
        ticks = int(_read("stat").rpartition(b")")[2].split()[19])
    except OSError:
        return None
    return _boot_time() + ticks / os.sysconf("SC_CLK_TCK")


def _boot_time() -> float:
    """Return the Unix time of the machine's boot.

    Between two readings of clocks another program may have the CPU: the quickest of some pairs counts.
    """
    pairs = []
    for _ in range(5):
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        now = time.time()
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
        pairs.append((after - before, now - (before + after) / 2))
    return min(pairs)[1]


def _memory() -> tuple[int, int] | None:
    """Return resident and virtual memory in bytes: proc_pid_statm(5) has them in pages."""
    try:
        virtual, resident = _read("statm").split()[:2]
    except OSError:
        return None
    page = resource.getpagesize()
    return int(resident) * page, int(virtual) * page


def _open_fds() -> int | None:
    try:
        # Since Linux 6.2 the directory's size is the number; listing thousands of entries takes
        # milliseconds.
        counted = os.stat(f"{_SELF}/fd").st_size
        return counted or len(os.listdir(f"{_SELF}/fd")) - 1  # minus the descriptor that lists them
    except OSError:
        return None
