"""Threads that come and go all the time. Each is called by its own TID, so no name fits two of them."""

import contextlib
import os
import threading
import time

import lab

lab.publish()
leave = threading.Event()


def short():
    """Take the TID for a name, and stay for a moment."""
    threading.current_thread().name = "tid %d" % threading.get_native_id()
    time.sleep(0.02)


def breed():
    """Start one thread after another."""
    while not leave.is_set():
        threads = [threading.Thread(target=short, name="newborn") for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def multiply():
    """Fork one child after another, each with a thread, while all that goes on."""
    while not leave.is_set():
        child = os.fork()
        if not child:
            threading.current_thread().name = "child %d" % os.getpid()
            thread = threading.Thread(target=short, name="newborn")
            thread.start()
            thread.join()
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


threads = [
    threading.Thread(target=target, name=target.__name__) for target in (breed, breed, multiply)
]
for thread in threads:
    thread.start()
lab.step("churning", lab.process([]))
leave.set()
for thread in threads:
    thread.join()
