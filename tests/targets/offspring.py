"""Work that is done by child processes which live for a moment.

Arguments: a word to be found by, how the children are made, CPU time of each in seconds, and for how
many seconds of real time. At the end it tells what the kernel says that its ended children have used, and
of which processes the test has to add up the clocks.
"""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time

import lab
import load_lab

# what is spawned and is no task of ours: in a shell, without Python
COUNT = "i=0; while [ $i -lt %d ]; do i=$((i+1)); done"


def burn(seconds):
    """Use this much CPU time in a process of its own."""
    while time.process_time() < seconds:
        pass


def started(seconds):
    """As :func:`burn`, in a new interpreter that has used some to get here."""
    burn(time.process_time() + seconds)


def fork(work, *arguments):
    """Call it in a child that ends without a word, and wait for that."""
    pid = os.fork()
    if pid == 0:
        work(*arguments)
        os._exit(0)
    return pid


def wait(pid):
    """Wait for a child."""
    os.waitpid(pid, 0)


def children(seconds):
    """A child that has children of its own, which no poll sees for longer than they live."""
    for _ in range(3):
        wait(fork(burn, seconds))


def with_orphan(seconds):
    """A child that leaves one of its own to the process that inherits it."""
    fork(burn, seconds)


def pool(method, seconds, until):
    """Have each task done by a worker of its own; gives the PIDs of helpers that live on."""
    context = multiprocessing.get_context(method)
    task = burn if method == "fork" else started
    with context.Pool(1, maxtasksperchild=1) as workers:
        while time.monotonic() < until:
            workers.apply(task, (seconds,))
    if method == "fork":
        return []
    from multiprocessing import forkserver, resource_tracker

    helpers = [resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid]
    return [pid for pid in helpers if pid]


def make_children(kind, seconds, until):
    """Make one child after the other, not in a pool; gives how many."""
    made = 0
    while time.monotonic() < until:
        made += 1
        if kind == "os.fork":
            wait(fork(burn, seconds))
        elif kind == "nested":
            wait(fork(children, seconds))
        elif kind == "double":
            wait(fork(with_orphan, seconds))
            burn(time.process_time() + seconds)
        elif kind == "ignored":
            burn(time.process_time() + seconds)
            fork(burn, seconds)
        elif kind == "shell":
            subprocess.run(["/bin/sh", "-c", COUNT % (seconds * 1_000_000)], check=True)
        elif kind == "program":  # lives on while others come and go
            subprocess.run(["/bin/sh", "-c", COUNT % (50 * seconds * 1_000_000)], check=True)
    return made


def main(kind, seconds, took):
    """Tell, make children, and tell what became of it."""
    lab.publish()
    load_lab.tell("ready")
    load_lab.hold()
    if kind == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    made, helpers, until = 0, [], time.monotonic() + took
    if kind in ("fork", "spawn", "forkserver"):
        helpers = pool(kind, seconds, until)
    else:
        made = make_children(kind, seconds, until)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_lab.tell(
        "done",
        children_ns=round((used.ru_utime + used.ru_stime) * 1e9),
        pids=[os.getpid(), *helpers],
        made=made,
    )
    load_lab.hold()


if __name__ == "__main__":
    main(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
