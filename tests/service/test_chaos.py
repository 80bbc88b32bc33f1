"""A real daemon among real processes that mean harm, and a witness whose numbers must stay right.

The daemon is the same through all of it, and the witness too: what one target has done to them would
show with the next.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import testbed
from tests.harness import TARGETS, environ, threadwatch, until
from tests.serving import Serving, serving
from tests.soak import checks
from tests.soak.witness import Witness

MIB = 1 << 20
FREEZER = Path("/sys/fs/cgroup/freezer")
TABLES = (["shrink"], ["tear"], ["flood", "48"], ["memfds", "1000"])
CHAOS = 'threadwatch_group_published_processes{group="chaos"}'
POLL_CPU = "threadwatch_poll_cpu_seconds_total"
PUBLISHED = 'threadwatch_group_published_processes{group="witness"}'


class Siege:
    """The daemon and the witness."""

    def __init__(self, daemon: Serving, witness: Witness) -> None:
        self.daemon = daemon
        self.witness = witness
        self.pid = daemon.process.pid
        self.rss = self.memory()

    def polls(self) -> float:
        """Return how many there have been."""
        return float(self.daemon.metric("threadwatch_polls_total") or 0)

    def await_polls(self, count: int) -> None:
        """Wait for this many more."""
        begin = self.polls()
        until(lambda: self.polls() >= begin + count, f"{count} polls")

    def files(self) -> int:
        """Return how many the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Return what of it is resident, in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()

    def text(self) -> str:
        """Return the metrics."""
        return self.daemon.get("/metrics")[1]

    def groups(self) -> dict[str, checks.GroupCpu]:
        """Return the groups by name, after the check that all add up."""
        families = text_string_to_metric_families(self.text())
        found = checks.groups(sample for family in families for sample in family.samples)
        assert checks.conservation(found) == []
        return {group.name: group for group in found}

    def check(self) -> None:
        """Check that it polls, everything adds up, the witness is shown right, and nothing was unforeseen."""
        wrong = [found for found in self.witness.compare(self.daemon) if found.wrong]
        assert wrong == []
        self.groups()
        assert self.memory() < self.rss + 200 * MIB
        assert self.daemon.process.poll() is None, self.daemon.text()
        assert "Traceback" not in self.daemon.text()
        assert "exception" not in self.daemon.text()


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Yield a daemon that polls five times a second, and a witness that it knows."""
    directory = tmp_path_factory.mktemp("chaos")
    mark = uuid.uuid4().hex
    config = directory / "threadwatch.yml"
    group = {"name": "witness", "match": {"cmdline": f"{mark} witness"}}
    config.write_text(
        json.dumps({"poll_interval": "200ms", "expire_after": "1s", "groups": [group]})
    )
    with serving(directory, f"--config.file={config}", "--log.level=debug") as daemon:
        witness = Witness(mark, [(3, 12)])
        try:
            until(
                lambda: float(daemon.metric(PUBLISHED) or 0) == 1,
                "the witness is known",
            )
            siege = Siege(daemon, witness)
            siege.check()
            yield siege
        finally:
            witness.close()


@contextlib.contextmanager
def harm(*roles: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Targets that mean harm, once the harm is under way; they and their children end with this.

    Those that make many processes are in a PID namespace of their own, which ends with the first of them.
    """
    processes = []
    try:
        for role in roles:
            crowd = role[0] in {"bomb", "chain"}
            processes.append(
                subprocess.Popen(
                    [
                        *(("unshare", "--pid", "--fork", "--kill-child") if crowd else ()),
                        *(sys.executable, str(TARGETS / "chaos.py"), *role),
                    ],
                    env=environ("publish", {}),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield processes
        assert [process.poll() for process in processes] == [None] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_tables_that_lie(siege: Siege) -> None:
    """Tables shrink, grow, tear, change without end, and say what is not so: only their owners look odd.

    All at once. Polls go on, the witness has its own names, no process has another's time, and
    afterwards no file is left open.
    """
    pid = siege.witness.processes[0].pid
    files = siege.files()
    with harm(["lie", str(pid)], *TABLES, ["chain", "300"]) as (liar, *_):
        siege.check()
        shown = json.loads(run("ps", "--json", str(pid), str(liar.pid)))
    by_pid = {process["pid"]: process for process in shown}
    names = {thread["name"] for thread in by_pid[pid]["threads"]}
    assert names == {"MainThread", "steady", "bursts", "brief"}
    lied = by_pid[liar.pid]
    assert {thread["tid"] for thread in lied["threads"]} == {liar.pid} | {
        thread["tid"] for thread in lied["threads"] if thread["source"] != "published"
    }
    assert lied["cpu_seconds"] < 1000
    assert sum(thread["cpu_seconds"] for thread in lied["threads"]) <= lied["cpu_seconds"] + 0.02
    siege.check()
    until(lambda: siege.files() <= files + 8, "the daemon has let go of them")


def test_tables_that_claim_to_be_full(siege: Siege) -> None:
    """16 processes that have used next to no CPU time cost the daemon next to none, and no memory."""

    def cost_s() -> float:
        polls, cpu_s = siege.polls(), float(siege.daemon.metric(POLL_CPU) or 0)
        siege.await_polls(10)
        return (float(siege.daemon.metric(POLL_CPU) or 0) - cpu_s) / (siege.polls() - polls)

    memory, before_s = siege.memory(), cost_s()
    with harm(*[["claim"]] * 16):
        until(lambda: float(siege.daemon.metric(CHAOS) or 0) == 16, "they are watched")
        after_s = cost_s()
        # each may have paid for some 2,000 slots by starting its interpreter, at 0.7 KiB
        assert siege.memory() < memory + 40 * MIB
        siege.check()
    assert after_s < before_s + 0.1


def test_a_program_after_another(siege: Siege, tmp_path: Path) -> None:
    """A process that is always another program makes no more groups than there are polls."""
    before = len(siege.groups())
    begin = siege.polls()
    with harm(["execs", str(time.monotonic() + 60), str(tmp_path)]):
        siege.check()
        until(lambda: len(list(tmp_path.iterdir())) > 30, "programs")
    assert len(siege.groups()) - before <= siege.polls() - begin + 1


def test_names_that_would_be_something_else(siege: Siege) -> None:
    """What a target is called stays a value: in metrics, the log, the page, and on every terminal."""
    with harm(["names"]) as (target,):
        siege.check()
        text = siege.text()
        families = list(text_string_to_metric_families(text))
        assert "evil" not in {family.name for family in families}
        assert len(re.findall(r"^threadwatch_polls_total ", text, re.MULTILINE)) == 1
        shown = {
            sample.labels["thread"]
            for family in families
            for sample in family.samples
            if sample.name == "threadwatch_threads" and sample.labels["group"] == "chaos"
        }
        assert 'x"} 1\nthreadwatch_polls_total 99999\ny{a="' in shown
        assert {"'(other)'", "'(unattributed)'", "(unnamed)"} <= shown
        pid = str(target.pid)
        for command in (
            ("ps", pid),
            ("ps", "no such application"),
            ("doctor", pid),
            ("top", "-b", "-n", "1"),
        ):
            _is_plain(run(*command), command)
        threads = json.loads(run("ps", "--json", pid))[0]["threads"]
        assert "\x1b]0;owned\x07\x1b[31mred\x1b[0m\x1b[2J" in {t["name"] for t in threads}
    for line in siege.daemon.text().splitlines():
        _is_plain(line, ("the log",))
        assert line.startswith("time=")


def run(*arguments: str) -> str:
    """Return what a command of ours says, on standard output and error."""
    return subprocess.run(
        threadwatch(*arguments),
        cwd=testbed.CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "200"},
        timeout=60,
        check=False,
    ).stdout.decode("utf-8")


def _is_plain(text: str, where: tuple[str, ...]) -> None:
    """Return whether no character commands a terminal: no control but line ends, none that turns text."""
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c != "\n"}
    assert not bad, (where, bad)


def test_a_fork_bomb(siege: Siege) -> None:
    """Five thousand processes at once: polls go on, the witness is right, and all is let go of again."""
    files = siege.files()
    with harm(["bomb", "5000"]):
        until(
            lambda: (
                float(siege.daemon.metric('threadwatch_group_processes{group="chaos"}') or 0)
                >= 5000
            ),
            "the processes are seen",
        )
        siege.check()
    until(
        # # one may be a zombie that no parent waits for
        lambda: float(siege.daemon.metric('threadwatch_group_processes{group="chaos"}') or 0) < 10,
        "the processes are gone",
    )
    siege.check()
    until(lambda: siege.files() <= files + 8, "the daemon has let go of them")


def test_stopped_in_the_middle_of_a_write(siege: Siege) -> None:
    """By SIGSTOP or a cgroup's freezer, in a slot that is never finished or anywhere: no poll waits."""
    with harm(["frozen"], ["tear"]) as (stopped, target):
        until(lambda: _state(stopped.pid) == "T", "it has stopped itself")
        with frozen(target.pid):
            siege.check()
        os.kill(stopped.pid, signal.SIGCONT)
        siege.check()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stopped by the freezer of cgroup v2 or v1 meanwhile (cgroups(7))."""
    two = next(
        (
            place
            for place in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
            if (place / "cgroup.controllers").exists()
        ),
        None,
    )
    place = (two or FREEZER) / f"threadwatch-test-{pid}"
    place.mkdir()
    switch, on, off = ("cgroup.freeze", "1", "0") if two else ("freezer.state", "FROZEN", "THAWED")
    try:
        (place / "cgroup.procs").write_text(str(pid))
        (place / switch).write_text(on)
        yield
    finally:
        (place / switch).write_text(off)
        (place.parent / "cgroup.procs").write_text(str(pid))
        place.rmdir()


def test_no_file_descriptors_left(siege: Siege) -> None:
    """While the daemon can open nothing, it polls, says so, and is right again afterwards."""
    soft, hard = resource.prlimit(siege.pid, resource.RLIMIT_NOFILE)
    # a connection that is open already: no other is accepted meanwhile
    address = siege.daemon.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as client:

        def polls() -> float:
            client.request("GET", "/metrics")
            found = re.search(
                r"^threadwatch_polls_total (\S+)$",
                client.getresponse().read().decode(),
                re.MULTILINE,
            )
            return float(found[1]) if found else 0

        begin = polls()
        resource.prlimit(siege.pid, resource.RLIMIT_NOFILE, (4, hard))
        try:
            with harm(["memfds", "10"]):
                until(lambda: polls() >= begin + 5, "polls without files")
        finally:
            resource.prlimit(siege.pid, resource.RLIMIT_NOFILE, (soft, hard))
    siege.check()
    assert 'reason="emfile"' in siege.text()


def test_memory_ceases_to_grow(siege: Siege) -> None:
    """However long tables are shrunk, torn and filled anew, the daemon stops growing."""
    most, since = siege.memory(), siege.polls()

    def flat() -> bool:
        nonlocal most, since
        if siege.memory() > most + 4 * MIB:
            most, since = siege.memory(), siege.polls()
        return siege.polls() >= since + 15

    with harm(*TABLES):
        until(flat, "no growth for 15 polls")
    siege.check()


def _state(pid: int) -> str:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(") ")[2][0]
