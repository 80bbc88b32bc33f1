"""What ``serve`` and ``ps`` say of the GIL and of waits, and what they leave out where they may not look."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import DEADLINE, threadwatch, until, without_cpu_s
from tests.serving import Serving, application, serving
from tests.testbed import CHECKOUT
from threadwatch.model.states import NAMES, OF_LETTER

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
FIRST = ("chrt", "--fifo", "1")
"""Give the daemon priority: one that has to wait for a CPU samples when one is free, not when it
has chosen."""
CONTEND = """
import socket
def count():
    while True:
        sum(range(100))
for number in range(3):
    threading.Thread(target=count, name="counter", daemon=True).start()
pair = socket.socketpair()
threading.Thread(target=pair[0].recv, args=(1,), name="receiver", daemon=True).start()
def tick():
    while True:
        time.sleep(0.02)
threading.Thread(target=tick, name="ticker", daemon=True).start()
"""
REASONS = {*NAMES} - {*OF_LETTER.values(), "runnable", "other"}
STATE = "threadwatch_thread_state_seconds_total"
HELD = "threadwatch_gil_held_seconds_total"
WAIT = "threadwatch_gil_wait_seconds_total"
ERRORS = "threadwatch_read_errors_total"
PS_SAMPLES = 50
"""What ps takes in a second; chance moves a share by 4.5 standard errors in one of 150,000 runs."""
POLLS = "threadwatch_polls_total"
SAMPLES = "threadwatch_wait_samples_total"

Scrape = dict[tuple[str, ...], float]


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that every user may look into; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def configure(place: Path, text: str) -> str:
    """Return the argument for a configuration with this text; polls often."""
    path = place / "threadwatch.yml"
    path.write_text(f"poll_interval: 200ms\n{text}")
    path.chmod(0o644)
    return f"--config.file={path}"


def scrape(daemon: Serving, group: str = "shop") -> Scrape:
    """Return what a group has: values by metric and thread, and state where there is one."""
    found = {}
    pattern = r"^(\w+){(.*)} (\S+)$"
    for metric, inside, value in re.findall(pattern, daemon.get("/metrics")[1], re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        if labels.get("group") == group and "thread" in labels:
            key = [metric, labels["thread"], *([labels["state"]] if "state" in labels else [])]
            found[tuple(key)] = float(value)
    return found


def states_now(daemon: Serving, group: str = "shop") -> dict[str, set[str]]:
    """Return the states that each thread name has threads in."""
    found: dict[str, set[str]] = {}
    for key, value in scrape(daemon, group).items():
        if key[0] == "threadwatch_threads" and value:
            found.setdefault(key[1], set()).add(key[2])
    return found


def number(daemon: Serving, metric: str) -> float:
    """Return the value of a metric; 0 if it is not there."""
    return float(daemon.metric(metric) or 0)


def polls(daemon: Serving, count: int) -> None:
    """Wait for this many more."""
    before = number(daemon, POLLS)
    until(lambda: number(daemon, POLLS) >= before + count, f"{count} polls")


def hup(daemon: Serving, place: Path, text: str) -> None:
    """Have it read another configuration."""
    reads = daemon.text().count("configuration read again")
    configure(place, text)
    os.kill(daemon.process.pid, signal.SIGHUP)
    until(lambda: daemon.text().count("configuration read again") > reads, "it is read again")
    polls(daemon, 2)


def test_who_holds_it_and_who_waits(place: Path) -> None:
    """By two scrapes: three that compute hold the GIL nearly always, and wait for it most of their time."""
    with (
        application(code=CONTEND),
        serving(place, configure(place, "waits: {rate: 100}\n"), prefix=FIRST) as daemon,
    ):
        until(lambda: (HELD, "counter") in scrape(daemon), "the GIL")
        polls(daemon, 5)
        tids = [int(tid) for tid in os.listdir(f"/proc/{daemon.process.pid}/task")]
        late = without_cpu_s(tids)
        before = scrape(daemon)
        samples = number(daemon, SAMPLES)
        polls(daemon, 10)
        samples = number(daemon, SAMPLES) - samples
        after = scrape(daemon)
        late = without_cpu_s(tids) - late
        info = daemon.get("/metrics")[1]
    gained = {key: value - before.get(key, 0) for key, value in after.items()}
    # All time of a thread that stays is in some state: between the two polls there was this much.
    elapsed = sum(s for key, s in gained.items() if key[:2] == (STATE, "receiver"))
    assert elapsed > 1
    states = {key[2]: s / elapsed for key, s in gained.items() if key[:2] == (STATE, "counter")}
    assert sum(states.values()) == pytest.approx(3, rel=0.01)
    assert gained[WAIT, "counter"] == pytest.approx(gained[STATE, "counter", "gil"])
    busy = states["running"] + states.get("runnable", 0)
    assert states["gil"] == pytest.approx(3 - busy, abs=0.3)
    held = {key[1]: s / elapsed for key, s in gained.items() if key[0] == HELD}
    # while one that holds it, or that is about to, waits for a CPU, samples say which; chance exceeds this
    # in less than one of ten million runs
    share = min(states["running"], 1)
    chance = 5.5 * math.sqrt(max(share * (1 - share), 0.05) / samples)
    assert held["counter"] > 0.95 * share - chance
    # a sample counts for the time since the one before, which may have been late
    assert sum(held.values()) < 1.1 + late / elapsed
    assert held["receiver"] == gained[WAIT, "receiver"] == 0
    assert gained[STATE, "receiver", "socket"] == pytest.approx(elapsed, rel=0.01)
    assert 'build="default",gil="on",group="shop"' in info


def test_another_users_process(place: Path) -> None:
    """Without permission, a wait is ``sleeping``, the GIL is absent, and not each sample is an error."""
    only = "unmatched: ignore\ngroups: [{name: shop, match: {cmdline: shop.py}}]\n"
    denied = ERRORS + '{reason="denied",source="%s"}'
    with (
        application(code=CONTEND),
        serving(place, configure(place, "waits: {rate: 50}\n" + only), prefix=NOBODY) as daemon,
    ):
        until(lambda: states_now(daemon), "the application")
        polls(daemon, 20)
        until(lambda: number(daemon, SAMPLES) > 100, "samples")
        found = scrape(daemon)
        # samples find it out, and so do looks at threads that rest
        assert number(daemon, denied % "syscall") == 1
        assert number(daemon, denied % "mem") == 0
    metrics = {key[0] for key in found}
    assert metrics.isdisjoint({HELD, WAIT})
    shown = {key[2] for key in found if key[0] == STATE}
    assert {"running", "sleeping"} <= shown
    assert shown.isdisjoint(REASONS)


def test_sampling_is_switched_off_and_on(place: Path) -> None:
    """Rate 0 asks for nothing and has no reasons; SIGHUP takes another rate, for those at rest as well."""
    with (
        application(code=CONTEND),
        application(name="idle.py"),
        serving(place, configure(place, "waits: {rate: 0}\n")) as daemon,
    ):
        until(lambda: "receiver" in states_now(daemon), "the application")
        until(lambda: "metrics-flush" in states_now(daemon, "idle"), "the other one")
        polls(daemon, 5)
        found = scrape(daemon)
        assert {key[0] for key in found}.isdisjoint({HELD, WAIT})
        assert {key[2] for key in found if key[0] == STATE} <= {
            *("running", "runnable", "sleeping", "disk")
        }
        assert number(daemon, SAMPLES) == 0
        assert ERRORS not in re.sub("# .*", "", daemon.get("/metrics")[1])
        hup(daemon, place, "waits: {rate: 10}\n")
        until(lambda: states_now(daemon).get("receiver") == {"socket"}, "the reason")
        until(lambda: states_now(daemon, "idle").get("metrics-flush") == {"sleep"}, "at rest")
        until(lambda: scrape(daemon).get((HELD, "counter"), 0) > 0, "the GIL")
        hup(daemon, place, "waits: {rate: 0}\n")
        until(lambda: states_now(daemon).get("receiver") == {"sleeping"}, "no reason")
        until(lambda: states_now(daemon, "idle").get("metrics-flush") == {"sleeping"}, "nor there")
        samples, held = number(daemon, SAMPLES), scrape(daemon)[HELD, "counter"]
        polls(daemon, 5)
        assert number(daemon, SAMPLES) == samples
        assert scrape(daemon)[HELD, "counter"] == held
        hup(daemon, place, "waits: {rate: 10}\n")
        until(lambda: scrape(daemon)[HELD, "counter"] > held, "the GIL again")
        until(lambda: states_now(daemon).get("receiver") == {"socket"}, "the reason again")


def test_a_group_with_its_own_rate(place: Path) -> None:
    """One group is sampled and another is not."""
    groups = "groups: [{name: quiet, match: {cmdline: quiet.py}, waits: {rate: 0}}]\n"
    with (
        application(code=CONTEND),
        application(name="quiet.py", code=CONTEND),
        serving(place, configure(place, groups)) as daemon,
    ):
        until(lambda: (HELD, "counter") in scrape(daemon), "the GIL")
        until(lambda: "receiver" in states_now(daemon, "quiet"), "the other")
        polls(daemon, 5)
        until(lambda: states_now(daemon).get("receiver") == {"socket"}, "the reason")
        assert states_now(daemon, "quiet").get("receiver") == {"sleeping"}
        assert {key[0] for key in scrape(daemon, "quiet")}.isdisjoint({HELD, WAIT})


def ps(*arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """Return what ``ps`` prints."""
    return subprocess.run(
        [*prefix, *threadwatch("ps", *arguments)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    ).stdout


def test_ps_shows_the_gil_where_it_can(place: Path) -> None:
    """ps has columns and numbers of the GIL where it is known, and neither where it is not."""
    without = configure(place, "waits: {rate: 0}\n")
    with application(code=CONTEND) as target:
        pid = str(target.pid)
        text = ps(pid, "--interval", "1", prefix=FIRST)
        (process,) = json.loads(ps(pid, "--json", "--interval", "1", prefix=FIRST))
        hidden = ps(pid, prefix=NOBODY)
        (nothing,) = json.loads(ps(pid, "--json", without))
        off = ps(pid, without)
    header = next(line for line in text.splitlines() if "THREAD" in line)
    assert "GIL HELD" in header
    assert "GIL WAIT" in header
    assert re.search(r"GIL held \d+ %|GIL held \d+\.\d %", text)
    threads: dict[str, list[Any]] = {}
    for thread in process["threads"]:
        threads.setdefault(thread["name"], []).append(thread)
    held = [thread["gil_held_percent"] for thread in threads["counter"]]
    waited = [thread["gil_wait_percent"] for thread in threads["counter"]]
    # None: of a thread that no sample has seen
    every = [thread["gil_held_percent"] or 0 for thread in process["threads"]]
    assert process["gil_held_percent"] == pytest.approx(sum(every), abs=0.1)
    assert process["gil_held_percent"] <= 100.01  # rounded
    # Who computes holds it. Where CPUs are missing, it is free while the next one waits for a CPU.
    cpu = sum(thread["cpu_percent"] for thread in threads["counter"])
    assert sum(held) > min(cpu, 100) - 4.5 * 50 / math.sqrt(PS_SAMPLES)
    # on a busy machine a CPU is what they wait for, most of all
    spent = [
        thread["cpu_percent"] + thread["runqueue_wait_percent"] for thread in threads["counter"]
    ]
    assert sum(waited) + sum(spent) > 100
    (receiver,) = threads["receiver"]
    assert (receiver["state"], receiver["gil_held_percent"]) == ("socket", 0)
    assert (process["gil"], process["free_threaded"]) == (True, False)
    for shown in (hidden, off):
        assert "GIL" not in shown
    assert nothing["gil_held_percent"] is None
    assert {t["gil_held_percent"] for t in nothing["threads"]} == {None}
    assert {t["gil_wait_percent"] for t in nothing["threads"]} == {None}
