"""Exits, many times, amid daemon threads: ``exits.py COUNT``; ``exits.py once`` in step with the test.

Each exit is that of a forked child, which has threads that sleep, rename themselves, and end, in the very
moment in which its interpreter is finalized; from CPython 3.14 on also threads that are born then. (Before,
such a birth crashes Python now and then, with us and without: see ``behaviour.py``.) The output says how
the children ended, and what they wrote.
"""

import contextlib
import os
import sys
import threading
import time

import lab

PARALLEL = 4


def rename():
    """A thread that has another name at each moment."""
    while True:
        threading.current_thread().name = "spins"


def breed():
    """A thread that starts others, as long as it can."""
    while True:
        with contextlib.suppress(RuntimeError):  # no new threads at the end of the interpreter
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()


def crowd(number):
    """Start daemon threads of all kinds; those that end do so from now on, one after the other."""
    targets = [lambda: time.sleep(1000) for _ in range(4)]
    targets += [lambda i=i: time.sleep(i * 0.0003) for i in range(8)]
    if sys.version_info >= (3, 14):
        targets += [breed, breed]
    targets += [rename]  # it makes others wait for the GIL
    for target in targets:
        threading.Thread(target=target, daemon=True).start()
    time.sleep(number % 8 * 0.0003)  # each child exits at another moment of their lives


def many(count):
    """The exits of that many children: None in a child, which has to go on to its exit."""
    running, outcomes, (read, write) = 0, {}, os.pipe()
    for number in range(count):
        if running == PARALLEL:
            note(outcomes)
            running -= 1
        if not os.fork():
            os.close(read)
            os.dup2(write, 1)
            os.dup2(write, 2)
            crowd(number)
            return None
        running += 1
    for _ in range(running):
        note(outcomes)
    os.close(write)
    with open(read, encoding="utf-8") as said:
        return outcomes, said.read()


def note(outcomes):
    """Count how the next child has ended."""
    status = os.wait()[1]
    outcomes[status] = outcomes.get(status, 0) + 1


lab.publish()
if sys.argv[1] == "once":
    ended = threading.Thread(target=int, name="ended")
    ended.start()
    ended.join()
    for index in range(4):
        threading.Thread(
            target=lambda: time.sleep(1000), name=f"stays-{index}", daemon=True
        ).start()
    lab.step("about to exit", lab.process(lab.everyone()))
else:
    result = many(int(sys.argv[1]))
    if result is not None:
        print(*result)
