"""Ends the terminal view when its terminal goes away.

At a hang-up (the window is closed, the connection breaks, tmux ends) nothing can be drawn or restored. The
regular end of textual waits until what it has written has reached the terminal, and so may wait for ever.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

LOOK_MS = 1000
"""Milliseconds after which the terminal is looked at anyhow: vhangup(2) does not wake this poll(2)."""


def end_at_hangup() -> None:
    """Have the process end, with the code of a death by SIGHUP, as soon as its terminal is gone."""
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="hangup", daemon=True).start()


def _watch(terminal_fd: int) -> None:
    """Wait until the terminal is gone, and end the process: poll(2) tells POLLHUP without being asked."""
    poll = select.poll()
    poll.register(terminal_fd, 0)
    while not poll.poll(LOOK_MS):
        pass
    # No handler of the end of the process is run: each of them could wait for the terminal
    os._exit(128 + signal.SIGHUP)
