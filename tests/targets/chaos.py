"""Targets that mean harm: ``chaos.py ROLE [ARGUMENT]``. What they make looks like thread tables to a daemon.

It says "ready" once the harm is under way, goes on with it until its stdin ends, and then ends itself.
"""

import ctypes
import mmap
import os
import random
import resource
import signal
import sys
import threading
import time
from binascii import crc32

from threadwatch.publisher import layout as table

SIZE = table.HEADER_SIZE + table.CAPACITY * table.SLOT_SIZE
NOW_NS = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
random.seed(6)


def own_start_ticks(pid="self"):
    """Field 22 of stat."""
    with open("/proc/%s/stat" % pid, "rb") as file:
        return int(file.read().rsplit(b") ", 1)[1].split()[19])


class Forgery:
    """A table that can be made of anything, because nothing of it is sealed."""

    def __init__(self, slots=1, **says):
        honest = {
            "flags": 0,
            "pid": os.getpid(),
            "start_ticks": own_start_ticks(),
            "hexversion": sys.hexversion,
            "interpreter": 0,
            "created_ns": NOW_NS,
            "implementation": b"cpython",
        }
        self.fd = os.memfd_create(table.NAME)
        os.ftruncate(self.fd, table.HEADER_SIZE + slots * table.SLOT_SIZE)
        self.map = mmap.mmap(self.fd, table.HEADER_SIZE + slots * table.SLOT_SIZE)
        static = table.pack_static(**{**honest, **says})
        self.map[: len(static)] = static

    def slot(self, index, name, state=table.LIVE, tid=None, **says):
        """Write one slot, with a CRC that is right."""
        values = {
            "serial": index + 1,
            "ident": 1 + index,
            "born_ns": NOW_NS,
            "ended_ns": 0,
            "cpu_ns": table.CPU_UNKNOWN,
            "end_serial": 0,
        }
        values.update(says)
        packed = table.pack_slot(
            state=state, flags=0, tid=os.getpid() if tid is None else tid, name=name, **values
        )
        start = table.HEADER_SIZE + index * table.SLOT_SIZE
        self.map[start : start + len(packed)] = packed

    def changed(self):
        """Say that something has changed."""
        start = table.DYNAMIC_OFFSET
        self.map[start : start + 8] = random.getrandbits(64).to_bytes(8, "little")


def shrink():
    """Tables that are cut and grow at any moment."""
    forgeries = [Forgery(64) for _ in range(8)]
    for forgery in forgeries:
        forgery.slot(0, b"cut")
        forgery.map.close()
    while True:
        for forgery in forgeries:
            for size in (0, 100, table.HEADER_SIZE + 100, 1 << 40, SIZE):
                os.ftruncate(forgery.fd, size)
        yield


def tear():
    """Every slot is always half written, and the generation never the same."""
    forgery = Forgery(table.CAPACITY)
    noise = random.getrandbits(8 * 4096).to_bytes(4096, "little")
    while True:
        for start in range(table.HEADER_SIZE, SIZE - 4096, 4096 * 16):
            at = random.randrange(4096)
            forgery.map[start + at : start + 4096] = noise[at:]
        forgery.changed()
        yield


def claim():
    """Every slot is said to be in use, and to have changed, at the cost of a page for each 64."""
    forgery = Forgery(table.CAPACITY)
    for index in range(0, table.CAPACITY, table.CHUNK):
        forgery.map[table.HEADER_SIZE + index * table.SLOT_SIZE] = 1
    while True:
        forgery.changed()
        yield
        time.sleep(0.1)  # who burns CPU time pays with it


def flood():
    """As many tables as can be, every slot of which is another living or ended thread each time."""
    forgeries = [Forgery(table.CAPACITY, created_ns=NOW_NS + n) for n in range(int(sys.argv[2]))]
    images = []
    for parity in range(2):
        for index in range(table.CAPACITY):
            forgeries[0].slot(
                index,
                b"%d-%d" % (parity, index),
                state=table.ENDED if parity else table.LIVE,
                tid=random.getrandbits(32),
                serial=random.getrandbits(63),
                ident=random.getrandbits(63),
                cpu_ns=random.getrandbits(63),
                end_serial=index,
            )
        images.append(bytes(forgeries[0].map[table.HEADER_SIZE : SIZE]))
    while True:
        for image in images:
            for forgery in forgeries:
                forgery.map[table.HEADER_SIZE : SIZE] = image
                forgery.changed()
                yield


def lie():
    """Threads that are not there, of other processes, from the future, with all the CPU time there is."""
    victim = int(sys.argv[2])
    most = table.CPU_UNKNOWN - 1
    with_victims = Forgery(64, pid=victim, start_ticks=own_start_ticks(victim))
    with_victims.slot(0, b"a lie about another", tid=victim)
    Forgery(1, start_ticks=1)
    Forgery(1, pid=0)
    own = Forgery(
        64,
        gil_address=2**62,
        gil_size=4096,
        ident_offset=4096,
        native_offset=8,
        interpreter=2**62,
        created_ns=2**64 - 1,
    )
    own.slot(0, b"myself", ident=threading.get_ident())
    own.slot(1, b"the victim's", tid=victim)
    own.slot(2, b"init's", tid=1)
    own.slot(3, b"born later", born_ns=2**64 - 1)
    own.slot(4, b"ended with all there is", state=table.ENDED, tid=7, cpu_ns=most, end_serial=1)
    own.slot(5, b"ended twice", state=table.ENDED, tid=os.getpid(), cpu_ns=most, end_serial=1)
    own.slot(6, b"(other)", tid=9)
    own.slot(7, b"(unattributed)", tid=10)
    number = 10
    while True:
        number += 1
        own.slot(8, b"again", state=table.ENDED, tid=8, serial=number, cpu_ns=most, end_serial=3)
        own.slot(9, b"again", tid=os.getpid(), serial=number)
        own.changed()
        for _ in range(1000):
            crc32(b"some work of its own")
        yield


def memfds():
    """A thousand memfds with the table's name: empty, garbage, another's, and others than before."""
    most = int(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fds = []
    while True:
        while len(fds) < most:
            fds.append(os.memfd_create(table.NAME))
            if len(fds) % 3 == 0:
                os.write(fds[-1], random.getrandbits(8 * 256).to_bytes(256, "little"))
            elif len(fds) % 3 == 1:
                forgery = Forgery(1, start_ticks=len(fds))
                forgery.map.close()
                fds.append(forgery.fd)
        yield
        for fd in fds[: most // 4]:
            os.close(fd)
        del fds[: most // 4]


def names():
    """Threads, and a process, that are called what could break a label, a log line or a terminal."""
    import lab

    lab.publish()
    libc = ctypes.CDLL(None)
    libc.prctl(15, b'\x1b[2J"}\n#', 0, 0, 0)  # PR_SET_NAME
    for name in lab_names():
        thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
        thread.start()
        thread.name = name
    while True:
        yield


def lab_names():
    """What the threads are called."""
    return [
        'x"} 1\nthreadwatch_polls_total 99999\ny{a="',
        "\n# HELP evil evil\n# TYPE evil gauge\nevil 1",
        "back\\slash\\n\\",
        "\x1b]0;owned\x07\x1b[31mred\x1b[0m\x1b[2J",
        "\u202eevil\u2066\u200b",
        "\x00nul\x7f\x9b31m",
        "<script>alert(1)</script>",
        "level=error msg=forged\ntime=2000-01-01 level=info",
        "\ud800lone",
        "x" * 5000,
        "(other)",
        "(unattributed)",
        "",
    ]


def bomb():
    """So many processes as fast as they can be made; they stay, and end with their parent."""
    libc = ctypes.CDLL(None)
    for _ in range(int(sys.argv[2])):
        if not libc.fork():  # faster than os.fork, which has Python put itself in order
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            libc.pause()
    while True:
        yield


def execs():
    """One program after another in the same process, without a pause."""
    deadline, directory = float(sys.argv[2]), sys.argv[3]
    if "CHAOS_BEGUN" not in os.environ:
        os.environ["CHAOS_BEGUN"] = "1"
        print("ready", flush=True)
    if time.monotonic() < deadline:
        name = os.path.join(directory, "program-%d.py" % random.SystemRandom().randrange(10**6))
        os.symlink(os.path.realpath(__file__), name)
        os.execv(sys.executable, [sys.executable, "-S", name, *sys.argv[1:]])
    while True:
        yield


def chain():
    """Each process is the child of the one before."""
    libc = ctypes.CDLL(None)
    for _ in range(int(sys.argv[2])):
        told, tell = os.pipe()
        if os.fork():
            os.close(tell)
            os.read(told, 1)
            break
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
        os.close(told)
        last = tell
    else:
        os.write(last, b"x")
    while True:
        yield


def frozen():
    """Stopped by itself in the middle of writing a slot."""
    forgery = Forgery(64)
    for index in range(8):
        forgery.slot(index, b"thread %d" % index)
    forgery.changed()
    print("ready", flush=True)
    half = table.HEADER_SIZE + 2 * table.SLOT_SIZE + 20
    forgery.map[half : half + 60] = b"\xaa" * 60
    forgery.changed()
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        yield


def main():
    """Do harm until stdin ends."""
    role = globals()[sys.argv[1]]()
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    next(role)
    print("ready", flush=True)
    for _ in role:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
