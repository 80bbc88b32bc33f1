"""Threads of C that call Python, and have it log: to Python, each call may come from another thread.

Arguments: a word to be found by, and the library of visitor.c. First one that goes on for a while, then
many that live for a few calls, then one that calls no more but lives on.
"""

import ctypes
import logging
import os
import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1000
library = ctypes.CDLL(sys.argv[2])
library.visitor_start.argtypes = [
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
]
logging.basicConfig(filename=os.devnull, level=logging.INFO)
log = logging.getLogger("visits")
names = set()


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def called(number):
    """Log, for which the thread's name is asked for."""
    log.info("called by %d", number)
    names.add(threading.current_thread().name)


def visitors(count, visits, burn_us, rest_us):
    """Start threads of C, and wait until they have ended."""
    for number in range(count):
        assert library.visitor_start(called, number, visits, burn_us, rest_us) == 0
    lab.wait_for(lambda: len(lab.tasks()) == 1, "the end of the visitors")


load_lab.tell("ready")
load_lab.hold()
visitors(1, 60, 20 * MS, 30 * MS)
load_lab.tell("steady")
load_lab.hold()
for _ in range(4):
    visitors(5, 4, 2 * MS, 0)
    time.sleep(0.05)
load_lab.tell("brief")
load_lab.hold()
assert library.visitor_start(called, 0, 1, 30 * MS, 3_600_000_000) == 0
lab.wait_for(lambda: len(lab.tasks()) == 2, "the one that stays")
time.sleep(0.1)
load_lab.tell("staying", process_ns=time.process_time_ns(), names=len(names))
load_lab.hold()
os._exit(0)
