"""When a real daemon polls, and what it says that costs."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from tests.harness import until
from tests.serving import Serving, application, serving, threads_of

BUSY = """
import threading, time
def work():
    while True:
        time.sleep(0.05)
for number in range(200):
    threading.Thread(target=work, name="busy %d" % number, daemon=True).start()
"""


def value(daemon: Serving, name: str) -> float:
    """Return the value of one of its metrics; 0 before the first poll."""
    return float(daemon.metric(name) or 0)


def polls(daemon: Serving) -> tuple[int, int, float]:
    """Return how many polls there have been, how many have been skipped, and when the last one ended."""
    body = daemon.get("/metrics")[1]
    done, skipped, ended = (
        float(found[1])
        if (found := re.search(rf"^threadwatch_{name} (\S+)$", body, re.MULTILINE))
        else 0
        for name in ("polls_total", "polls_skipped_total", "last_poll_timestamp_seconds")
    )
    return round(done), round(skipped), ended


def on_time(daemon: Serving, interval: float) -> tuple[int, int, float]:
    """Return what :func:`polls` does once a poll was not late: then all that were skipped are counted."""
    seen = polls(daemon)

    def was_on_time() -> bool:
        nonlocal seen
        before, seen = seen, polls(daemon)
        more, left_out, passed = (now - then for now, then in zip(seen, before, strict=True))
        return (more, left_out) == (1, 0) and passed < 1.5 * interval

    until(was_on_time, "a poll that is not late")
    return seen


def test_missed_polls_are_counted_and_never_made_up_for(tmp_path: Path) -> None:
    """A daemon that did not run for 20 intervals skips about as many polls, and goes on at its pace."""
    config = tmp_path / "config.yml"
    config.write_text("poll_interval: 200ms\n")
    with serving(tmp_path, f"--config.file={config}") as daemon:
        until(lambda: polls(daemon)[0] >= 3, "three polls")
        first = on_time(daemon, 0.2)
        done, skipped, _ = first
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: time.monotonic() > stopped + 4, "20 intervals are over")
        os.kill(daemon.process.pid, signal.SIGCONT)
        until(lambda: polls(daemon)[0] >= done + 5 and polls(daemon)[1] > skipped, "it goes on")
        more, left_out, passed = (
            now - before for now, before in zip(on_time(daemon, 0.2), first, strict=True)
        )
        due = passed / 0.2  # by the daemon's own word of that moment: an answer may take its time
        assert left_out >= 18
        assert due - 3 <= more + left_out <= due + 3


def test_own_cost_is_true(tmp_path: Path) -> None:
    """Polls and samples cost by its own account nearly all that its threads use, but for the web's."""
    config = tmp_path / "config.yml"
    config.write_text("poll_interval: 200ms\n")
    with application(code=BUSY), serving(tmp_path, f"--config.file={config}") as daemon:
        tasks = Path(f"/proc/{daemon.process.pid}/task")

        def cost() -> tuple[float, float]:
            while True:
                before = polls(daemon)
                account, clock = read()
                if polls(daemon) == before:
                    return account, clock  # else a poll has come between

        def read() -> tuple[float, float]:
            account = value(daemon, "threadwatch_poll_cpu_seconds_total")
            account += value(daemon, "threadwatch_wait_sample_cpu_seconds_total")
            clocks = [tasks / str(tid) / "schedstat" for tid in tids]
            return account, sum(int(clock.read_bytes().split()[0]) for clock in clocks) / 1e9

        until(lambda: polls(daemon)[0] >= 5, "it has found the application")
        tids = [tid for name, tid in threads_of(daemon.process.pid).items() if name != "web"]
        account, clock = cost()
        first = polls(daemon)[0]
        until(lambda: polls(daemon)[0] >= first + 20, "20 polls")
        account, clock = (
            now - before for now, before in zip(cost(), (account, clock), strict=True)
        )
        # the clock is read after the account, so a poll more or less may be in it
        assert 0.75 * clock <= account <= 1.05 * clock


def test_the_daemon_does_not_sample_itself(tmp_path: Path) -> None:
    """The daemon would always be seen sampling: its own threads run, are ready or sleep, and hold no GIL."""
    config = tmp_path / "config.yml"
    config.write_text(
        "poll_interval: 200ms\nunmatched: ignore\ngroups:\n"
        "- {name: busy, match: {cmdline: shop.py}}\n"
        f"- {{name: itself, match: {{cmdline: {config}}}}}\n"
    )
    with application(code=BUSY), serving(tmp_path, f"--config.file={config}") as daemon:

        def seen(metric: str, label: str, group: str) -> set[str]:
            text = daemon.get("/metrics")[1]
            return set(
                re.findall(rf'^{metric}{{group="{group}".*\b{label}="([^"]*)"', text, re.MULTILINE)
            )

        until(lambda: seen("threadwatch_gil_held_seconds_total", "thread", "busy"), "GIL samples")
        until(lambda: "sleep" in seen("threadwatch_threads", "state", "busy"), "wait samples")
        assert not seen("threadwatch_gil_held_seconds_total", "thread", "itself")
        assert not seen("threadwatch_gil_wait_seconds_total", "thread", "itself")
        states = seen("threadwatch_thread_state_seconds_total", "state", "itself")
        assert {"sleeping", "running"} <= states <= {"sleeping", "running", "runnable"}
