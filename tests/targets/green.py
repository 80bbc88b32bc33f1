"""gevent: many "threads" in one kernel thread, patched before or after publishing.

``green.py first`` publishes first, ``green.py last`` after the patch.
"""

import os
import sys

import lab

if sys.argv[1] == "first":
    lab.publish()
from gevent import monkey

monkey.patch_all()
if sys.argv[1] == "last":
    lab.publish()

import threading

import gevent

main = lab.me()
assert main["name"] == "MainThread", main
lab.step("patched", lab.process([main], others="comm"))

crowd = lab.Attendance()
green = crowd.start("green one", "green two", None)
assert {who["tid"] for who in green} == {main["tid"]}, green
assert green[0]["name"] == "green one", green
lab.step("greenlets", lab.process([main], others="comm"))

threading.main_thread().name = main["name"] = "the main thread, renamed"
lab.step("the main thread renamed", lab.process([main], others="comm"))

for thread in threading.enumerate():
    if thread.name == "green one":
        thread.name = "green one, renamed"
lab.step("a greenlet renamed", lab.process([main], others="comm"))


def inside():
    """A greenlet that renames itself, and is there when others look."""
    threading.current_thread().name = "green, from inside"
    lab.step("seen from a greenlet", lab.process([main], others="comm"))


thread = threading.Thread(target=inside)
thread.start()
thread.join()

gevent.spawn(lab.me).get()  # a greenlet that threading does not know becomes a dummy
lab.step("a dummy greenlet", lab.process([main], others="comm"))

crowd.dismiss()
lab.step("greenlets ended", lab.process([main], others="comm"))

hold, release = os.pipe()
told, tell = os.pipe()


def native(asks):
    """In a thread of gevent's pool: say who we are, and hold still for real."""
    name = threading.current_thread().name if asks else None
    os.write(tell, b"%d %s\n" % (threading.get_native_id(), (name or "").encode()))
    os.read(hold, 1)


def real(ask):
    """Start a task in gevent's pool of kernel threads, and give what its thread may show."""
    gevent.get_hub().threadpool.spawn(native, ask)
    tid, name = os.read(told, 100).decode().strip("\n").split(" ")
    assert int(tid) != main["tid"]
    # whether it has a name depends on gevent's version; but it cannot be another's
    return {"tid": int(tid), "name": name or "Dummy-N", "source": "either"}


people = [main, real(False), real(True)]
lab.step("gevent's pool of kernel threads", lab.process(people, others="comm"))


def child(tell):
    """A forked copy has its main thread and what gevent starts again."""
    tell(lab.process([lab.me()], others="comm"))


forked = lab.fork(child)
lab.step("fork", lab.process(people, others="comm"), *forked.processes())
forked.release()
os.write(release, b"..")
