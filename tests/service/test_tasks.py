"""What ``serve`` says of tasks and loops, against what programs measure of themselves."""

from __future__ import annotations

import json
import math
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import testbed
from tests.harness import monotonic_at, until
from tests.loads import Load
from tests.loops_outside import with_ring
from tests.serving import Serving, serving

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
FIRST = ("chrt", "--fifo", "1")
"""Give the daemon priority: its looks are to come at random moments, not when a CPU is free."""
VERSIONS = ((3, 9), (3, 12), (3, 15))
UVLOOPS = {"uvloop3.14": "uvloop==0.22.1"}
PLANNED = {f"load{major}.{minor}": (major, minor) for major, minor in VERSIONS} | {
    name: (3, int(name.rpartition(".")[2])) for name in UVLOOPS
}
"""The groups of loops that keep to a plan, by name."""
CPU, HELD, BLOCKED = (
    f"threadwatch_{name}_seconds_total" for name in ("task_cpu", "loop_held", "loop_blocked")
)
COUNT = "threadwatch_loop_lag_seconds_count"
LOOKS = 800
"""At each loop: some ten seconds."""
WRONG = 4.5
"""Standard errors: what chance exceeds once in 150,000 times."""
LATE = 0.03
"""How much of the time can be missing or too much at both ends, because polls and reports are not at once."""
APART_S = 0.9
"""So many seconds can lie between polls and reports, at both ends together: polls, and waits of the loop."""

BOUNDS = (0.005, 0.05, 0.1)
"""Those of load_tasks.py."""
USED = ("heavy", "light", "(callback) beat")
STUCK = "blocked.<locals>.stuck"

LOOPED = "MainThread"

Scrape = Mapping[tuple[str, str, str], float]


def scrape(daemon: Serving) -> Scrape:
    """Return all values by metric, group and task; without a task, the sum over the group's series.

    Of threads, only those that run a loop: libuv can have another, for io_uring.
    """
    return look(daemon)[0]


def look(daemon: Serving) -> tuple[Scrape, float]:
    """Return a scrape, and when the last poll before it was (CLOCK_MONOTONIC)."""
    found: dict[tuple[str, str, str], float] = {}
    text = daemon.get("/metrics")[1]
    for metric, inside, value in re.findall(r"^(threadwatch_\w+){(.*)} (\S+)$", text, re.MULTILINE):
        labels: dict[str, str] = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        if labels.get("thread", LOOPED) != LOOPED:
            continue
        key = metric, labels.get("group", ""), labels.get("task") or labels.get("le") or ""
        found[key] = found.get(key, 0.0) + float(value)
    polled = re.search(r"^threadwatch_last_poll_timestamp_seconds (\S+)$", text, re.MULTILINE)
    return found, monotonic_at(float(polled[1])) if polled else 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What has passed between two reports of a program, and what the daemon says of that time."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    first: Scrape
    last: Scrape
    group: str
    first_at: float
    """When the last poll before the scrape was (CLOCK_MONOTONIC)."""
    last_at: float

    @property
    def seconds(self) -> float:
        """Return the time between both."""
        return float(self.after["time"] - self.before["time"])

    def late(self, of: float) -> float:
        """Return the share of a time ``of``, in seconds, that can be missing or too much."""
        apart = abs(self.before["time"] - self.first_at) + abs(self.after["time"] - self.last_at)
        return LATE + max(float(apart) - APART_S, 0.0) / of

    def seen(self, metric: str, last: str = "") -> float:
        """Return what a counter has gained."""
        key = metric, self.group, last
        return self.last.get(key, 0.0) - self.first.get(key, 0.0)

    def used(self, task: str) -> float:
        """Return the CPU time that a task has measured."""
        return float(self.after["used"][task] - self.before["used"][task])

    @property
    def looks(self) -> float:
        """Return how many looks there were."""
        return self.seen(COUNT)

    def error(self, share: float, looks: float) -> float:
        """Return the error that chance allows a share which has been measured by this number of looks."""
        return WRONG * math.sqrt(max(share * (1 - share), 0.01) / looks)


def settled(daemon: Serving, group: str) -> float:
    """Return the CPU time of the thread that is no task's: what it is again and again, while that runs on."""
    seen: dict[float, set[float]] = {}

    def look() -> bool:
        values = scrape(daemon)
        thread = values["threadwatch_thread_cpu_seconds_total", group, ""]
        tasks = sum(
            values[CPU, group, task] for metric, of, task in values if (metric, of) == (CPU, group)
        )
        rest = round(thread - tasks, 6)
        seen.setdefault(rest, set()).add(thread)
        return rest == min(seen) and len(seen[rest]) >= 3

    until(look, "nothing waits to be charged to a task")
    return min(seen)


@dataclass(frozen=True, slots=True)
class Run:
    """A daemon, the programs that it watches, and what has passed."""

    daemon: Serving
    told: Mapping[str, Told]
    unsettled: Mapping[str, tuple[float, float]]
    """CPU time of each loop's thread that is no task's, at the beginning and at the end."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a loop on each interpreter, one that is always blocked, and one that is not to be looked at."""
    mark = uuid.uuid4().hex
    groups: list[dict[str, Any]] = [
        {"name": name, "match": {"cmdline": f"{mark}-{name} "}} for name in (*PLANNED, "blocked")
    ]
    groups.append({"name": "off", "match": {"cmdline": f"{mark}-off "}, "tasks": {"rate": 0}})
    config = {
        "poll_interval": "200ms",
        "unmatched": "ignore",
        "waits": {"rate": 100},
        "tasks": {"rate": 100},
        "groups": groups,
    }
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        path = Path(place) / "threadwatch.yml"
        path.write_text(json.dumps(config))
        loads: dict[str, Load] = {}
        for name, version in {**PLANNED, "blocked": (3, 12), "off": (3, 12)}.items():
            plan = "plan" if name in PLANNED else "blocked"
            mode = "publish" if version == (3, 15) else "plain"
            interpreter = testbed.require(*version)
            extra: dict[str, str] = {}
            if name in UVLOOPS:
                interpreter, extra = with_ring(interpreter, UVLOOPS[name], Path(place))
            load = Load(
                *(interpreter, "load_tasks.py", f"{mark}-{name}", plan),
                mode=mode,
                environment=extra,
            )
            stack.callback(load.close)
            loads[name] = load
        for load in loads.values():
            load.hear("ready")
        daemon = stack.enter_context(serving(Path(place), f"--config.file={path}", prefix=FIRST))
        until(
            lambda: all((COUNT, name, "") in scrape(daemon) for name in (*PLANNED, "blocked")),
            "the loops",
        )
        began = {name: settled(daemon, name) for name in PLANNED}
        (first, first_at), before = look(daemon), _asked(loads)

        def seen() -> bool:
            now = scrape(daemon)
            return all(now[COUNT, n, ""] - first[COUNT, n, ""] >= LOOKS for n in PLANNED)

        until(seen, f"{LOOKS} looks at each loop", 180)
        (last, last_at), after = look(daemon), _asked(loads)
        told = {
            name: Told(
                before.get(name, {}), after.get(name, {}), first, last, name, first_at, last_at
            )
            for name in loads
        }
        yield Run(daemon, told, {name: (began[name], settled(daemon, name)) for name in PLANNED})


def _asked(loads: Mapping[str, Load]) -> dict[str, dict[str, Any]]:
    """Return what the programs have measured so far."""
    for name in PLANNED:
        loads[name].go()
    return {name: loads[name].hear("measured") for name in PLANNED}


def test_kinds(run: Run) -> None:
    """Each loop is of its kind."""
    for name in PLANNED:
        labels = f'{{group="{name}",kind="{"uvloop" if name in UVLOOPS else "asyncio"}"'
        assert f"threadwatch_loop_info{labels}" in run.daemon.get("/metrics")[1]


every_loop = pytest.mark.parametrize("name", PLANNED)


@every_loop
def test_no_cpu_time_is_lost_or_charged_twice(run: Run, name: str) -> None:
    """What the tasks have used is all that their thread has used since its loop was first seen."""
    before, after = run.unsettled[name]
    assert after == pytest.approx(before, abs=1e-5)


@every_loop
def test_cpu_time_by_task(run: Run, name: str) -> None:
    """Each task's share is what it has measured of itself, but for what chance allows."""
    told = run.told[name]
    thread = float(told.after["thread"] - told.before["thread"])
    tasks = {task: told.seen(CPU, task) for task in USED}
    # A look takes a CPU itself, and finds the thread on one half as often where there are two.
    looks = told.looks * thread / told.seconds / 2
    for task, seen in tasks.items():
        share = told.used(task) / thread
        found = seen / thread
        print(f"{name} {task}: {found:.3f}, of itself {share:.3f}, by {looks:.0f} looks")
        assert found == pytest.approx(share, abs=told.error(share, looks) + told.late(thread)), task


@every_loop
def test_a_task_that_blocks_holds_its_loop(run: Run, name: str) -> None:
    """A task that sleeps without giving way has used no CPU time, and held and blocked the loop meanwhile."""
    told = run.told[name]
    slept = float(told.after["slept"] - told.before["slept"]) / told.seconds
    held = told.seen(HELD, "sleeper") / told.seconds
    assert held == pytest.approx(slept, abs=told.error(slept, told.looks) + told.late(told.seconds))
    assert told.seen(CPU, "sleeper") < 0.05 * told.seconds
    assert 0 < told.seen(BLOCKED, "sleeper") <= told.seen(HELD, "sleeper") + 1e-6
    everything = sum(
        told.seen(HELD, task) for metric, of, task in told.last if (metric, of) == (HELD, name)
    )
    assert everything <= told.seconds * (1 + told.late(told.seconds))


@every_loop
def test_lags(run: Run, name: str) -> None:
    """Ages at random moments are distributed as what events wait for, by the loop's own measure."""
    told = run.told[name]
    for number, bound in enumerate(BOUNDS):
        true = float(told.after["away"][number] - told.before["away"][number]) / told.seconds
        later = 1 - told.seen("threadwatch_loop_lag_seconds_bucket", str(bound)) / told.looks
        print(f"{name} > {bound}: {later:.3f}, of itself {true:.3f}, by {told.looks:.0f} looks")
        assert later == pytest.approx(
            true, abs=told.error(true, told.looks) + told.late(told.seconds)
        ), bound
    assert told.last["threadwatch_loop_lag_max_seconds", name, ""] > 0.15


@every_loop
def test_living_tasks(run: Run, name: str) -> None:
    """Each task that lives is counted once, whether it is ready or waits; a callback is no task."""
    values = run.told[name].last
    counts = {
        task: values.get(("threadwatch_tasks", name, task)) for task in (*USED, "sleeper", "plan")
    }
    assert counts == {"heavy": 1, "light": 1, "(callback) beat": None, "sleeper": 1, "plan": 1}


def test_a_process_that_rests_with_its_loop_held(run: Run) -> None:
    """A loop that is blocked all the time is blocked while that passes, though its process uses no CPU.

    What is ready to run waits for it.
    """
    told = run.told["blocked"]
    seconds = told.last_at - told.first_at
    assert told.seen(BLOCKED, STUCK) == pytest.approx(seconds, abs=1.5)
    assert told.last["threadwatch_loop_lag_max_seconds", "blocked", ""] > seconds
    assert told.last["threadwatch_loop_ready", "blocked", ""] == 3


def test_a_rate_of_0_looks_at_no_loop(run: Run) -> None:
    """A group that switches tasks off has no series of them; there are no errors either."""
    values = run.told["off"].last
    assert ("threadwatch_group_processes", "off", "") in values
    metrics = {metric for metric, group, _ in values if group == "off"}
    assert not {metric for metric in metrics if "task" in metric or "loop" in metric}
    assert (
        "tasks" not in run.daemon.get("/metrics")[1].partition("threadwatch_read_errors_total{")[2]
    )


def test_without_permission_there_are_no_tasks() -> None:
    """A daemon that may not read the process's memory has no series of loops, and an error that says so."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        path = Path(place) / "threadwatch.yml"
        group = {"name": "shop", "match": {"comm": "python"}}
        path.write_text(
            json.dumps({"poll_interval": "200ms", "unmatched": "ignore", "groups": [group]})
        )
        path.chmod(0o644)
        load = Load(testbed.require(3, 12), "load_tasks.py", mark, "plan", mode="plain")
        try:
            load.hear("ready")
            arguments = f"--config.file={path}"
            with serving(Path(place), arguments, prefix=NOBODY) as daemon:
                until(
                    lambda: '{reason="denied",source="syscall"}' in daemon.get("/metrics")[1],
                    "denied",
                )
                until(lambda: float(daemon.metric("threadwatch_polls_total") or 0) > 5, "polls")
                assert "threadwatch_task" not in daemon.get("/metrics")[1]
        finally:
            load.close()
