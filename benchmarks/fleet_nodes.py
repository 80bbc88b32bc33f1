"""Hosts of a fleet, each in a PID namespace of its own with a real daemon and real threads."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from benchmarks.fleet_prometheus import Target
from benchmarks.running import Server

APPLICATIONS = 6
NAMES = 12
"""Names of threads in each application, beside the main one."""
AS_PROMETHEUS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept_Encoding": "gzip"}
"""What is rendered for it is what Prometheus gets, of the daemon's own process as well."""

_CONFIG = """\
poll_interval: 10s
waits: {{rate: 1}}
unmatched: ignore
groups:
- {{name: 'shop-{{number}}@{container}', match: {{comm: '^shop-(?P<number>\\d+)$'}}}}
"""
_STARTING = 4
"""How many start at once."""

Series = tuple[str, frozenset[tuple[str, str]]]


class Node(Server):
    """One host; ends with its context."""

    readiness = "/-/ready"

    def __init__(self, number: int, place: Path) -> None:
        """Returns when its daemon has polled."""
        self.number = number
        config = place / f"node-{number}.yml"
        config.write_text(_CONFIG.format(container=f"{number:011x}0"), encoding="utf-8")
        command = [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable),
            *("-m", "benchmarks.fleet_node", str(APPLICATIONS), str(NAMES)),
            *("--web.listen-address=127.0.0.1:0", f"--config.file={config}"),
        ]
        super().__init__(command, r"address=\S*127\.0\.0\.1:(\d+)")

    def __exit__(self, *exception: object) -> None:
        self._process.kill()  # the namespace ends with it
        super().__exit__(*exception)

    def target(self, copy: int = 0) -> Target:
        """Return it as Prometheus scrapes it: itself, or once more as another host."""
        return Target(f"node-{self.number}-{copy}:9749", self.port, copy)


@contextlib.contextmanager
def fleet(count: int) -> Iterator[list[Node]]:
    """Yield this many hosts."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with ThreadPoolExecutor(_STARTING) as pool:
            starting = [pool.submit(Node, number, place) for number in range(count)]
            for one in starting:
                # what has started ends, whichever of them fails
                with contextlib.suppress(Exception):  # its result is asked for below
                    stack.enter_context(one.result())
        yield [one.result() for one in starting]


def exposed(body: bytes) -> dict[Series, float]:
    """Return the values of an exposition (OpenMetrics), by name and labels: an empty label is none."""
    return {
        (sample.name, frozenset(pair for pair in sample.labels.items() if pair[1])): sample.value
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]  # it has no types
        for sample in family.samples
    }
