"""Targets of the soak: ``soak.py MARK ROLE``. Each role is a kind of application that has a hard life.

``witness`` lives through all of it and says, for every byte on stdin, what its threads' own clocks
say. The others come and go, and end by themselves or are killed.
"""

import contextlib
import os
import queue
import random
import subprocess
import sys
import threading
import time

import lab
import load_lab

lab.publish()
MARK, ROLE = sys.argv[1:3]
MS = 1_000_000
ROUNDS = 50


def witness():
    """Threads that work evenly; they are asked, by turns, for what their clocks say."""
    asked = {}
    go_on = threading.Event()
    names = ["steady", "bursts", "brief"]

    def work(name, cpu_ns, pause):
        while True:
            load_lab.burn(cpu_ns)
            time.sleep(pause)
            question = asked.pop(name, None)
            if question is not None:
                question.put(time.thread_time_ns())
                go_on.wait()

    for name, cpu_ns, pause in zip(names, (MS, 20 * MS, MS // 5), (0.04, 0.7, 0.01)):
        threading.Thread(target=work, name=name, args=(name, cpu_ns, pause), daemon=True).start()
    load_lab.tell("ready")
    while os.read(0, 1):
        answers = {name: queue.SimpleQueue() for name in names}
        go_on.clear()
        asked.update(answers)
        # they wait for the next byte, so the reader has time
        clocks = {name: answer.get(timeout=lab.DEADLINE) for name, answer in answers.items()}
        load_lab.tell("clocks", clocks=clocks)
        if not os.read(0, 1):
            break
        go_on.set()


def threads():
    """Threads that are born, renamed and end; some names come again, some never."""
    number = 0
    for _ in range(ROUNDS):
        crowd = []
        for _ in range(10):
            number += 1
            name = random.choice(["job-%d" % (number % 30), "once-%d-%d" % (os.getpid(), number)])
            thread = threading.Thread(target=load_lab.burn, args=(MS,), name=name)
            thread.start()
            thread.name = random.choice([name, "renamed"])
            crowd.append(thread)
        for thread in crowd:
            thread.join()
        time.sleep(0.2)


def forks():
    """Children with threads of their own; some become another program."""
    for number in range(ROUNDS):
        child = os.fork()
        if not child:
            if number % 5 == 0:
                os.execv("/bin/sleep", ["sleep", "0.2"])
            thread = threading.Thread(target=load_lab.burn, args=(2 * MS,), name="of a child")
            thread.start()
            thread.join()
            os._exit(0)
        if number % 7 == 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
        os.waitpid(child, 0)
        time.sleep(0.2)


def execs():
    """One program after another in the same process, each with a thread."""
    left = int(sys.argv[3]) if sys.argv[3:] else ROUNDS
    thread = threading.Thread(target=load_lab.burn, args=(2 * MS,), name="before exec")
    thread.start()
    thread.join()
    time.sleep(0.2)
    if left:
        os.execv(sys.executable, [sys.executable, sys.argv[0], MARK, ROLE, str(left - 1)])


def mixed():
    """Locks, sleeps, pipes and children by subprocess, at work beside each other."""
    lock = threading.Lock()

    def contend():
        for _ in range(ROUNDS):
            with lock:
                load_lab.burn(MS // 2)
                time.sleep(0.05)

    crowd = [threading.Thread(target=contend, name="contender-%d" % n) for n in range(4)]
    for thread in crowd:
        thread.start()
    for _ in range(5):
        subprocess.run([sys.executable, "-c", "import threading"], check=False)
        time.sleep(1)
    for thread in crowd:
        thread.join()


{"witness": witness, "threads": threads, "forks": forks, "execs": execs, "mixed": mixed}[ROLE]()
