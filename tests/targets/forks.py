"""Processes that are copies of one with threads."""

import contextlib
import ctypes
import os
import subprocess
import threading

import lab

lab.publish()

crowd = lab.Attendance()
here = crowd.start("parent's one", "parent's two", None)


def parent():
    """This process: its threads, undisturbed by whatever its children do."""
    return lab.process([lab.me(), *here])


def alone(tell):
    """A child with the thread that forked, and no other."""
    tell(lab.process([lab.me()]))


def busy(tell):
    """A child that starts threads of its own."""
    inside = lab.Attendance()
    born = inside.start("born in the child", None)
    tell(lab.process([lab.me(), *born]))
    inside.dismiss()


def renaming(tell):
    """A child that renames its main thread."""
    threading.current_thread().name = "renamed in the child"
    tell(lab.process([lab.me()]))


def deep(tell):
    """A fork in a fork in a fork, with threads at each level."""

    def level(number):
        inside = lab.Attendance()
        born = inside.start("level %d" % number)
        mine = [lab.process([lab.me(), *born])]
        if number == 3:
            return mine, []

        def deeper(tell):
            processes, children = level(number + 1)
            tell(*processes)
            for child in children:
                child.release()

        child = lab.fork(deeper)
        return mine + child.processes(), [child]

    processes, children = level(1)
    tell(*processes)
    for child in children:
        child.release()


def from_main():
    """os.fork by the main thread."""
    children = [lab.fork(body) for body in (alone, busy, renaming, deep)]
    told = [process for child in children for process in child.processes()]
    assert len(told) == 6
    lab.step("fork by the main thread", parent(), *told)
    for child in children:
        child.release()


def from_worker():
    """os.fork by another thread, which is the child's only one."""
    children = []

    def worker():
        children.extend(lab.fork(body) for body in (alone, busy, renaming))
        crowd.say(lab.me())

    thread = threading.Thread(target=worker, name="forker")
    thread.start()
    here.extend(crowd.collect(1))
    told = [process for child in children for process in child.processes()]
    assert told[0]["threads"][0]["name"] == "forker", told
    lab.step("fork by a worker", parent(), *told)
    for child in children:
        child.release()


def from_raw():
    """os.fork by a thread that threading has never heard of."""
    children = []
    done = threading.Event()

    def worker():
        children.extend(lab.fork(body) for body in (alone, busy))
        done.set()

    import _thread

    before = lab.tasks()
    _thread.start_new_thread(worker, ())
    done.wait(lab.DEADLINE)
    lab.wait_for(lambda: lab.tasks() == before, "the end of the raw thread")
    told = [process for child in children for process in child.processes()]
    lab.step("fork by a raw thread", parent(), *told)
    for child in children:
        child.release()


def daemonize():
    """Twice forked, in a session of its own, with all files closed but its pipes."""

    def body(tell):
        os.setsid()
        daemon = os.fork()
        if daemon:
            os._exit(0)
        keep = sorted(tell.fds)
        os.closerange(3, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, 1024)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        inside = lab.Attendance()
        born = inside.start("in the daemon", None)
        tell(lab.process([lab.me(), *born]))
        inside.dismiss()

    def tidy(tell):
        os.setsid()
        daemon = os.fork()
        if daemon:
            os._exit(0)
        inside = lab.Attendance()
        born = inside.start("in the tidy daemon", None)
        tell(lab.process([lab.me(), *born]))
        inside.dismiss()

    daemons = [lab.fork(body), lab.fork(tidy)]
    told = [process for child in daemons for process in child.processes()]
    assert told[0]["pid"] != daemons[0].pid
    lab.step("daemonized", parent(), *told)
    for child in daemons:
        child.release()


def behind_pythons_back():
    """fork() of libc, which tells Python nothing: the child holds its parent's table."""
    libc = ctypes.PyDLL(None)

    def silent(tell):
        name = threading.main_thread().name
        tell(lab.process([lab.unpublished({"tid": os.getpid(), "name": name})]))

    def noisy(tell):
        inside = lab.Attendance()
        for _ in range(50):
            inside.start("child of a C library")
        inside.dismiss()
        threading.main_thread().name = "not the parent's main thread"
        born = inside.start("child of a C library", None)
        tell(
            lab.process(
                [
                    {
                        "tid": os.getpid(),
                        "name": threading.main_thread().name,
                        "source": "published",
                    },
                    *born,
                ]
            )
        )
        inside.dismiss()

    def renamed(tell):
        threading.current_thread().name = "renamed, and nothing else"
        me = {**lab.me(), "tid": os.getpid()}
        tell(lab.process([me]))

    children = [lab.fork(body, by=libc.fork) for body in (silent, noisy, renamed)]
    told = [process for child in children for process in child.processes()]
    here.extend(crowd.start("parent's, after fork()"))
    lab.step("fork() of libc", parent(), *told)
    for child in children:
        child.release()
    here.extend(crowd.start("parent's, after its end"))
    lab.step("after that child", parent())


def handed_on():
    """Programs that were given this process's table, one of them with all descriptors."""
    os.set_inheritable(lab.tables()[0], True)
    with contextlib.ExitStack() as stack:
        told = []
        for keep in ({"pass_fds": lab.tables()}, {"close_fds": False}):
            child = stack.enter_context(
                subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, **keep)
            )
            stack.callback(child.kill)
            told.append(lab.process([lab.nameless(child.pid)], pid=child.pid, comm="sleep"))
        lab.step("another program with our table", parent(), *told)


from_main()
from_worker()
from_raw()
daemonize()
behind_pythons_back()
handed_on()
lab.step("at the end", parent())
crowd.dismiss()
