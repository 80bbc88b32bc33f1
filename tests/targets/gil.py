"""Where the GIL is: what the publisher finds, and threads that wait for the GIL, or for something else.

``gil.py found`` compares what is found with what CPython's own symbols say, and prints what was wrong as
one line of JSON. The others hold still with threads that want the GIL and threads that wait for locks:
``waits [INTERVAL]``, ``late`` (published by one thread among others), ``forked parent`` or ``forked child``
(who publishes first), ``interpreters`` (3.13 and later: each has a GIL of its own) and ``withheld`` (the
process may not read its own memory).
"""

import _thread
import contextlib
import json
import os
import queue
import sys
import threading
import time

import lab


def find():
    """What the publisher finds, called by this thread."""
    from threadwatch.publisher import gil

    return gil.find(_thread.get_ident(), _thread.get_native_id(), tid_of)


def tid_of(ident):
    """The TID of the thread that threading knows by this ident; 0: it knows none."""
    return getattr(threading._active.get(ident), "_native_id", None) or 0


def exported():
    """The true GIL: the one place in CPython's runtime that has the interval, this thread and 1.

    Read while this thread holds it, from the exported ``_PyRuntime`` to the end of its mapping.
    """
    import ctypes
    import struct

    state = ctypes.pythonapi.PyThreadState_Get
    state.restype = ctypes.c_void_p
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    end = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            if first <= runtime < last or first == end:
                end = last if "rw" in line else end
    wanted = struct.pack("@LPi", round(sys.getswitchinterval() * 1e6), state(), 1)
    data = ctypes.string_at(runtime, end - runtime)
    assert data.count(wanted) == 1, data.count(wanted)
    return runtime + data.index(wanted), state()


def check(wrong, what):
    """Compare what is found with what is true, for the thread that calls this."""
    import ctypes

    found = find()
    address, state = exported()
    ident, native = (
        ctypes.c_uint64.from_address(state + offset).value if offset else None
        for offset in found[2:]
    )
    expected = (
        address,
        _thread.get_ident(),
        _thread.get_native_id() if sys.version_info >= (3, 11) else None,
    )
    if (found[0], ident, native) != expected:
        wrong.append((what, (found, ident, native), expected))


def spin(stop):
    """Want the GIL all the time."""
    while not stop:
        pass


class InTheMidst:
    """Another thread has the GIL whenever the kernel looks: it is the one that asks the kernel."""

    def __init__(self, makes_objects):
        self.makes_objects = makes_objects
        self.kept = []
        self.looks = 0
        self.asked, self.done = threading.Lock(), threading.Lock()
        self.asked.acquire()
        self.done.acquire()
        # Room for what is asked and answered, so that nothing else is made meanwhile.
        self.question = [None, 0, 0]
        self.answer = [b""]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.pread = os.pread
        self.thread.start()
        os.pread = self._ask
        return self

    def __exit__(self, *_):
        os.pread = self.pread
        self.question[0] = None
        self.asked.release()
        self.thread.join()

    def _ask(self, memory, size, address):
        question = self.question
        question[0], question[1], question[2] = memory, size, address
        self.asked.release()
        self.done.acquire()
        self.looks += 1
        answer, self.answer[0] = self.answer[0], b""
        return answer  # nothing: nothing is mapped there

    def _serve(self):
        while True:
            self.asked.acquire()
            memory, size, address = self.question
            if memory is None:
                return
            if self.makes_objects:
                self.kept.append([{}])
            with contextlib.suppress(OSError):
                self.answer[0] = self.pread(memory, size, address)
            self.done.release()


IN_ANOTHER = """
import _thread
from threadwatch.publisher import gil
found = gil.find(_thread.get_ident(), _thread.get_native_id())
if ({address} == found[0]) != {shared} or {others} != found[1:]:
    raise RuntimeError("found %s" % (found,))
"""


def check_interpreters(wrong):
    """In other interpreters: the same GIL where they share it, else (3.12 and later) another."""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    address, *others = find()
    for shared in (True, False):
        if sys.version_info >= (3, 13):
            other = interpreters.create("legacy" if shared else "isolated")
        else:
            other = interpreters.create(isolated=not shared)
        code = IN_ANOTHER.format(
            address=address, others=tuple(others), shared=shared or sys.version_info < (3, 12)
        )
        try:
            failed = interpreters.run_string(other, code)
        except Exception as error:  # of any kind: the test is told
            failed = repr(error)
        if failed is not None:
            wrong.append(("interpreter", shared, str(failed)))
        interpreters.destroy(other)


def truth():
    """Found by any thread, at any interval, beside threads that want the GIL; the same in a child."""
    wrong = []
    check(wrong, "at the start")
    for interval in (1e-6, 2e-6, 1e-5, 0.001, 0.2, 100.0, 0.005):
        sys.setswitchinterval(interval)
        check(wrong, "interval %s" % interval)
    sys.setswitchinterval(1e-7)  # rounded to 0, which is not to be searched for
    if find() != (0, 0, 0, 0):
        wrong.append(("interval 0", find()))
    sys.setswitchinterval(0.005)
    for number in range(40):
        thread = threading.Thread(target=check, args=(wrong, "thread %d" % number))
        thread.start()
        thread.join()
        # a thread's number stands beside its state: it must not pass for the interval
        sys.setswitchinterval((number + 2) * 1e-6)
    kept = []

    def traces(*_):
        kept.append([{}])
        return traces

    def profiles(*_):
        return [{}]  # a profiler is asked within a line: what it makes may not stay

    for switch, trace in ((sys.settrace, traces), (sys.setprofile, profiles)):
        switch(trace)
        found = find()
        switch(None)
        if found != find():
            wrong.append((switch.__name__, found, find()))
    sys.setswitchinterval(0.0005)
    check_interpreters(wrong)
    check_beside_others(wrong)
    pid = os.fork()
    if not pid:
        try:
            check(wrong, "in a child")
        finally:
            os._exit(len(wrong))
    if os.waitpid(pid, 0)[1]:
        wrong.append("in a child")
    print(json.dumps(wrong))


def check_beside_others(wrong):
    """Beside threads that want the GIL, and where another has it at each look."""
    stop = []
    threads = [threading.Thread(target=spin, args=(stop,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    address, _ = exported()
    found = [find() for _ in range(40)]
    if {one[0] for one in found} != {address}:
        wrong.append(("beside others", found, address))
    stop.append(True)
    for thread in threads:
        thread.join()
    for makes_objects in (False, True):
        with InTheMidst(makes_objects) as midst:
            check(wrong, "while another has it, who makes objects: %s" % makes_objects)
        if midst.looks < 3:
            wrong.append(("looks", midst.looks))


class Crowd:
    """Threads that have said who they are: some want the GIL, the others wait for something else."""

    def __init__(self, spinners=2):
        self.stop = []
        self.lock = threading.Lock()
        self.lock.acquire()
        self.queue = queue.SimpleQueue()
        self.event = threading.Event()
        self.said = queue.SimpleQueue()
        waits = {
            "lock": self.lock.acquire,
            "lock, timed": lambda: self.lock.acquire(timeout=lab.DEADLINE),
            "queue": lambda: self.queue.get(timeout=lab.DEADLINE),
            "event": self.event.wait,
            "sleep": lambda: time.sleep(lab.DEADLINE),
        }
        for number in range(spinners):
            waits["spin %d" % number] = lambda: spin(self.stop)
        for name, wait in waits.items():
            threading.Thread(target=self._say, args=(wait,), name=name, daemon=True).start()
        self.people = [self.said.get(timeout=lab.DEADLINE) for _ in waits]

    def _say(self, wait):
        self.said.put(lab.me())
        wait()


def waits(interval="0.005"):
    """Published before there are others."""
    sys.setswitchinterval(float(interval))
    lab.publish()
    lab.step("waiting", lab.process([lab.me(), *Crowd().people]))


def late():
    """Published by one thread while others want the GIL."""
    crowd = Crowd(4)
    thread = threading.Thread(target=lab.publish)
    thread.start()
    thread.join()
    lab.step("waiting", lab.process([lab.me(), *crowd.people]))


def forked(publish_first):
    """The same in a child, which publishes by itself or goes on publishing; the parent holds still."""

    def body(tell):
        if not publish_first:
            lab.publish()
        crowd = Crowd()
        tell(lab.process([lab.me(), *crowd.people]))

    if publish_first:
        lab.publish()
    child = lab.fork(body)
    lab.step("waiting", *child.processes())
    child.release()


INTERPRETER = """
import json, os, threading, threadwatch
threadwatch.publish()
stop = []

def spin(name):
    who = dict(tid=threading.get_native_id(), name=name, source="published")
    os.write({tell}, json.dumps(who).encode() + b"\\n")
    while not stop:
        pass

threads = [threading.Thread(target=spin, args=(name,), name=name) for name in {names!r}]
for thread in threads:
    thread.start()
"""
END = """
stop.append(True)
for thread in threads:
    thread.join()
"""


def interpreters():
    """The main one and two that have a GIL of their own, each with two threads that want it."""
    import _interpreters

    def execute(interpreter, code):
        failed = _interpreters.exec(interpreter, code)
        if failed is not None:
            raise RuntimeError(failed)

    lab.publish()
    told, tell = os.pipe()
    crowd = Crowd()
    people = [lab.me(), *crowd.people]
    others = [_interpreters.create() for _ in range(2)]
    for interpreter in others:
        names = ["%d: spin %d" % (interpreter, number) for number in range(2)]
        execute(interpreter, INTERPRETER.format(tell=tell, names=names))
    with open(told, "rb") as lines:
        people += [json.loads(lines.readline()) for _ in range(4)]
    lab.step("waiting", lab.process(people))
    crowd.stop.append(True)
    for interpreter in others:
        execute(interpreter, END)
        _interpreters.destroy(interpreter)


def withheld():
    """Published where this process may not read its own memory."""
    import ctypes

    from threadwatch.publisher import publisher  # while its modules can be read

    assert publisher
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgid(65534)
    os.setuid(65534)
    not_dumpable = (
        libc.prctl(4, 0, 0, 0, 0) == 0
    )  # PR_SET_DUMPABLE: /proc/self is root's from now on
    assert not_dumpable
    lab.publish()
    lab.step("waiting", lab.process([lab.me(), *Crowd().people]))


if __name__ == "__main__":
    if sys.argv[1] == "found":
        truth()
    elif sys.argv[1] == "forked":
        forked(sys.argv[2] == "parent")
    else:
        globals()[sys.argv[1]](*sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # daemon threads want the GIL
