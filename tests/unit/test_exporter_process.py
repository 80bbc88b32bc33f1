"""The metrics of the daemon's own process, and of its host."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.testbed import CHECKOUT
from threadwatch.metrics import families
from threadwatch.metrics.own_process import OwnProcess

PROGRAM = """
import json
from prometheus_client import CollectorRegistry, ProcessCollector
from threadwatch.metrics.own_process import OwnProcess
theirs = ProcessCollector(registry=CollectorRegistry())
print(json.dumps([len(list(c.collect())) for c in (theirs, OwnProcess())]))
"""


def _now() -> dict[str, float]:
    samples = [s for metric in OwnProcess().collect() for s in metric.samples]
    return {sample.name: sample.value for sample in samples}


def test_all_families_are_there() -> None:
    """The host's CPUs and every process_ family of the list are collected, in its order."""
    expected = [
        f.name for f in families.FAMILIES if f.name.startswith(("process_", "threadwatch_host_"))
    ]
    assert list(_now()) == expected


def test_values_are_this_process() -> None:
    """CPU time, start time, memory, descriptors and their limit are those of the process that asks."""
    before_s = time.process_time()
    found = _now()
    assert before_s <= found["process_cpu_seconds_total"] <= time.process_time()
    ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    start_s = ticks / os.sysconf("SC_CLK_TCK")
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = time.time()
    after_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    least, most = now - (after_s - start_s), now - (before_s - start_s)
    assert least - 0.05 <= found["process_start_time_seconds"] <= most + 0.05
    assert 1e6 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert found["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert found["process_open_fds"] == sum(map(_is_open, range(4096)))


def test_the_cpus_of_the_host() -> None:
    """They are those that the kernel lists."""
    listed = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    assert _now()["threadwatch_host_cpus"] == sum(line.startswith("processor") for line in listed)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_cpu_time_does_not_fall() -> None:
    """Each collection has at least the CPU time of the one before."""
    seen = [_now()["process_cpu_seconds_total"] for _ in range(50)]
    assert seen == sorted(seen)


def test_a_hidden_proc_stat_hides_nothing() -> None:
    """Where /proc shows processes only (subset=pid), all families are there; prometheus_client has none."""
    command = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, "-c", PROGRAM],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"[0, {len(_now())}]\n"
