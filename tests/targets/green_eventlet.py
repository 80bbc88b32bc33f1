"""eventlet: greenlets that are called threads, and its pool of real threads.

``green_eventlet.py first`` publishes first, ``last`` after the patch.
"""

import os
import sys

import lab

if sys.argv[1] == "first":
    lab.publish()
import eventlet

eventlet.monkey_patch()
if sys.argv[1] == "last":
    lab.publish()

import threading

from eventlet import patcher, tpool

tid = os.getpid()
main = {"tid": tid, "name": threading.main_thread().name, "source": "published"}
lab.step("patched", lab.process([main]))

leave = threading.Event()
green = [threading.Thread(target=leave.wait, name="green %d" % number) for number in range(3)]
for thread in green:
    thread.start()
eventlet.sleep(0)
assert {thread.name for thread in green} < {thread.name for thread in threading.enumerate()}
lab.step("greenlets", lab.process([main]))

green[0].name = "green, renamed"
lab.step("a greenlet renamed", lab.process([main]))
threading.main_thread().name = main["name"] = "the main thread, renamed"
lab.step("the main thread renamed", lab.process([main]))
leave.set()
for thread in green:
    thread.join()
lab.step("greenlets ended", lab.process([main]))

real = patcher.original("threading")
tpool.execute(int)
pool = [
    {"tid": thread.native_id, "name": thread.name, "source": "published"}
    for thread in tpool._threads
]
assert pool[0]["name"].startswith("tpool_thread_"), pool
lab.step("eventlet's pool of real threads", lab.process([main, *pool]))


def ask():
    """In a real thread: ask the patched module and the real one for its name."""
    return threading.current_thread().name, real.current_thread().name


assert tpool.execute(ask)[1].startswith("tpool_thread_")
lab.step("asked for their names", lab.process([main, *pool]))


def child(tell):
    """A forked copy has its main thread alone."""
    tell(lab.process([{**main, "tid": os.getpid()}]))


forked = lab.fork(child)
lab.step("fork", lab.process([main, *pool]), *forked.processes())
forked.release()

tpool.killall()
lab.step("the pool has ended", lab.process([main]))
