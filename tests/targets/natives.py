"""Threads that threading does not know, or not yet: raw ``_thread`` threads and those of C libraries."""

import _thread
import ctypes
import os
import queue
import re
import threading

import lab

lab.publish()

libc = ctypes.CDLL(None)
libc.pthread_create.argtypes = [
    ctypes.POINTER(ctypes.c_ulong),
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
]
libc.pthread_setname_np.argtypes = [ctypes.c_ulong, ctypes.c_char_p]


class Raw:
    """A thread that asks for its name only when told to."""

    def __init__(self, starter):
        self._orders = queue.SimpleQueue()
        self._answers = queue.SimpleQueue()
        starter(self._run)
        self.tid = self.ask(threading.get_native_id)

    def _run(self):
        for order in iter(self._orders.get, None):
            self._answers.put(order())
        self._answers.put(None)

    def ask(self, order):
        """Have the thread call ``order`` and give what it returned."""
        self._orders.put(order)
        return self._answers.get(timeout=lab.DEADLINE)

    def end(self):
        """End it, and wait until the kernel has forgotten it."""
        self._orders.put(None)
        lab.wait_for(lambda: self.tid not in lab.tasks(), "the end of a raw thread")


def rename():
    """What a dummy thread may do as well."""
    threading.current_thread().name = "a dummy no more"
    return lab.me()


def raw(kind, starter):
    """A thread of C or ``_thread`` before and after it has asked threading for its object."""
    first, second = Raw(starter), Raw(starter)
    lab.step(
        kind + " before current_thread()",
        lab.process([lab.me(), lab.nameless(first.tid), lab.nameless(second.tid)]),
    )
    who = first.ask(lab.me)
    assert re.fullmatch(r"Dummy-\d+", who["name"]), who
    lab.step(
        kind + " after current_thread()", lab.process([lab.me(), who, lab.nameless(second.tid)])
    )
    who = first.ask(rename)
    lab.step(kind + " renamed", lab.process([lab.me(), who, lab.nameless(second.tid)]))
    first.end()
    lab.step(kind + " ended", lab.process([lab.me(), lab.nameless(second.tid)]))
    second.end()


def from_c(run):
    """Start a C thread that calls Python."""
    callback = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: run())
    kept.append(callback)
    assert libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, callback, None) == 0


kept = []


def c_threads():
    """Threads that never call Python; their comm is inherited, or whatever bytes they chose."""
    before = lab.tasks()
    people = [lab.me()]
    crowd = lab.Attendance()
    people += crowd.start("a python thread between")
    before = lab.tasks()
    comms = (
        None,
        b"grpc_global_tim",
        b"MainThread",
        b"a) S 1 (b",
        b"new\nline",
        b"\xff\xfe\xc3",
        b" ",
    )
    for comm in comms:
        handle = ctypes.c_ulong()
        assert libc.pthread_create(ctypes.byref(handle), None, libc.pause, None) == 0
        if comm is not None:
            assert libc.pthread_setname_np(handle, comm) == 0
    natives = lab.tasks() - before
    assert len(natives) == len(comms)
    lab.step("threads of a C library", lab.process(people + [lab.nameless(tid) for tid in natives]))
    crowd.dismiss()


def headless():
    """The main thread ends before the others: a leader that is a zombie, with no files of its own."""

    def rest():
        lab.wait_for(lambda: leader_state() == "Z", "the end of the main thread")
        people = [{**who, "source": "either"} for who in (main, lab.me())]
        lab.step("without the main thread", lab.process(people, others="comm"))
        os._exit(0)

    def leader_state():
        with open("/proc/self/task/%d/stat" % os.getpid(), "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()

    main = lab.me()
    threading.Thread(target=rest, name="the rest").start()
    libc.pthread_exit(None)


raw("raw thread", lambda run: _thread.start_new_thread(run, ()))
raw("C thread that calls Python", from_c)
c_threads()
headless()
