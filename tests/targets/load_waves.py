"""Processes and threads that come and go in waves, each under a new name.

One process, and one thread in the process that stays, have the same name in every wave. A process gives
itself a name by its comm. Arguments: a word to be found by, the number of waves, and how many processes
and threads come in each.
"""

import os
import sys
import threading

import lab
import load_lab

lab.publish()

WAVES, SIZE = map(int, sys.argv[2:])


def call(name):
    """Be the process of that name."""
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def attend(names):
    """Start a thread of each name; they stay until what is returned is set."""
    arrived = threading.Semaphore(0)
    leave = threading.Event()

    def stay():
        load_lab.burn(100_000)
        arrived.release()
        leave.wait()

    threads = [threading.Thread(target=stay, name=name) for name in names]
    for thread in threads:
        thread.start()
    for _ in threads:
        arrived.acquire()

    def dismiss():
        leave.set()
        for thread in threads:
            thread.join()

    return dismiss


def fork(name):
    """Fork a process of that name with two threads.

    Gives its PID, the pipe by which it tells that it is there, and the one that it lives by.
    """
    ready, tell = os.pipe()
    hold, life = os.pipe()
    pid = os.fork()
    if pid:
        for fd in (tell, hold):
            os.close(fd)
        return pid, ready, life
    for fd in (ready, life, *(fd for _, *fds in children for fd in fds)):
        os.close(fd)
    call(name)
    attend([name + "-one", name + "-two"])
    os.write(tell, b"\n")
    os.read(hold, 1)
    os._exit(0)


children = []
call("load-lasting")
load_lab.tell("ready")
load_lab.hold()
for wave in range(WAVES):
    for number in range(SIZE):
        name = "load-%d" % (wave * SIZE + number) if number else "load-back"
        children.append(fork(name))  # each closes what is in the list so far
    for _, ready, _ in children:
        os.read(ready, 1)
        os.close(ready)
    dismiss = attend(["back"] + ["job %d.%d" % (wave, number) for number in range(1, SIZE)])
    load_lab.tell("there")
    load_lab.hold()
    dismiss()
    for _, _, life in children:
        os.close(life)
    for pid, _, _ in children:
        os.waitpid(pid, 0)
    children.clear()
    load_lab.tell("gone")
    load_lab.hold()
os._exit(0)
