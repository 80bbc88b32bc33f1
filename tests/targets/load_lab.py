"""What the load generators share: use CPU time, say how much it was, wait for the test.

A generator tells the test by one line of JSON with a ``step`` and whatever it has measured of itself,
and waits for one byte where the test has to look first. What it measures is CPU time in ns.
"""

import json
import os
import time

import lab


def burn(cpu_ns):
    """Use this much more CPU time in this thread."""
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
    """What this process has used, once only the caller runs in it.

    Python says that a thread has ended a little before the kernel lets it go.
    """
    lab.wait_for(lambda: len(lab.tasks()) == 1, "the end of the other threads")
    return time.process_time_ns()


def at_rest(tids):
    """What the kernel counts of other threads of this process, once they sleep and stay asleep.

    By TID. A thread that waits for the GIL sleeps, too, but not for as long as the caller does without.
    """
    seen = [None]

    def are_at_rest():
        before, seen[0] = seen[0], {tid: _counts(tid) for tid in tids}
        return before == seen[0] and all(counts["state"] == "S" for counts in before.values())

    lab.wait_for(are_at_rest, "threads to come to rest")
    return seen[0]


def _counts(tid):
    path = "/proc/self/task/%d/" % tid
    with open(path + "stat", errors="replace") as file:
        stat = file.read().rsplit(") ", 1)[1].split()
    with open(path + "schedstat") as file:
        cpu_ns, runqueue_ns, timeslices = map(int, file.read().split())
    with open(path + "status", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    return {
        "state": stat[0],
        "cpu_ns": cpu_ns,
        "runqueue_ns": runqueue_ns,
        "timeslices": timeslices,
        "minor_faults": int(stat[7]),
        "voluntary": int(status["voluntary_ctxt_switches"]),
        "involuntary": int(status["nonvoluntary_ctxt_switches"]),
    }
