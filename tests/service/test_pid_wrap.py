"""PIDs run out, and are given again from the first: what a real daemon says of processes that share theirs.

The test runs itself in a PID namespace of its own (``python -m tests.service.test_pid_wrap``), in which it
sets the last PID that was given (ns_last_pid, CONFIG_CHECKPOINT_RESTORE): the machine's PIDs are left alone.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests import testbed
from tests.books import MS
from tests.harness import run_in_pid_namespace, until
from tests.loads import Load
from tests.serving import Serving, serving

NAMES = ("alpha", "beta")
CHILDREN = 20
WAVES = 2
CONFIG = """
poll_interval: 100ms
unmatched: ignore
groups:
  - name: alpha
    match: {cmdline: wrap.py alpha}
  - name: beta
    match: {cmdline: wrap.py beta}
"""


def test_pids_wrap() -> None:
    """Each process has its own name and time, even if another had its PID before; no counter falls."""
    run_in_pid_namespace(__name__)


class Books:
    """What a daemon has said so far."""

    def __init__(self, daemon: Serving) -> None:
        self.daemon = daemon
        self.counters: dict[tuple[str, ...], float] = {}

    def read(self) -> dict[tuple[str, ...], float]:
        """Return all samples by their names and labels, after the check that no counter has fallen."""
        samples, counters = {}, {}
        for family in text_string_to_metric_families(self.daemon.get("/metrics")[1]):
            for sample in family.samples:
                key = (sample.name, *sample.labels.values())
                samples[key] = sample.value
                if family.type == "counter":
                    counters[key] = sample.value
        fallen = {
            key: (was, counters.get(key))
            for key, was in self.counters.items()
            if counters.get(key, -1) < was
        }
        assert not fallen, fallen
        self.counters = counters
        return samples

    def await_polls(self, count: int) -> dict[tuple[str, ...], float]:
        """Return the figures after this many polls."""
        until_polls = self.read()[("threadwatch_polls_total",)] + count
        until(lambda: self.read()[("threadwatch_polls_total",)] >= until_polls, "polls")
        return self.read()


def scenario(directory: Path) -> None:
    """Two applications by turns, whose children have the same PIDs."""
    config = directory / "threadwatch.yml"
    config.write_text(CONFIG)
    python = testbed.require(3, 12)
    with serving(directory, f"--config.file={config}") as daemon:
        books = Books(daemon)
        loads = {name: Load(python, "wrap.py", name) for name in NAMES}
        try:
            own_ns = {name: load.hear("ready")["own_ns"] for name, load in loads.items()}
            waves(loads, books, own_ns)
        finally:
            for load in loads.values():
                load.close()


def waves(loads: dict[str, Load], books: Books, own_ns: dict[str, int]) -> None:
    """Wave after wave; after each, everything is where it belongs."""
    threads_ns, children_ns, ends_ns = Counter[str](), Counter[str](), Counter[str]()
    before: set[int] = set()
    again = 0
    for number in range(1, 1 + WAVES * len(NAMES)):
        name = NAMES[number % 2]
        say(loads[name], str(CHILDREN))
        said = loads[name].hear("wave")
        pids = set(said["pids"])
        assert max(pids) > said["pid_max"] - 2 * CHILDREN, pids
        assert min(pids) < said["pid_max"] / 2, "the PIDs did not wrap"
        again += len(pids & before)
        before = pids
        threads_ns[name] += said["thread_ns"]
        children_ns[name] += said["children_ns"]
        own_ns[name] = said["own_ns"]
        until(
            lambda: books.read().get(("threadwatch_group_processes", name), 0) == CHILDREN + 1,  # noqa: B023 - asked at once
            f"the children of {name}",
        )
        shown = books.await_polls(3)
        for group in NAMES:
            check(
                shown,
                group,
                threads_ns,
                children_ns[group] + own_ns[group],
                CHILDREN * (number // 2 + 1),
                ends_ns[group],
            )
        say(loads[name], "")
        over = loads[name].hear("over")
        own_ns[name] = over["own_ns"]  # the next begin at once
        ends_ns[name] = over["ended_ns"] - children_ns[name]
    assert again > CHILDREN, "too few PIDs were used again"


def check(
    shown: dict[tuple[str, ...], float],
    group: str,
    threads_ns: Counter[str],
    all_ns: int,
    children: int,
    ends_ns: int,
) -> None:
    """Check that a group has its own threads' names and time, and no others.

    ``ends_ns``: what ended children have used since they told of it, as the kernel says.
    """
    metric = "threadwatch_thread_cpu_seconds_total"
    cpu: Counter[str] = Counter()
    for key, value in shown.items():
        if key[:2] == (metric, group):
            cpu[key[3]] += round(value * 1e9)
    others = set(NAMES) - {group}
    assert not set(cpu) & others, cpu
    # what each has used since it last looked at its clock: to wait, and to end
    late_ns = 5 * MS + children * MS // 10
    total_ns = round(shown[("threadwatch_group_cpu_seconds_total", group)] * 1e9)
    assert 0 <= total_ns - all_ns <= late_ns + ends_ns, (group, total_ns, all_ns, ends_ns)
    assert sum(cpu.values()) <= total_ns + 1000
    # what a thread has used before its name was known stands under its comm
    comm_ns = sum(cpu_ns for name, cpu_ns in cpu.items() if name.startswith("python"))
    assert -comm_ns <= cpu[group] - threads_ns[group] <= late_ns, (group, cpu, threads_ns)


def say(load: Load, text: str) -> None:
    """Tell it the next line."""
    assert load.process.stdin is not None
    load.process.stdin.write(text.encode() + b"\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        scenario(Path(name))
