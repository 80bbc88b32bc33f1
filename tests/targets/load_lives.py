"""What happens to processes: each scenario measures how much CPU time it has used altogether.

A thread called "herald" is there from the start, so that the test can see whether names are known.
Arguments: a word to be found by, and the scenario.
"""

import ctypes
import os
import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1_000_000


def worker(name, cpu_ns):
    """Start a thread that uses CPU time and stays; wait until it has."""
    done = threading.Event()

    def work():
        load_lab.burn(cpu_ns)
        done.set()
        load_lab.park()

    threading.Thread(target=work, name=name, daemon=True).start()
    done.wait(lab.DEADLINE)


def restart():
    """Use CPU time, in the main thread and in another, and end."""
    load_lab.burn(40 * MS)
    worker("worker", 60 * MS)
    load_lab.tell("done", process_ns=time.process_time_ns())
    load_lab.hold()


def stopped():
    """Work until told to cease; the test stops and continues the process meanwhile."""
    cease = threading.Event()

    def work():
        while not cease.is_set():
            load_lab.burn(MS)
        load_lab.park()

    for name in ("one", "two"):
        threading.Thread(target=work, name=name, daemon=True).start()
    load_lab.tell("working")
    load_lab.hold()
    cease.set()
    load_lab.tell("ceased")
    load_lab.hold()
    load_lab.tell("done", process_ns=time.process_time_ns())
    load_lab.hold()


def leaderless():
    """The main thread ends by pthread_exit(3); the others go on, and start more."""
    go_on = threading.Event()

    def survive():
        go_on.wait(lab.DEADLINE)
        path = "/proc/self/task/%d/stat" % os.getpid()

        def is_zombie():
            with open(path, "rb") as file:
                return file.read().rsplit(b") ", 1)[1].startswith(b"Z")

        lab.wait_for(is_zombie, "the end of the main thread")
        load_lab.tell("leaderless")
        load_lab.hold()
        load_lab.burn(80 * MS)
        measured = []

        def work():
            load_lab.burn(30 * MS)
            measured.append(time.thread_time_ns())

        late = threading.Thread(target=work, name="late")
        late.start()
        late.join()
        worker("later", 40 * MS)
        load_lab.tell("done", late_ns=measured[0], process_ns=time.process_time_ns())
        load_lab.hold()
        os._exit(0)

    threading.Thread(target=survive, name="survivor", daemon=True).start()
    worker("sleeper", 50 * MS)
    load_lab.burn(20 * MS)
    load_lab.tell("before")
    load_lab.hold()
    libc = ctypes.CDLL(None)
    libc.pthread_exit.argtypes = [ctypes.c_void_p]
    go_on.set()
    libc.pthread_exit(None)


def forks():
    """Fork from a process with threads; parent and child use CPU time, each with threads of its own."""
    worker("before the fork", 50 * MS)
    told, tell = os.pipe()
    child = os.fork()
    worker("after the fork", 30 * MS)
    if not child:
        worker("in the child", 70 * MS)
        os.write(tell, b"%d\n" % time.process_time_ns())
        load_lab.park()
    load_lab.burn(10 * MS)
    child_ns = int(os.read(told, 100))
    load_lab.tell("done", child=child, child_ns=child_ns, process_ns=time.process_time_ns())
    load_lab.hold()
    os.kill(child, 9)
    os.waitpid(child, 0)
    load_lab.tell("alone")
    load_lab.hold()


def execs(caller, main_ms, worker_ms):
    """Use CPU time, and become another program, called by the main thread or by another.

    exec ends all other threads. The clock of the process goes on, and so does the caller's own: the new
    program is told what that was.
    """
    load_lab.burn(int(main_ms) * MS)
    start, tell = os.pipe()

    def work():
        load_lab.burn(int(worker_ms) * MS)
        os.read(start, 1)
        become()

    def become():
        arguments = [sys.executable, sys.argv[0], sys.argv[1], "after-exec"]
        os.execv(sys.executable, [*arguments, str(time.thread_time_ns())])

    thread = threading.Thread(target=work, name="worker", daemon=True)
    thread.start()
    (counts,) = load_lab.at_rest([thread.native_id]).values()
    load_lab.tell("before", worker_ns=counts["cpu_ns"])
    load_lab.hold()
    if caller == "main":
        become()
    os.write(tell, b"\n")
    load_lab.park()


def after_exec(caller_ns):
    """The other program, which publishes as well."""
    load_lab.burn(30 * MS)
    worker("after exec", 50 * MS)
    load_lab.tell("done", caller_ns=int(caller_ns), process_ns=time.process_time_ns())
    load_lab.hold()


def renames():
    """A thread and the main thread change their names; the test polls in between."""
    work, done = threading.Semaphore(0), threading.Semaphore(0)
    measured = {}

    def body():
        for _ in range(3):
            work.acquire()
            before = time.thread_time_ns()
            load_lab.burn(40 * MS)
            name = threading.current_thread().name
            measured[name] = measured.get(name, 0) + time.thread_time_ns() - before
            done.release()
        load_lab.park()

    thread = threading.Thread(target=body, name="first", daemon=True)
    thread.start()
    for name in ("first", "second", "third"):
        thread.name = name
        work.release()
        done.acquire()
        load_lab.tell(name)
        load_lab.hold()
    load_lab.tell("done", process_ns=time.process_time_ns(), cpu_ns=measured)
    load_lab.hold()


def unpublished():
    """Threads of C and of Python, without a publisher: some are seen, some are not."""
    worker("staying", 50 * MS)
    for _ in range(20):
        thread = threading.Thread(target=load_lab.burn, args=(5 * MS,))
        thread.start()
        thread.join()
    load_lab.tell("done", process_ns=time.process_time_ns())
    load_lab.hold()


worker("herald", 0)
load_lab.tell("ready")
load_lab.hold()
{
    "restart": restart,
    "stopped": stopped,
    "leaderless": leaderless,
    "forks": forks,
    "execs": execs,
    "after-exec": after_exec,
    "renames": renames,
    "unpublished": unpublished,
}[sys.argv[2]](*sys.argv[3:])
