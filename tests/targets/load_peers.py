"""What exporters that look at threads by themselves get wrong: one scenario for each fault.

Runs on a Python that gives the kernel its threads' names (3.14 and later), so that every exporter can
know them. Arguments: a word to be found by, and the scenario.
"""

import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1_000_000


def run(name, cpu_ns):
    """Start a thread that uses CPU time, and wait until the kernel has let it go."""
    thread = threading.Thread(target=load_lab.burn, args=(cpu_ns,), name=name)
    thread.start()
    thread.join()
    lab.wait_for(lambda: thread.native_id not in lab.tasks(), "the end of the thread")


def others_ns():
    """What all threads but the calling one have used, those that have ended to their very end."""
    return time.process_time_ns() - time.thread_time_ns()


def stay(name, cpu_ns):
    """Start a thread that uses CPU time and stays; gives what it has used until it rests."""
    used = []

    def work():
        load_lab.burn(cpu_ns)
        used.append(time.thread_time_ns())
        load_lab.park()

    threading.Thread(target=work, name=name, daemon=True).start()
    lab.wait_for(lambda: used, "the thread")
    return used[0]


def returning():
    """A thread of one name that ends, and one later that has the name again."""
    stay("other", 0)
    used = []

    def work(cpu_ns):
        before_ns = time.thread_time_ns()
        load_lab.tell("born")
        load_lab.hold()
        load_lab.burn(cpu_ns)
        used.append(time.thread_time_ns() - before_ns)
        load_lab.tell("worked", used_ns=sum(used))
        load_lab.hold()

    for cpu_ns in (500 * MS, 200 * MS):
        thread = threading.Thread(target=work, args=(cpu_ns,), name="batch")
        thread.start()
        thread.join()
        lab.wait_for(lambda: len(lab.tasks()) == 2, "the end of the thread")
        load_lab.tell("gone")
        load_lab.hold()


def early():
    """A thread that has done its work at the first poll."""
    load_lab.tell("worked", used_ns=stay("early", 500 * MS))
    load_lab.hold()


def brief():
    """Threads that are born and end between two looks."""
    stay("other", 0)
    load_lab.tell("begin")
    load_lab.hold()
    before_ns = others_ns()
    for _ in range(20):
        run("brief", 20 * MS)
    load_lab.tell("worked", used_ns=others_ns() - before_ns)
    load_lab.hold()


def single():
    """A process with one thread."""
    load_lab.tell("alone")
    load_lab.hold()
    load_lab.burn(300 * MS)
    load_lab.tell("worked", used_ns=time.thread_time_ns())
    load_lab.hold()


def asleep():
    """Three threads at rest beside the main thread."""
    for _ in range(3):
        stay("sleeper", 0)
    load_lab.tell("asleep")
    load_lab.hold()


def cut():
    """A name that the kernel cuts in the middle of a character."""
    stay("queue-worker-xéy", 0)
    load_lab.tell("asleep")
    load_lab.hold()


def many():
    """Threads enough to count what is read of them."""
    for _ in range(200):
        threading.Thread(target=load_lab.park, name="sleeper", daemon=True).start()
    load_lab.tell("asleep")
    load_lab.hold()


load_lab.tell("ready")
load_lab.hold()
{
    "returning": returning,
    "early": early,
    "brief": brief,
    "single": single,
    "asleep": asleep,
    "cut": cut,
    "many": many,
}[sys.argv[2]]()
load_lab.park()
