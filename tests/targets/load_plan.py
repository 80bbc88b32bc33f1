"""Work by a plan that holds for each thread: CPU time, pauses, page faults, names, numbers.

A plan of CPU time is kept by the thread's own clock, so that what starting, pausing and counting
cost is part of it. Arguments: a word to be found by, and seconds. At the end all threads rest but
the main one, which says what was planned, what the threads have measured of themselves, and what
the kernel counts of those that have stayed.
"""

import mmap
import resource
import sys
import threading
import time

import lab
import load_lab

lab.publish()

MS = 1_000_000
SECONDS = float(sys.argv[2])
PAGES = 20_000
SLEEPERS = 40
# name, number of threads, CPU time of each, pieces that it comes in, whether the thread stays
STEADY = (
    ("steady", 1, 3000 * MS, 300, True),
    ("bursts", 2, 1000 * MS, 6, True),
    ("ticker", 3, 400 * MS, 400, True),
    ("batch", 1, 600 * MS, 1, False),
)
# name, number of threads one after the other, CPU time of each
BRIEF = (("request", 400, 4 * MS), ("lookup", 200, 6 * MS))
# one thread after the other has these names, and uses this much under each
PHASES = (("phase one", 500 * MS), ("phase two", 300 * MS), ("phase three", 400 * MS))

measured = {}
faults = {}
mutex = threading.Lock()
finished = threading.Semaphore(0)
begin = time.monotonic()


def note(name, cpu_ns):
    """Note what a thread has used under a name."""
    with mutex:
        measured.setdefault(name, []).append(cpu_ns)


def sleep_until(share):
    """Sleep until this share of the time is over."""
    time.sleep(max(0.0, begin + SECONDS * share - time.monotonic()))


def burn_until(cpu_ns):
    """Use CPU time until this thread has used this much in its life."""
    while time.thread_time_ns() < cpu_ns:
        pass


def steady(name, cpu_ns, pieces, stays):
    """Use CPU time in equal pieces over the whole time."""
    for piece in range(1, pieces + 1):
        burn_until(cpu_ns * piece // pieces)
        sleep_until(piece / pieces)
    note(name, time.thread_time_ns())
    finished.release()
    if stays:
        load_lab.park()


def brief(name, cpu_ns):
    """Use CPU time and end."""
    burn_until(cpu_ns)
    note(name, time.thread_time_ns())


def dispatch(name, count, cpu_ns):
    """Start threads one after the other, evenly over the time."""
    for number in range(1, count + 1):
        thread = threading.Thread(target=brief, args=(name, cpu_ns), name=name)
        thread.start()
        thread.join()
        sleep_until(number / count)
    finished.release()
    load_lab.park()


def rename():
    """Use CPU time under one name after the other, with a rest around each change of names."""
    for number, (name, cpu_ns) in enumerate(PHASES):
        before_ns = time.thread_time_ns() if number else 0
        threading.current_thread().name = name
        sleep_until((number + 0.1) / len(PHASES))
        burn_until(before_ns + cpu_ns)
        note(name, time.thread_time_ns() - before_ns)
        sleep_until((number + 0.9) / len(PHASES))
    finished.release()
    load_lab.park()


def touch():
    """Cause page faults, each page one, evenly over the time."""
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    pieces = 50
    touched = 0
    for piece in range(1, pieces + 1):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for page in range(PAGES * (piece - 1) // pieces, PAGES * piece // pieces):
            memory[page * mmap.PAGESIZE] = 1
        touched += resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
        sleep_until(piece / pieces)
    faults["touch"] = touched
    finished.release()
    load_lab.park()


load_lab.tell("ready")
load_lab.hold()
begin = time.monotonic()
jobs = [
    (steady, name, (name, cpu_ns, pieces, stays))
    for name, count, cpu_ns, pieces, stays in STEADY
    for _ in range(count)
]
jobs += [(dispatch, name + " dispatcher", (name, count, cpu_ns)) for name, count, cpu_ns in BRIEF]
jobs += [(rename, PHASES[0][0], ()), (touch, "touch", ())]
for body, name, arguments in jobs:
    threading.Thread(target=body, args=arguments, name=name, daemon=True).start()
for _ in range(SLEEPERS):
    threading.Thread(target=load_lab.park, name="sleeper", daemon=True).start()
for _ in jobs:
    finished.acquire()
staying = {thread.native_id: thread.name for thread in threading.enumerate()}
staying = {tid: name for tid, name in staying.items() if name not in ("MainThread", "batch")}
lab.wait_for(lambda: len(lab.tasks()) == 1 + len(staying), "the end of those that do not stay")
counts = load_lab.at_rest(staying)
load_lab.tell(
    "done",
    planned_ns={
        **{name: count * cpu_ns for name, count, cpu_ns, _, _ in STEADY},
        **{name: count * cpu_ns for name, count, cpu_ns in BRIEF},
        **dict(PHASES),
    },
    measured_ns={name: sum(used) for name, used in measured.items()},
    brief={name: count for name, count, _ in BRIEF},
    renamed=[name for name, _ in PHASES],
    pages=PAGES,
    touched=faults["touch"],
    staying=[dict(counts[tid], name=name) for tid, name in staying.items()],
    process_ns=time.process_time_ns(),
    main_ns=time.thread_time_ns(),
)
load_lab.hold()
