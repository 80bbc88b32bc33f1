"""Threads with a plan: CPU time in pieces, with sleep in between.

Some end when they have done their work, some stay, many do nothing at all. Those that work say how much
CPU time they have used, by their own clocks. Arguments: a word to be found by, and seconds that the
plan takes.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import lab
import load_lab

lab.publish()

SECONDS = float(sys.argv[2])
# name, number of threads, CPU time of each in ns, pieces, whether it stays when it has done its work
PLAN = (
    ("steady", 1, 300_000_000, 60, True),
    ("bursts", 2, 100_000_000, 2, True),
    ("batch", 1, 200_000_000, 1, False),
    ("ticker", 3, 20_000_000, 40, False),
)
SLEEPERS = 50
measured = {}
mutex = threading.Lock()
done = threading.Semaphore(0)
leave = threading.Event()


def note(name):
    """Say what the calling thread has used so far."""
    with mutex:
        measured.setdefault(name, []).append(time.thread_time_ns())


def work(name, cpu_ns, pieces, stays):
    """Use CPU time as planned, evenly over the seconds."""
    begin = time.monotonic()
    for piece in range(pieces):
        load_lab.burn(cpu_ns // pieces)
        time.sleep(max(0.0, begin + SECONDS * (piece + 1) / pieces - time.monotonic()))
    if not stays:
        note(name)
        done.release()
        return
    done.release()
    leave.wait()
    note(name)
    load_lab.park()


for _ in range(SLEEPERS):
    threading.Thread(target=load_lab.park, name="sleeper", daemon=True).start()
load_lab.tell("ready")
load_lab.hold()
threads = [
    threading.Thread(target=work, args=(name, cpu_ns, pieces, stays), name=name, daemon=True)
    for name, count, cpu_ns, pieces, stays in PLAN
    for _ in range(count)
]
for thread in threads:
    thread.start()
with ThreadPoolExecutor(4, thread_name_prefix="pool") as pool:
    begin = time.monotonic()
    while time.monotonic() < begin + SECONDS:
        for job in [pool.submit(load_lab.burn, 1_000_000) for _ in range(4)]:
            job.result()
        time.sleep(0.1)
    # each worker in turn: it cannot take another job before it has done this one
    everyone = threading.Barrier(4)

    def last_job():
        """Tell what this worker has used."""
        everyone.wait(lab.DEADLINE)
        note("pool")

    for job in [pool.submit(last_job) for _ in range(4)]:
        job.result()
for _ in threads:
    done.acquire()
leave.set()
staying = sum(count for _, count, _, _, stays in PLAN if stays)
lab.wait_for(lambda: len(lab.tasks()) == 1 + staying + SLEEPERS, "the end of those that leave")
lab.wait_for(lambda: sum(map(len, measured.values())) == len(threads) + 4, "all to tell")
load_lab.tell(
    "done",
    cpu_ns={name: sum(own) for name, own in measured.items()},
    threads={name: len(own) for name, own in measured.items()},
    main_ns=time.thread_time_ns(),
    process_ns=time.process_time_ns(),
)
load_lab.hold()
