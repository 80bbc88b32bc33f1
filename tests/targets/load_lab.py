"""What the load generators share: use CPU time, say how much it was, wait for the test.

A generator tells the test by one line of JSON with a ``step`` and whatever it has measured of itself,
and waits for one byte where the test has to look first. What it measures is CPU time in ns.
"""

import json
import os
import time

import lab


def burn(cpu_ns):
    """Use so much more CPU time in this thread."""
    end = time.thread_time_ns() + cpu_ns
    while time.thread_time_ns() < end:
        pass


def tell(step, **measured):
    """Tell the test, and go on."""
    lab.write_all(1, json.dumps({"step": step, **measured}).encode() + b"\n")


def hold():
    """Wait for the test."""
    if not os.read(0, 1):
        os._exit(3)


def park():
    """Wait for ever, in C, using no CPU time."""
    never, _ = os.pipe()
    os.read(never, 1)


def quiet():
    """What this process has used, once nobody but the caller runs in it.

    Python says that a thread has ended a little before the kernel lets it go.
    """
    lab.wait_for(lambda: len(lab.tasks()) == 1, "the end of the other threads")
    return time.process_time_ns()
