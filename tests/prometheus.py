"""A real Prometheus for tests: started on a free port, waited for, asked by PromQL, stopped."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import testbed
from tests.harness import DEADLINE, until

ON_PATH = ("prometheus",)
"""Debian 12's 2.42."""
IN_TESTBED = ("chroot", str(testbed.TREE), "/usr/bin/prometheus")
"""The testbed's 3.5 or later; temporary files have the same paths there."""

_LISTENS = re.compile(r'msg="Listening on".*\baddress=127\.0\.0\.1:(\d+)')


@dataclass(frozen=True, slots=True)
class Result:
    """One series of the answer to an instant query."""

    labels: Mapping[str, str]
    """With ``__name__``, ``job`` and ``instance``, where the query keeps them."""
    value: float


@dataclass(frozen=True, slots=True)
class Samples:
    """What is stored of one series: its values by the times of the scrapes, in seconds."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


class Prometheus:
    """Runs while its context is entered. ``directory`` is where its configuration, log and data go."""

    def __init__(
        self,
        directory: Path,
        *,
        config: str,
        command: Sequence[str] = ON_PATH,
        port: int = 0,
        agent: bool = False,
    ) -> None:
        """``command`` is the program with what must stand before it; port 0 is a free one.

        ``agent``: it scrapes and sends on, and answers no queries.
        """
        self.config = directory / "prometheus.yml"
        self.config.write_text(config)
        self.log = directory / "prometheus.log"
        self.port = port
        self.at: float | None = None
        """The Unix time as of which queries are answered; None: now."""
        self._command = (
            *command,
            f"--config.file={self.config}",
            *(("--agent",) if agent else ()),
            f"--storage.{'agent' if agent else 'tsdb'}.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            self.port = until(self._listening_port, "Prometheus listens")
            until(self._ready, "Prometheus is ready")
        except BaseException:  # whatever ends this: no server stays
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._process is not None:
            self._process.kill()  # its data is of no more use
            self._process.wait()
            self._process = None

    def query(self, promql: str) -> list[Result]:
        """Return the answer to an instant query that gives a vector."""
        data = self._instant(promql)
        assert data["resultType"] == "vector", data
        return [Result(found["metric"], float(found["value"][1])) for found in data["result"]]

    def query_range(self, promql: str, *, over: float, step: float) -> list[Samples]:
        """Return the answer to a range query up to now or ``at``, as a graph asks it; times in seconds."""
        end = time.time() if self.at is None else self.at
        query = {"query": promql, "start": end - over, "end": end, "step": step}
        data = self._get("/api/v1/query_range?" + urllib.parse.urlencode(query))
        assert data["resultType"] == "matrix", data
        return [
            Samples(found["metric"], {time: float(value) for time, value in found["values"]})
            for found in data["result"]
        ]

    def series(self, selector: str) -> list[Mapping[str, str]]:
        """Return the labels of every series that a selector chooses."""
        found: list[Mapping[str, str]] = self._get(
            "/api/v1/series?" + urllib.parse.urlencode({"match[]": selector})
        )
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return what Prometheus says of its rules, by the name of the alert or of what is recorded."""
        groups = self._get("/api/v1/rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def samples(self, selector: str, over: str = "5m") -> list[Samples]:
        """Return every sample that is stored of the series, from the last ``minutes``."""
        data = self._instant(f"{selector}[{over}]")
        assert data["resultType"] == "matrix", data
        return [
            Samples(found["metric"], {time: float(value) for time, value in found["values"]})
            for found in data["result"]
        ]

    def wait_for(self, promql: str) -> list[Result]:
        """Return the first answer to ``promql`` that is not empty."""
        return until(lambda: self.query(promql), f"an answer to {promql}")

    def targets(self) -> dict[str, dict[str, Any]]:
        """Return what Prometheus says of its targets, by their job: health, lastError and more."""
        active = self._get("/api/v1/targets")["activeTargets"]
        return {target["labels"]["job"]: target for target in active}

    def metadata(self) -> dict[str, dict[str, str]]:
        """Type, help and unit that the targets have said of their metrics, by name."""
        return {name: said[0] for name, said in self._get("/api/v1/metadata").items()}

    def _instant(self, promql: str) -> Any:
        moment = {} if self.at is None else {"time": self.at}
        return self._get("/api/v1/query?" + urllib.parse.urlencode({"query": promql, **moment}))

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE
        ) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def _alive(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, f"Prometheus has ended: {self.log.read_text()}"

    def _listening_port(self) -> int:
        self._alive()
        found = _LISTENS.search(self.log.read_text())
        return int(found[1]) if found else 0

    def _ready(self) -> bool:
        self._alive()
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/-/ready", timeout=5
            ) as response:
                return response.status == 200  # type: ignore[no-any-return]  # urlopen's type has gaps
        except OSError:
            return False
