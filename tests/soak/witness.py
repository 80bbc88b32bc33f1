"""Processes whose own clocks say what a daemon should say of them, whatever goes on around them."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests import testbed
from tests.harness import DEADLINE, until
from tests.serving import Serving
from tests.soak import checks, hardship


@dataclass(frozen=True, slots=True)
class Difference:
    """A thread's name, in seconds what it has used, and how much more than that is shown."""

    name: str
    clock_s: float
    off_s: float

    @property
    def wrong(self) -> bool:
        """Return whether it is more than what reading at different moments explains."""
        return abs(self.off_s) > checks.OF_THE_WHOLE * self.clock_s + 3 * checks.TICK_S


class Witness:
    """Processes whose own clocks say what the daemon should say of them."""

    def __init__(self, mark: str, versions: Iterable[tuple[int, int]]) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._metric = re.compile(
            r'^threadwatch_thread_cpu_seconds_total\{group="witness",.*thread="(.*)"\} (\S+)$',
            re.MULTILINE,
        )
        for version in versions:
            process = hardship.target(mark, "witness", testbed.require(*version))
            self.processes.append(process)
            _hear(process)

    def compare(self, daemon: Serving) -> list[Difference]:
        """Hold them still, and compare what the daemon shows, three polls later, with their clocks."""
        clocks: Counter[str] = Counter()
        for process in self.processes:
            _say(process)
            clocks.update(_hear(process)["clocks"])
        polls = float(daemon.metric("threadwatch_polls_total") or 0)
        until(
            lambda: float(daemon.metric("threadwatch_polls_total") or 0) >= polls + 3,
            "three polls",
            5 * DEADLINE,  # beside a fork bomb, on a machine that is busy as it is
        )
        shown: Counter[str] = Counter()
        for thread, value in self._metric.findall(daemon.get("/metrics")[1]):
            shown[thread] += round(float(value) * 1e9)
        for process in self.processes:
            _say(process)
        return [
            Difference(name, clock_ns / 1e9, (shown[name] - clock_ns) / 1e9)
            for name, clock_ns in clocks.items()
        ]

    def close(self) -> None:
        """End them."""
        for process in self.processes:
            process.kill()
            process.communicate()


def _say(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the witness has ended"
    said: dict[str, Any] = json.loads(line)
    return said
