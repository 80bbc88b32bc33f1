"""Greenlets that call themselves threads, and a library's pool of real threads: ``… MARK LIBRARY ORDER``.

``eventlet`` or ``gevent``; published ``first``, before the library patches, or ``last``, after it.
"""

import importlib
import sys

import lab

library, order = sys.argv[2:4]
if order == "first":
    lab.publish()
if library == "eventlet":
    import eventlet

    eventlet.monkey_patch()
else:
    importlib.import_module("gevent.monkey").patch_all()
if order == "last":
    lab.publish()

import threading
import time

import load_lab

MS = 1_000_000
COUNT = 40


def pool():
    """Do something in a real thread of the library's pool."""
    if library == "eventlet":
        from eventlet import tpool

        tpool.execute(load_lab.burn, 5 * MS)
        return tpool._threads[0].name
    import gevent

    gevent.get_hub().threadpool.spawn(load_lab.burn, 5 * MS).get()
    return None


def request():
    """What each greenlet does: work, with a pause in between."""
    load_lab.burn(2 * MS)
    time.sleep(0.01)
    load_lab.burn(2 * MS)


RENAMED = library == "eventlet"
"""gevent's real threads have no names but the kernel's, which they inherit from the main thread (CPython 3.14
gives it that of each thread that starts in it, greenlets included)."""

if RENAMED:
    threading.main_thread().name = "main, at first"
load_lab.tell("ready")
load_lab.hold()
for number in range(COUNT):
    threading.Thread(target=request, name="request-%d" % number).start()
    time.sleep(0.005)
threads = [thread for thread in threading.enumerate() if thread.name.startswith("request-")]
for thread in threads:
    thread.join()
if RENAMED:
    threading.main_thread().name = "main, later"
names = []
for _ in range(COUNT // 4):
    names.append(pool())
    time.sleep(0.03)  # its threads are not quite new when all comes to rest
load_lab.tell(
    "done",
    process_ns=time.process_time_ns(),
    main_ns=time.thread_time_ns(),
    pool=names[0],
    tids=len(lab.tasks()),
)
load_lab.park()
