"""Threads whose TID another thread of the process had before. Runs in a PID namespace of its own."""

import _thread
import ctypes
import os
import threading

import lab

lab.publish()
libc = ctypes.CDLL(None)
libc.pthread_exit.argtypes = [ctypes.c_void_p]
never, _ = os.pipe()
staying = lab.Attendance()
people = [lab.me(), *staying.start("stays", None)]


def next_tid(tid):
    """Have the kernel give ``tid`` to the next thread (proc_sys_kernel(5): ns_last_pid).

    A thread that has ended keeps its number for a moment more. A process does not, once it has been
    waited for, so when one has had the number, that is free.
    """

    def ask():
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(tid - 1))

    def probe():
        ask()
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        return pid == tid

    lab.wait_for(probe, "the end of the thread before")
    ask()


def ended(name):
    """A named thread has its turn and ends; give its TID."""
    crowd = lab.Attendance()
    (who,) = crowd.start(name)
    lab.step(name, lab.process([*people, who]))
    crowd.dismiss()
    return who["tid"]


def native():
    """Start a thread of C."""
    before = lab.tasks()
    assert libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None) == 0
    (tid,) = lab.tasks() - before
    return lab.nameless(tid)


def raw():
    """Start a raw thread that never asks for its name."""
    said = []
    ready = threading.Event()

    def run():
        said.append(threading.get_native_id())
        ready.set()
        os.read(never, 1)

    _thread.start_new_thread(run, ())
    ready.wait(lab.DEADLINE)
    return lab.nameless(said[0])


def vanishing():
    """A named thread is ended by C, so Python never hears of its end; give its TID."""

    def vanish():
        crowd.say(lab.me())
        libc.pthread_exit(None)

    crowd = lab.Attendance()
    threading.Thread(target=vanish, name="vanishes", daemon=True).start()
    (who,) = crowd.collect(1)
    lab.step("about to vanish", lab.process([*people, who]))
    crowd.dismiss()
    lab.wait_for(lambda: who["tid"] not in lab.tasks(), "the end of the thread that vanishes")
    lab.step("vanished", lab.process(people))
    return who["tid"]


def reused(what, holder, successor):
    """A thread gets a TID second hand."""
    tid = holder()
    next_tid(tid)
    people.append(successor())
    assert people[-1]["tid"] == tid, (what, people[-1], tid)
    lab.step(what, lab.process(people))


def python():
    """Start a thread by threading."""
    return staying.start("a second holder")[0]


reused("Python after Python", lambda: ended("a first holder"), python)
reused("raw after Python", lambda: ended("a holder before a raw thread"), raw)
reused("C after Python", lambda: ended("a holder before a C thread"), native)
reused("Python after one that vanished", vanishing, python)
reused("raw after one that vanished", vanishing, raw)
reused("C after one that vanished", vanishing, native)
os._exit(0)  # the vanished ones would be waited for
