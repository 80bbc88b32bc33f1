"""Threads that run briefly, each for a random time, and come to rest; once in each round.

At the end of a round all but the main thread sleep, and the main thread says what the kernel counts of
each, by TID. Every round brings a few more threads. Arguments: a word
to be found by, a seed, the number of threads, the number of rounds.
"""

import mmap
import os
import random
import sys
import threading

import lab
import load_lab

lab.publish()

MS = 1_000_000
PAGE = mmap.PAGESIZE
SEED, THREADS, ROUNDS = map(int, sys.argv[2:])
BORN = 3
starts = []
"""Where to write a byte to let a thread run."""
memory = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
places = iter(range(0, 1 << 30, 64 * PAGE))


def live(chance, start):
    """Use CPU time and touch memory, each as much as it happens, whenever told to."""
    while True:
        for _ in range(chance.randrange(3)):
            place = next(places)
            for page in range(chance.randrange(8)):
                memory[place + page * PAGE] = 1
            load_lab.burn(chance.randrange(MS))
        os.read(start, 1)


def begin(count):
    """Start this many more threads."""
    for _ in range(count):
        start, tell = os.pipe()
        chance = random.Random(SEED + len(starts))
        starts.append(tell)
        threading.Thread(target=live, args=(chance, start), name="worker", daemon=True).start()


def rest():
    """What the kernel counts of the other threads once all of them sleep."""
    return load_lab.at_rest(lab.tasks() - {os.getpid()})


begin(THREADS)
rest()
load_lab.tell("ready")
load_lab.hold()
for _ in range(ROUNDS):
    begin(BORN)
    for start in starts[:-BORN]:
        os.write(start, b"\n")
    load_lab.tell("resting", counts=rest())
    load_lab.hold()
os._exit(0)
