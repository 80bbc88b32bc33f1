"""What prometheus-process-exporter gets wrong about threads, shown on it, and right here on the same target.

Both watch the target in the same run. It runs on a Python that gives the kernel its threads' names, so
that they know the same ones. The peer is Debian's package.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import testbed
from tests.harness import until
from tests.loads import Load
from tests.serving import Serving, serving

NAMES_ITS_THREADS = (3, 14)
"""The first CPython that does, towards the kernel."""
CUT = "queue-worker-xéy"
"""The kernel keeps 15 bytes of it, the last of which is half of a character."""
TICK = 0.01


class Peer:
    """process-exporter on a free port, for the processes that carry a mark."""

    def __init__(self, directory: Path, mark: str) -> None:
        self.log = directory / "peer.log"
        config = directory / "peer.yml"
        config.write_text(json.dumps({"process_names": [{"name": "peer", "cmdline": [mark]}]}))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("prometheus-process-exporter", "-threads", "-config.path", str(config)),
                    *("-web.listen-address", "127.0.0.1:0"),
                ],
                stdout=log,
                stderr=log,
            )
        until(lambda: self.address() or self.process.poll() is not None, "the peer listens")

    def address(self) -> str | None:
        """Return where it listens."""
        found = re.search(r"address=(127\.0\.0\.1:\d+)", self.log.read_text())
        return found[1] if found else None

    def scrape(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the group's metrics, by name, then by the labels' values in the order of their names."""
        with urllib.request.urlopen(f"http://{self.address()}/metrics", timeout=60) as response:
            return parsed(response.read().decode())

    def cpu(self, thread: str) -> float | None:
        """Return a fresh scrape's CPU time of the threads of a name."""
        found = self.scrape().get("namedprocess_namegroup_thread_cpu_seconds_total", {})
        values = [value for labels, value in found.items() if thread in labels]
        return sum(values) if values else None


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of an exposition by name, then by the labels' values in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sample.labels[key] for key in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


class Ours:
    """threadwatch on the same target."""

    def __init__(self, daemon: Serving) -> None:
        self.daemon = daemon

    def value(self, metric: str, thread: str) -> float:
        """Return the sum over the series of a thread's name, two polls from now."""
        polls = float(self.daemon.metric("threadwatch_polls_total") or 0)
        until(
            lambda: float(self.daemon.metric("threadwatch_polls_total") or 0) >= polls + 3, "polls"
        )
        found = parsed(self.daemon.get("/metrics")[1]).get(f"threadwatch_{metric}", {})
        return sum(value for labels, value in found.items() if thread in labels)


class Bench:
    """A target and both exporters, which are started when they are asked for."""

    def __init__(self, directory: Path, scenario: str) -> None:
        self.directory = directory
        self.mark = f"peers-{directory.name}-{scenario}"
        python = testbed.require(*NAMES_ITS_THREADS)
        self.load = Load(python, "load_peers.py", self.mark, scenario)
        self.load.hear("ready")
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        """Start the peer."""
        self.peers.append(Peer(self.directory, self.mark))
        return self.peers[-1]

    def config(self, interval: str) -> str:
        """Return the argument that configures threadwatch."""
        path = self.directory / "threadwatch.yml"
        group = {"name": "peer", "match": {"cmdline": self.mark}}
        path.write_text(
            json.dumps({"poll_interval": interval, "unmatched": "ignore", "groups": [group]})
        )
        return f"--config.file={path}"

    def close(self) -> None:
        """End everything."""
        self.load.close()
        for peer in self.peers:
            peer.process.kill()
            peer.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    """Starts a target in a scenario."""
    benches: list[Bench] = []

    def start(scenario: str) -> Bench:
        benches.append(Bench(tmp_path, scenario))
        return benches[-1]

    yield start
    for bench in benches:
        bench.close()


def test_a_name_that_is_absent_for_one_scrape(
    start: Callable[[str], Bench], tmp_path: Path
) -> None:
    """The peer's counter falls when a name was absent for one scrape; ours goes on."""
    bench = start("returning")
    load = bench.load
    with serving(tmp_path, bench.config("100ms")) as daemon:
        ours, peer = Ours(daemon), bench.peer()
        peer.scrape()
        theirs = []
        used_ns, shown = 0, 0.0
        load.go()
        for _ in range(2):
            load.hear("born")
            peer.scrape()
            load.go()
            used_ns = load.hear("worked")["used_ns"]
            theirs.append(peer.cpu("batch"))
            shown = ours.value("thread_cpu_seconds_total", "batch")
            assert used_ns / 1e9 <= shown <= used_ns / 1e9 + 2 * TICK
            load.go()
            load.hear("gone")
            theirs.append(peer.cpu("batch"))
            assert ours.value("thread_cpu_seconds_total", "batch") >= shown
            load.go()
        print(f"process-exporter: {theirs}; threadwatch: {shown} of {used_ns / 1e9}")
    first, absent, second, _ = theirs
    assert absent is None
    assert first is not None
    assert second is not None
    assert first > 0.4
    assert second < 0.3


def test_cpu_time_before_the_first_look(start: Callable[[str], Bench], tmp_path: Path) -> None:
    """The peer shows nothing of what a thread used before its first scrape; here a whole life counts."""
    bench = start("early")
    bench.load.go()
    used_ns = bench.load.hear("worked")["used_ns"]
    peer = bench.peer()
    peer.scrape()
    theirs = peer.cpu("early")
    assert theirs == 0
    with serving(tmp_path, bench.config("100ms")) as daemon:
        shown = Ours(daemon).value("thread_cpu_seconds_total", "early")
        print(f"process-exporter: {theirs}; threadwatch: {shown} of {used_ns / 1e9}")
        assert shown == pytest.approx(used_ns / 1e9, rel=0.005)


def test_threads_that_end_between_two_scrapes(
    start: Callable[[str], Bench], tmp_path: Path
) -> None:
    """The peer has never seen them; here their CPU time, starts and ends stand under their name."""
    bench = start("brief")
    with serving(tmp_path, bench.config("100ms")) as daemon:
        ours, peer = Ours(daemon), bench.peer()
        bench.load.go()
        bench.load.hear("begin")
        assert peer.cpu("other") is not None
        ours.value("threads", "other")
        bench.load.go()
        used_ns = bench.load.hear("worked")["used_ns"]
        assert peer.cpu("brief") is None
        shown = ours.value("thread_cpu_seconds_total", "brief")
        assert shown == pytest.approx(used_ns / 1e9, rel=0.005)
        for what in ("started", "ended"):
            assert ours.value(f"threads_{what}_total", "brief") == 20
        print(f"process-exporter: none; threadwatch: {shown} of {used_ns / 1e9}")


def test_a_process_with_one_thread(start: Callable[[str], Bench], tmp_path: Path) -> None:
    """The peer has no thread series for it at all; here the main thread has."""
    bench = start("single")
    with serving(tmp_path, bench.config("100ms")) as daemon:
        ours, peer = Ours(daemon), bench.peer()
        bench.load.go()
        bench.load.hear("alone")
        peer.scrape()
        bench.load.go()
        used_ns = bench.load.hear("worked")["used_ns"]
        theirs = peer.scrape()
        assert theirs["namedprocess_namegroup_num_procs"] == {("peer",): 1}
        assert not any("_thread_" in name for name in theirs)
        shown = ours.value("thread_cpu_seconds_total", "MainThread")
        assert shown == pytest.approx(used_ns / 1e9, rel=0.005, abs=TICK / 2)


def test_states_of_a_process(start: Callable[[str], Bench], tmp_path: Path) -> None:
    """The peer counts the main thread twice; here the states add up to the threads that there are."""
    bench = start("asleep")
    with serving(tmp_path, bench.config("100ms")) as daemon:
        bench.load.go()
        bench.load.hear("asleep")
        theirs = bench.peer().scrape()
        assert theirs["namedprocess_namegroup_num_threads"] == {("peer",): 4}
        assert sum(theirs["namedprocess_namegroup_states"].values()) == 5
        assert Ours(daemon).value("threads", "peer") == 4


def test_a_name_that_the_kernel_has_cut(start: Callable[[str], Bench], tmp_path: Path) -> None:
    """The peer dies of half a character; here it is only what the kernel says, and the name is whole."""
    bench = start("cut")
    with serving(tmp_path, bench.config("100ms")) as daemon:
        bench.load.go()
        bench.load.hear("asleep")
        peer = bench.peer()
        with pytest.raises((OSError, http.client.HTTPException)):
            peer.scrape()
        assert peer.process.wait(60) == 2  # a panic, in Go
        assert "is not valid UTF-8" in peer.log.read_text("utf-8", "replace")
        assert Ours(daemon).value("threads", CUT) == 1


def test_what_a_scrape_costs(start: Callable[[str], Bench], tmp_path: Path) -> None:
    """Each scrape of the peer reads every thread; here scrapes read nothing of them, however many."""
    bench = start("many")
    # polls so seldom that none comes between
    with serving(tmp_path, bench.config("30s")) as daemon:
        bench.load.go()
        bench.load.hear("asleep")
        peer = bench.peer()
        peer.scrape()
        daemon.get("/metrics")
        theirs = reads_per_scrape(peer.process.pid, peer.scrape)
        while True:
            polls = daemon.metric("threadwatch_polls_total")
            ours = reads_per_scrape(daemon.process.pid, lambda: daemon.get("/metrics"))
            if polls == daemon.metric("threadwatch_polls_total"):
                break  # else a poll has come between
        print(f"reads for a scrape: process-exporter {theirs}; threadwatch {ours}")
        assert theirs >= 200
        assert ours < 20


def reads_per_scrape(pid: int, scrape: Callable[[], object]) -> float:
    """Return how many read calls a process makes for a scrape, of ten."""
    before = reads(pid)
    for _ in range(10):
        scrape()
    return (reads(pid) - before) / 10


def reads(pid: int) -> int:
    """Return how many read calls a process has made: syscr of proc_pid_io(5)."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    return int(dict(line.split(": ") for line in text.splitlines())["syscr"])
