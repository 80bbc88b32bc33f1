"""Threads that want the GIL, and threads that do without: what a sampler has to tell apart.

``contention.py N``: N threads that do nothing but run Python code. ``contention.py N hash``: N that hash
large pieces of memory, for which hashlib gives up the GIL.
"""

import hashlib
import sys
import threading

import lab

lab.publish()
going = threading.Event()
going.set()


def count(said):
    """Run Python code."""
    said()
    while going.is_set():
        sum(range(100))


def digest(said):
    """Run code that needs no GIL."""
    data = bytes(1 << 22)
    said()
    while going.is_set():
        hashlib.sha256(data).digest()


def main(number, work):
    """Start them, let the test look, and end them."""
    people, arrived = [], threading.Semaphore(0)

    def said():
        people.append(lab.me())
        arrived.release()

    threads = [
        threading.Thread(target=work, args=(said,), name="worker %d" % i, daemon=True)
        for i in range(number)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        arrived.acquire()
    lab.step("all busy", lab.process([lab.me(), *people]))
    going.clear()
    for thread in threads:
        thread.join(lab.DEADLINE)


main(int(sys.argv[1]), digest if sys.argv[2:] == ["hash"] else count)
