"""What the target programs share: they tell the test who their threads are, and hold still.

A program works in steps. In each it writes one line of JSON to its stdout: the name of the step, and
for every process to look at the PID and the threads, each with its TID and the name that the thread
itself says it has. Then it waits for one byte on stdin, so nothing changes while the test looks. When
stdin ends, the test has gone, and the program ends too.

What is expected of a thread is its ``source``: ``published`` (just this name), ``comm`` (no published
name: its comm, or this name from memory), or ``either``: its name or its comm, but never anything else.
``others`` says what other threads the process may have: ``none``, or ``comm``: nameless ones.

This file imports neither threading nor anything that does: gevent has to be able to patch first.
"""

import contextlib
import json
import os
import sys
import time

DEADLINE = 60.0
"""Seconds that a program waits for anything before it gives up."""


def publish():
    """Publish, unless the program was started by ``threadwatch run`` and does so already."""
    if os.environ["LAB_MODE"] == "publish":
        import threadwatch

        threadwatch.publish()


def me(source="published"):
    """The thread that calls this, as it sees itself."""
    import threading

    return {
        "tid": threading.get_native_id(),
        "name": threading.current_thread().name,
        "source": source,
    }


def nameless(tid):
    """A thread that has no Python name."""
    return {"tid": tid, "name": None, "source": "comm"}


def unpublished(thread):
    """A thread that has a name which is not published: it can be read from memory at most."""
    return {**thread, "source": "comm"}


def everyone():
    """All threads that Python knows in this process.

    A forked child keeps its parent's ``native_id`` in the object of the thread that forked (until
    3.13.3), so the calling thread is asked directly.
    """
    import threading

    current = threading.current_thread()
    return [me()] + [
        {"tid": thread.native_id, "name": thread.name, "source": "published"}
        for thread in threading.enumerate()
        if thread is not current
    ]


def process(threads, others="none", pid=None, comm=None):
    """A process to look at; ``comm``: not before it is called so."""
    return {"pid": pid or os.getpid(), "threads": list(threads), "others": others, "comm": comm}


def write_all(fd, data):
    """Write everything, past all buffers."""
    while data:
        data = data[os.write(fd, data) :]


def announce(name, *processes):
    """Tell the test what it should see now, and go on at once."""
    write_all(1, json.dumps({"step": name, "processes": processes}).encode() + b"\n")


def step(name, *processes):
    """Tell the test what it should see now, and wait until it has looked."""
    announce(name, *processes)
    if os.read(0, 1) != b"\n":
        os._exit(3)


def wait_for(condition, what):
    """Wait until ``condition()`` is true, and return what it gave."""
    deadline = time.monotonic() + DEADLINE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.001)


class Attendance:
    """Threads that have said who they are, and stay until they are dismissed."""

    def __init__(self):
        import queue
        import threading

        self._said = queue.SimpleQueue()
        self._dismissed = threading.Event()
        self._threads = []

    def attend(self, *_):
        """What each thread runs."""
        self._said.put(me())
        self._dismissed.wait(DEADLINE)

    def say(self, who):
        """For threads that run something else: enter ``who`` and stay."""
        self._said.put(who)
        self._dismissed.wait(DEADLINE)

    def start(self, *names):
        """Start a thread of each name (None: Python's default), and return who they say they are."""
        import threading

        # daemons: a program that fails should end, not wait for them
        threads = [threading.Thread(target=self.attend, name=name, daemon=True) for name in names]
        self._threads += threads
        for thread in threads:
            thread.start()
        return self.collect(len(threads))

    def collect(self, count):
        """The next ``count`` threads that have arrived."""
        return [self._said.get(timeout=DEADLINE) for _ in range(count)]

    def dismiss(self):
        """Let all go, and wait for those that :meth:`start` started."""
        self._dismissed.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        self._threads = []
        self._dismissed.clear()


class Child:
    """A forked process that has told what to expect of it, and holds still."""

    def __init__(self, pid, told, hold):
        self.pid = pid
        self._told = told
        self._hold = hold

    def processes(self):
        """What it told: a list of processes."""
        with open(self._told, "rb", closefd=False) as told:
            line = told.readline()
        if not line:
            raise RuntimeError("the child ended without a word")
        return json.loads(line)

    def release(self):
        """Let it go on; wait until it has ended, without an error."""
        os.write(self._hold, b"\n")
        os.close(self._hold)
        os.close(self._told)
        _, status = os.waitpid(self.pid, 0)
        if status:
            raise RuntimeError("the child ended with wait status %d" % status)


def fork(body, by=os.fork):
    """Fork. The child runs ``body(tell)``; ``tell(*processes)`` holds it until it is released."""
    told, tell_fd = os.pipe()
    hold_fd, hold = os.pipe()
    pid = by()
    if pid:
        os.close(tell_fd)
        os.close(hold_fd)
        return Child(pid, told, hold)
    status = 1
    try:
        os.close(told)
        os.close(hold)

        def tell(*processes):
            write_all(tell_fd, json.dumps(processes).encode() + b"\n")
            os.read(hold_fd, 1)

        tell.fds = (tell_fd, hold_fd)
        body(tell)
        status = 0
    finally:
        if status:
            with contextlib.suppress(Exception):
                sys.excepthook(*sys.exc_info())
        os._exit(status)


def tasks():
    """The TIDs of this process, as the kernel tells them."""
    return {int(tid) for tid in os.listdir("/proc/self/task")}


def tables():
    """This process's descriptors of thread tables."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink("/proc/self/fd/" + fd).startswith("/memfd:threadwatch"):
                found.append(int(fd))
    return found
