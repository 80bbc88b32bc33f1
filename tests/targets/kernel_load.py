"""Threads that wait in ten ways; with a file as argument and from SIGUSR1 on, threads that use CPU time.

At the next SIGUSR1 each of them is parked, and what the clock of each says is written to that file.
"""

import fcntl
import hashlib
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

OUT = sys.argv[1] if len(sys.argv) > 1 else None
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
cease = threading.Event()
parked = []
requests = []
"""The CPU time of each, at its end."""


def park():
    """Wait for ever, as one that uses no CPU time from now on."""
    parked.append(threading.current_thread())
    threading.Event().wait()


def burner():
    """Run Python code without a pause."""
    x = 0
    while not cease.is_set():
        for i in range(20000):
            x = (x * 31 + i) % 1000003
    park()


def hasher():
    """Compute outside of the GIL."""
    data = b"x" * (1 << 20)
    while not cease.is_set():
        hashlib.sha256(data).digest()
        time.sleep(0.05)
    park()


def ticker():
    """Wake a hundred times a second."""
    while not cease.is_set():
        time.sleep(0.01)
    park()


def request():
    """Use a little CPU time, and end."""
    x, end = 0, time.thread_time() + 0.02
    while time.thread_time() < end:
        for i in range(500):
            x = (x * 31 + i) % 1000003
    requests.append(time.thread_time())


def acceptor():
    """Start a thread for each request."""
    while not cease.is_set():
        thread = threading.Thread(target=request, name="req")
        thread.start()
        thread.join()
        time.sleep(0.05)
    park()


gate = threading.Lock()
gate.acquire()
here, there = socket.socketpair()
listening = socket.create_server(("127.0.0.1", 0))
reading, writing = os.pipe()
descriptor, path = tempfile.mkstemp()
epoll = select.epoll()
epoll.register(here, select.EPOLLIN)


def in_file():
    """Wait for a lock of a file that is locked by another description of it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)


WAITING = {
    "in-a-lock-with-a-long-name": gate.acquire,
    "in-select": lambda: select.select([here], [], []),
    "in-epoll": epoll.poll,
    "in-recv": lambda: there.recv(1),
    "in-accept": listening.accept,
    "in-pipe": lambda: os.read(reading, 1),
    "in-sleep": lambda: time.sleep(1e6),
    "in-child": lambda: subprocess.run(["sleep", "1000000"], check=False),
    "in-queue": queue.Queue().get,
    "in-file": in_file,
}
BUSY = {
    "burner-a": burner,
    "burner-b": burner,
    "hasher": hasher,
    "ticker": ticker,
    "acceptor": acceptor,
}
for name, wait in WAITING.items():
    threading.Thread(target=wait, name=name, daemon=True).start()
if OUT is None:
    threading.Event().wait()
signal.sigwait({signal.SIGUSR1})
for name, body in BUSY.items():
    threading.Thread(target=body, name=name, daemon=True).start()
signal.sigwait({signal.SIGUSR1})
cease.set()


def clocks():
    """The clocks of the parked threads, in seconds."""
    return {t.name: time.clock_gettime(time.pthread_getcpuclockid(t.ident)) for t in parked}


def came_to_rest():
    """Whether all are parked, and use no CPU time any more."""
    before = clocks()
    time.sleep(0.5)
    return len(before) == len(BUSY) and before == clocks()


while not came_to_rest():
    pass
with open(OUT + ".new", "w") as file:
    json.dump({"threads": clocks(), "req": sum(requests), "started": len(requests)}, file)
os.rename(OUT + ".new", OUT)
threading.Event().wait()
