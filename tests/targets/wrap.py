"""Forks children at the end of all PIDs, so that they go on from the first: ``wrap.py NAME``.

For each line on stdin with a number it forks this many children. Each has a thread of that name,
which uses CPU time, and then all hold still until the next line. Runs in a PID namespace of its
own.
"""

import os
import queue
import resource
import sys
import threading
import time

import lab
import load_lab

NAME = sys.argv[1]
MS = 1_000_000
LAST_PID = "/proc/sys/kernel/ns_last_pid"  # proc_sys_kernel(5)
BEFORE_THE_END = 10


def begin(tell, hold):
    """What a child does."""
    said = queue.SimpleQueue()

    def work():
        load_lab.burn(3 * MS)
        said.put(time.thread_time_ns())
        os.read(hold, 1)  # until the parent closes the other end
        os._exit(0)

    threading.Thread(target=work, name=NAME).start()
    thread_ns = said.get(timeout=lab.DEADLINE)
    lab.write_all(
        tell,
        b"%d %d\n" % (thread_ns, time.process_time_ns()),
    )
    os.read(hold, 1)
    os._exit(0)


def wave(number):
    """Start this many children, until the next line."""
    told, tell = os.pipe()
    held, hold = os.pipe()
    with open("/proc/sys/kernel/pid_max") as file:
        pid_max = int(file.read())
    with open(LAST_PID, "w") as file:
        file.write(str(pid_max - BEFORE_THE_END))
    pids = []
    for _ in range(number):
        pid = os.fork()
        if not pid:
            os.close(hold)
            begin(tell, held)
        pids.append(pid)
    os.close(tell)
    os.close(held)
    with open(told) as lines:
        said = [tuple(map(int, lines.readline().split())) for _ in range(number)]
    load_lab.tell(
        "wave",
        pids=sorted(pids),
        thread_ns=sum(thread_ns for thread_ns, _ in said),
        children_ns=sum(process_ns for _, process_ns in said),
        own_ns=time.process_time_ns(),
        pid_max=pid_max,
    )
    sys.stdin.readline()
    os.close(hold)
    for pid in pids:
        os.waitpid(pid, 0)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_lab.tell(
        "over",
        own_ns=time.process_time_ns(),
        ended_ns=round((ended.ru_utime + ended.ru_stime) * 1e9),
    )


lab.publish()
load_lab.tell("ready", own_ns=time.process_time_ns())
for line in sys.stdin:
    wave(int(line))
