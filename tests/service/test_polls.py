"""When a real daemon polls, and what it says that costs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.serving import Serving, application, serving, until

BUSY = """
import threading, time
def work():
    while True:
        time.sleep(0.05)
for number in range(200):
    threading.Thread(target=work, name="busy %d" % number, daemon=True).start()
"""


def value(daemon: Serving, name: str) -> float:
    """The value of one of its metrics; 0 before the first poll."""
    return float(daemon.metric(name) or 0)


def polls(daemon: Serving) -> tuple[int, int]:
    """How many polls there have been, and how many have been skipped."""
    return (
        round(value(daemon, "threadwatch_polls_total")),
        round(value(daemon, "threadwatch_polls_skipped_total")),
    )


def test_missed_polls_are_counted_and_never_made_up_for(tmp_path: Path) -> None:
    """A daemon that did not run for 20 intervals skips about as many polls, and goes on at its pace."""
    config = tmp_path / "config.yml"
    config.write_text("poll_interval: 200ms\n")
    with serving(tmp_path, f"--config.file={config}") as daemon:
        until(lambda: polls(daemon)[0] >= 3, "three polls")
        began = time.monotonic()
        done, skipped = polls(daemon)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        until(lambda: time.monotonic() > began + 4, "20 intervals are over")
        os.kill(daemon.process.pid, signal.SIGCONT)
        until(lambda: polls(daemon)[0] >= done + 5 and polls(daemon)[1] > skipped, "it goes on")
        done, skipped = (
            now - before for now, before in zip(polls(daemon), (done, skipped), strict=True)
        )
        due = (time.monotonic() - began) / 0.2
        assert skipped >= 18
        assert due - 3 <= done + skipped <= due + 3


def test_own_cost_is_true(tmp_path: Path) -> None:
    """What polls cost by the daemon's own account is nearly all that its main thread's clock gains."""
    config = tmp_path / "config.yml"
    config.write_text("poll_interval: 200ms\n")
    with application(code=BUSY), serving(tmp_path, f"--config.file={config}") as daemon:
        main = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/schedstat")

        def cost() -> tuple[float, float]:
            account = value(daemon, "threadwatch_poll_cpu_seconds_total")
            return account, int(main.read_bytes().split()[0]) / 1e9

        until(lambda: polls(daemon)[0] >= 5, "it has found the application")
        account, clock = cost()
        first = polls(daemon)[0]
        until(lambda: polls(daemon)[0] >= first + 20, "20 polls")
        account, clock = (
            now - before for now, before in zip(cost(), (account, clock), strict=True)
        )
        # the clock is read after the account, so a poll more or less may be in it
        assert 0.75 * clock <= account <= 1.05 * clock
