"""Ends the process on SIGTERM or SIGINT where the main thread hangs and does not take the signal.

The main thread takes signals between two polls. A thread waits for the same signals: the kernel
gives it one only while the main thread does not wait for it. It hands the signal on to the main
thread, and gives that some seconds; fewer if polls are known to hang. This thread sleeps in the
kernel until then.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

_GRACE: Final = 8.0
"""Seconds for the main thread to end; ``docker stop`` kills after 10."""
_LAST_CHANCE: Final = 1.0
"""The same if polls hang already."""
_LAST_WORDS: Final = 1.0
"""Seconds for the log to take the last message: a log that is full may be why the main thread hangs."""
_STATUS: Final = 1


def end_if_main_thread_hangs(
    signals: frozenset[signal.Signals], hangs: Callable[[], object]
) -> None:
    """Start the thread. ``signals`` are blocked in all threads, and the caller is the main thread.

    ``hangs``: tells whether the main thread is known to hang.
    """
    arguments = signals, threading.get_ident(), hangs
    threading.Thread(target=_wait, args=arguments, name="last-resort", daemon=True).start()


def _wait(signals: frozenset[signal.Signals], main: int, hangs: Callable[[], object]) -> None:
    number = signal.sigwait(signals)
    signal.pthread_kill(main, number)
    time.sleep(_LAST_CHANCE if hangs() else _GRACE)
    words = threading.Thread(target=_say, args=(number,), name="last-words", daemon=True)
    words.start()
    words.join(_LAST_WORDS)
    os._exit(_STATUS)


def _say(number: signal.Signals) -> None:
    logger.error(
        "a poll hangs, so the daemon ends in the middle of it",
        extra={"fields": {"signal": signal.Signals(number).name}},
    )
    faulthandler.dump_traceback()
