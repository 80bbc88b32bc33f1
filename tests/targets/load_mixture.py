"""Threads that are born, named, renamed, visit from C, fork, exec and end, by a plan that a seed makes.

Arguments: a word to be found by, the library of visitor.c, a seed, seconds, and in a process that has called
exec the file descriptor to tell its end to. In the end each process that is left rests, with some threads
that rest as well, and the first one tells which there are, and what those have used that it has waited for.
"""

import _thread
import ctypes
import json
import logging
import os
import random
import sys
import threading
import time
import traceback

import lab
import load_lab

lab.publish()

MS = 1_000_000
HOUR_US = 3_600_000_000
MOST_THREADS = 40
MARK, LIBRARY = sys.argv[1:3]
library = ctypes.CDLL(LIBRARY)
library.visitor_start.argtypes = [
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
]
log = logging.getLogger("mixture")
log.setLevel(logging.INFO)
log.addHandler(logging.NullHandler())  # a file's lock would stay locked in a forked child
log.propagate = False


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def called(number):
    """What threads of C call: most log, some do nothing, some rename themselves."""
    if number % 4:
        log.info("called by %d", number)
        if number % 4 == 1:
            threading.current_thread().name = "visitor %d" % (number % 3)


def fork():
    """Fork while no thread of C is on its way into Python."""
    library.visitor_pause()
    pid = os.fork()
    library.visitor_resume(pid == 0)
    return pid


class Life:
    """What one process does."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.raw = 0
        self.children = []
        self.ended_ns = 0
        self.staying = 0

    def run(self, seconds, *, forks):
        """Do things at random, and come to rest."""
        kinds = ["plain", "brief", "fickle", "raw", "visitor", "visitor", "native", "burn", "wait"]
        if forks:
            # what ended children have used is known in ticks alone, so half of the plans have none
            kinds += self.chance.choice((["fork"], ["fork", "brief_child"]))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            kind = self.chance.choice(kinds)
            if len(lab.tasks()) > MOST_THREADS:
                kind = "wait"
            getattr(self, "do_" + kind)(end - time.monotonic())
        for _ in range(self.chance.randrange(3)):
            self.stay()
        lab.wait_for(lambda: len(lab.tasks()) == 1 + self.staying, "the end of the others")

    def stay(self):
        """Have a thread that stays: of Python, or of C that has called or has not."""
        kind = self.chance.randrange(3)
        if kind == 0:
            threading.Thread(target=load_lab.park, name="stays", daemon=True).start()
        else:
            call = called if kind == 1 else None
            assert library.visitor_start(call, 2, 1, 100, HOUR_US) == 0
        self.staying += 1

    def thread(self, target, name, *arguments):
        """Start a thread of Python."""
        chance = random.Random(self.chance.randrange(1 << 30))
        threading.Thread(target=target, args=(chance, *arguments), name=name, daemon=True).start()

    def do_plain(self, _):
        """Work and sleep by turns under one name."""

        def work(chance):
            for _ in range(chance.randrange(1, 10)):
                load_lab.burn(chance.randrange(3 * MS))
                time.sleep(chance.random() / 50)

        self.thread(work, "plain")

    def do_brief(self, _):
        """A few that work and end."""
        for _ in range(self.chance.randrange(1, 6)):
            self.thread(lambda chance: load_lab.burn(chance.randrange(MS)), "brief")

    def do_fickle(self, _):
        """Work under many names."""

        def work(chance):
            for _ in range(chance.randrange(1, 10)):
                threading.current_thread().name = "fickle %d" % chance.randrange(3)
                load_lab.burn(chance.randrange(2 * MS))
                time.sleep(chance.random() / 50)

        self.thread(work, "fickle")

    def do_raw(self, _):
        """A thread that threading has not started, and that may ask for its name."""
        asks, cpu_ns = self.chance.randrange(2), self.chance.randrange(2 * MS)

        def work():
            if asks:
                threading.current_thread()
            load_lab.burn(cpu_ns)

        _thread.start_new_thread(work, ())

    def do_visitor(self, _):
        """Threads of C that call Python a few times."""
        for _ in range(self.chance.randrange(1, 4)):
            number, visits = self.chance.randrange(100), self.chance.randrange(1, 8)
            burn_us, rest_us = self.chance.randrange(2000), self.chance.choice((0, 2000, 60_000))
            assert library.visitor_start(called, number, visits, burn_us, rest_us) == 0

    def do_native(self, _):
        """A thread of C that never calls Python."""
        burn_us = self.chance.randrange(3000)
        assert library.visitor_start(None, 0, self.chance.randrange(1, 4), burn_us, 3000) == 0

    def do_burn(self, _):
        """Use CPU time in this thread."""
        load_lab.burn(self.chance.randrange(5 * MS))

    def do_wait(self, _):
        """Let others run."""
        time.sleep(self.chance.random() / 20)

    def do_fork(self, left):
        """Fork a child that lives likewise, and may call exec at its end, from whichever thread."""
        if len(self.children) >= 3:
            return
        told, tell = os.pipe()
        seed, execs = self.chance.randrange(1 << 30), self.chance.choice(("no", "main", "thread"))
        pid = fork()
        if pid:
            os.close(tell)
            self.children.append(told)
            return
        try:
            life = Life(seed)
            life.run(left * life.chance.random(), forks=False)
            if execs == "no":
                life.rest(tell)
            os.set_inheritable(tell, True)
            left = left * life.chance.random() / 2
            command = [sys.executable, __file__, MARK, LIBRARY, str(seed + 1), str(left), str(tell)]
            if execs == "main":
                os.execv(command[0], command)
            threading.Thread(target=os.execv, args=(command[0], command), name="execs").start()
            load_lab.park()
        finally:
            traceback.print_exc()
            os._exit(3)

    def do_brief_child(self, _):
        """Fork a child that works, in a thread as well, and ends at once or after a while."""
        work_ns, rest = self.chance.randrange(20 * MS), self.chance.choice((0, 0, 0.3))
        pid = fork()
        if pid:
            if rest:
                threading.Thread(target=self.reap, args=(pid,), name="reaps", daemon=True).start()
            else:
                self.reap(pid)
            return
        thread = threading.Thread(target=load_lab.burn, args=(work_ns,), name="in a brief child")
        thread.start()
        load_lab.burn(work_ns // 2)
        thread.join()
        time.sleep(rest)
        os._exit(0)

    def reap(self, pid):
        """Wait for a child, and add up what it has used."""
        usage = os.wait4(pid, 0)[2]
        with adding:
            self.ended_ns += round((usage.ru_utime + usage.ru_stime) * 1e9)

    def rest(self, tell):
        """Tell that this process has come to rest, and rest."""
        os.write(tell, json.dumps({"pid": os.getpid()}).encode() + b"\n")
        os.close(tell)
        load_lab.park()


def main(seed, seconds):
    """Live, and tell which processes are left."""
    load_lab.tell("ready")
    load_lab.hold()
    life = Life(int(seed))
    life.run(float(seconds), forks=True)
    pids = [os.getpid()]
    for told in life.children:
        with open(told, "rb") as said:
            pids.append(json.loads(said.read())["pid"])
    load_lab.tell("done", pids=pids, ended_ns=life.ended_ns)
    load_lab.hold()
    os._exit(0)


adding = threading.Lock()
if len(sys.argv) > 5:
    again = Life(int(sys.argv[3]))
    again.run(float(sys.argv[4]), forks=False)
    again.rest(int(sys.argv[5]))
main(*sys.argv[3:5])
