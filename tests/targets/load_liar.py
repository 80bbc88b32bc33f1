"""Publishes lies about its threads: their ends, births and CPU times, over and over.

Arguments: a word to be found by, and seconds. It uses a little CPU time meanwhile.
"""

import os
import sys
import threading
import time

import lab
import load_lab

lab.publish()
from threadwatch.publisher import publisher

YEAR = 31_536_000 * 10**9
table = publisher._publisher.table
tid, ident = threading.get_native_id(), threading.get_ident()


def anew(cpu_ns, *, early, name="MainThread"):
    """Tell that the main thread has ended and another one has its TID."""
    record = table.records.get(ident) or table.add(tid, ident, name)
    born_ns = record.born_ns
    table.end(record, cpu_ns)
    if early:  # within the tick in which the process began
        record.ended_ns = early_ns
        table.write(record)
    record = table.add(tid, ident, name)
    if early:
        record.born_ns = born_ns
        table.write(record)


def lives(count, cpu_ns):
    """Tell of threads that never were."""
    for number in range(count):
        table.end(table.add(1_000_000 + number, number, "liar"), cpu_ns)


with open("/proc/self/stat") as file:
    start_ticks = int(file.read().rsplit(") ", 1)[1].split()[19])
early_ns = start_ticks * 10_000_000 + 5_000_000
load_lab.tell("ready")
load_lab.hold()
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    anew(time.thread_time_ns(), early=False)
    anew(YEAR, early=False)
    anew(time.thread_time_ns(), early=True)
    anew(YEAR, early=True)
    lives(5, YEAR)
    load_lab.burn(2_000_000)
    time.sleep(0.01)
load_lab.tell("done", process_ns=time.process_time_ns())
load_lab.hold()
os._exit(0)
