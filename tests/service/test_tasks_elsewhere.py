"""What ``serve`` says of loops of trio and gevent, against what they write down themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import until
from tests.loops_outside import GEVENTS, TRIOS, names_of, started
from tests.loops_truth import Truth
from tests.service.test_tasks import COUNT, FIRST, HELD, WRONG, Scrape, look, scrape
from tests.serving import Serving, serving
from tests.testbed import require

LIBRARIES = {"trio": ((3, 13), dict(TRIOS)["3.13"]), "gevent": ((3, 12), dict(GEVENTS)["3.12"])}
LOOKS = 500
"""At each loop: some five seconds."""
LATE_S = 0.4
"""So much of the time can be missing or too much at both ends, because polls and samples are not at once."""
BOUND_S = 0.005


@dataclass(frozen=True, slots=True)
class Run:
    """A daemon, and what has passed between two scrapes."""

    daemon: Serving
    truths: dict[str, Truth]
    first: Scrape
    last: Scrape
    first_ns: int
    last_ns: int

    @property
    def seconds(self) -> float:
        """Return the time between both."""
        return (self.last_ns - self.first_ns) / 1e9

    def seen(self, metric: str, group: str, last: str = "") -> float:
        """Return what a counter has gained."""
        return self.last.get((metric, group, last), 0.0) - self.first.get(
            (metric, group, last), 0.0
        )

    def error(self, group: str, share: float) -> float:
        """Return how much a share can be wrong, by chance and at both ends."""
        chance = WRONG * math.sqrt(max(share * (1 - share), 0.01) / self.seen(COUNT, group))
        return chance + LATE_S / self.seconds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a loop of each library, and a daemon until it has looked often enough."""
    place = tmp_path_factory.mktemp("loops")
    with ExitStack() as stack:
        files: dict[str, Path] = {}
        for name, (version, release) in LIBRARIES.items():
            (place / name).mkdir()
            program = started(require(*version), place / name, "few", release)
            pid, of_tids = stack.enter_context(program)
            files[name] = of_tids[pid]
        path = place / "threadwatch.yml"
        groups = [{"name": name, "match": {"cmdline": str(place / name)}} for name in LIBRARIES]
        rest = {"poll_interval": "100ms", "unmatched": "ignore", "waits": {"rate": 100}}
        path.write_text(json.dumps({**rest, "tasks": {"rate": 100}, "groups": groups}))
        daemon = stack.enter_context(serving(place, f"--config.file={path}", prefix=FIRST))
        until(lambda: all((COUNT, name, "") in scrape(daemon) for name in LIBRARIES), "the loops")
        first, first_s = look(daemon)

        def looked() -> bool:
            now = scrape(daemon)
            return all(now[COUNT, name, ""] - first[COUNT, name, ""] >= LOOKS for name in LIBRARIES)

        until(looked, f"{LOOKS} looks at each loop", every=0.2)
        last, last_s = look(daemon)
        truths = {
            name: Truth(file, names_of(require(*LIBRARIES[name][0]), LIBRARIES[name][1]))
            for name, file in files.items()
        }
        yield Run(daemon, truths, first, last, round(first_s * 1e9), round(last_s * 1e9))


every_library = pytest.mark.parametrize("name", LIBRARIES)


@every_library
def test_what_has_the_loop(run: Run, name: str) -> None:
    """Each task is named, and has the loop for as long as it says; the sum is the loop's utilization."""
    assert f'threadwatch_loop_info{{group="{name}",kind="{name}"' in run.daemon.get("/metrics")[1]
    spent = run.truths[name].spent_ns(run.first_ns, run.last_ns)
    tasks = {task for metric, group, task in run.last if (metric, group) == (HELD, name)}
    for task in spent.keys() - {None}:
        share = spent[task] / 1e9 / run.seconds
        found = run.seen(HELD, name, str(task)) / run.seconds
        print(f"{name} {task}: {found:.3f}, of itself {share:.3f}")
        assert found == pytest.approx(share, abs=run.error(name, share)), task
    share = 1 - spent[None] / 1e9 / run.seconds
    found = sum(run.seen(HELD, name, task) for task in tasks) / run.seconds
    print(f"{name} in all: {found:.3f}, of itself {share:.3f}")
    assert found == pytest.approx(share, abs=run.error(name, share))
    assert len(spent) == 3


@every_library
def test_how_late_the_loop_is(run: Run, name: str) -> None:
    """What events wait is distributed as the loop's own record says; what is ready is told."""
    late_ns = run.truths[name].late_ns(run.first_ns, run.last_ns, round(BOUND_S * 1e9))
    share = late_ns / 1e9 / run.seconds
    below = run.seen("threadwatch_loop_lag_seconds_bucket", name, str(BOUND_S))
    found = 1 - below / run.seen(COUNT, name)
    print(f"{name} later than {BOUND_S} s: {found:.3f}, of itself {share:.3f}")
    assert found == pytest.approx(share, abs=run.error(name, share))
    assert ("threadwatch_loop_ready", name, "") in run.last
