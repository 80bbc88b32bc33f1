"""Threads one after the other, all with the same TID as far as the kernel gives it again.

Arguments: a word to be found by, and the TID. Runs in a PID namespace of its own.
"""

import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1_000_000
TID = int(sys.argv[2])
measured = []
tids = []


def again():
    """Use CPU time: every tenth thread for so long that polls see it."""
    load_lab.burn(20 * MS if len(tids) % 10 == 0 else MS // 2)
    tids.append(threading.get_native_id())
    measured.append(time.thread_time_ns())


load_lab.tell("ready")
load_lab.hold()
for _ in range(300):
    lab.wait_for(lambda: len(lab.tasks()) == 1, "the end of the thread before")
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(TID - 1))
    thread = threading.Thread(target=again, name="again")
    thread.start()
    thread.join()
load_lab.tell(
    "done",
    process_ns=load_lab.quiet(),
    threads=len(tids),
    same=tids.count(TID),
    cpu_ns=sum(measured),
)
load_lab.hold()
