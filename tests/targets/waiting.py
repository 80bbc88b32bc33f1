"""One thread for each thing that a Python thread can wait for; each is called by the state that it is in.

Those that wait for a lock, a socket … wait for ever: each look at them sees the same.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import http.server
import itertools
import multiprocessing
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import lab

lab.publish()

LONG = 3600.0
PLACE = tempfile.mkdtemp()
NUMBERS = itertools.count()
KEPT = []
"""What has to stay open, locked or alive."""
CHILD = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
"""Ends with its input, which ends with this process."""


def keep(*things):
    """Keep them; gives the first."""
    KEPT.extend(things)
    return things[0]


def new_path():
    """A path where nothing is yet."""
    return os.path.join(PLACE, "%d" % next(NUMBERS))


def new_file(path):
    """A file that is open for writing."""
    return keep(os.open(path, os.O_WRONLY | os.O_CREAT))


def child(command=CHILD, **options):
    """A child that lives as long as this process."""
    reading, writing = pipe()
    keep(writing)
    return keep(subprocess.Popen(command, stdin=reading, **options))


def pair():
    """One of two sockets that are connected."""
    return keep(*socket.socketpair())


def pipe():
    """The two ends of a pipe."""
    return os.pipe()


def fifo():
    """The path of a named pipe."""
    path = new_path()
    os.mkfifo(path)
    return path


def with_timeout(sock):
    """The socket, with a timeout."""
    sock.settimeout(LONG)
    return sock


def server(backlog=1):
    """A socket that listens."""
    sock = keep(socket.socket(socket.AF_UNIX))
    sock.bind(new_path())
    sock.listen(backlog)
    return sock


def fill_socket():
    """Send until there is no more room."""
    pair().sendall(bytes(1 << 26))


def fill_pipe():
    """Write until there is no more room."""
    _, writing = pipe()
    while True:
        os.write(writing, bytes(1 << 16))


def fill_backlog():
    """Connect to a server that accepts no connection until there is no more room."""
    address = server(0).getsockname()
    while True:
        keep(socket.socket(socket.AF_UNIX)).connect(address)


def taken(lock):
    """A lock that another thread holds."""
    lock.acquire()
    return lock


def file_lock():
    """Lock a file that another has locked."""
    path = new_path()
    fcntl.flock(new_file(path), fcntl.LOCK_EX)
    fcntl.flock(new_file(path), fcntl.LOCK_EX)


def locked_elsewhere():
    """The path of a file that another process has locked."""
    path = new_path()
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX);"
        " print(flush=True); sys.stdin.read()"
    )
    holder = child([*CHILD[:-1], program, path], stdout=subprocess.PIPE)
    holder.stdout.readline()
    return path


def condition():
    """Wait to be notified."""
    waiting = keep(threading.Condition())
    with waiting:
        waiting.wait()


def poll(*files):
    """Wait for any of them."""
    waiting = select.poll()
    for file in files:
        waiting.register(file, select.POLLIN)
    waiting.poll()


def epoll():
    """Wait for whatever there is in it."""
    with select.epoll() as waiting:
        waiting.register(pair(), select.EPOLLIN)
        waiting.poll()


def serve():
    """Wait for a client to come, as the standard library's servers do."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as it:
        it.serve_forever(poll_interval=LONG)


def open_fifo():
    """Open a named pipe that no other process opens."""
    with open(fifo()):
        pass


def read_fifo():
    """Read a named pipe that no process writes to."""
    os.read(os.open(fifo(), os.O_RDWR), 1)


def read_terminal():
    """Read a terminal without a user."""
    os.read(keep(*os.openpty()[::-1]), 1)


def spawn():
    """Start a child that cannot begin: it has to open a named pipe first, which no other process opens."""
    libc = ctypes.CDLL(None)
    actions = ctypes.create_string_buffer(1024)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 0, fifo().encode(), os.O_RDONLY, 0)
    arguments = (ctypes.c_char_p * 2)(b"true", None)
    pid = ctypes.c_int()
    libc.posix_spawn(ctypes.byref(pid), b"/bin/true", actions, None, arguments, None)


def pid_descriptor():
    """Wait for a child by its descriptor."""
    poll(os.pidfd_open(CHILDREN[0].pid))


CONTEXT = multiprocessing.get_context("fork")
# No thread starts one later: it would inherit files that the others need closed, and one of the
# waits is just that.
CHILDREN = [
    child(),
    child(),
    child(stdout=subprocess.PIPE),
    child(stdout=subprocess.PIPE),
    child(stdout=subprocess.PIPE, stderr=subprocess.PIPE),
]
LOCKED = locked_elsewhere()
OTHERS = taken(threading.RLock())
PROCESS = CONTEXT.Process(target=time.sleep, args=(LONG,), daemon=True)
WAITS = {
    "lock: Lock": lambda: taken(threading.Lock()).acquire(),
    "lock: Lock, with a timeout": lambda: taken(threading.Lock()).acquire(timeout=LONG),
    "lock: RLock of another thread": OTHERS.acquire,
    "lock: Event": lambda: threading.Event().wait(),
    "lock: Event, with a timeout": lambda: threading.Event().wait(LONG),
    "lock: Semaphore": lambda: threading.Semaphore(0).acquire(),
    "lock: Condition": condition,
    "lock: Queue": lambda: queue.Queue().get(),
    "lock: Queue, with a timeout": lambda: queue.Queue().get(timeout=LONG),
    "lock: SimpleQueue": lambda: queue.SimpleQueue().get(),
    "lock: Thread.join": lambda: threading.main_thread().join(),
    "lock: multiprocessing.Lock": lambda: taken(keep(CONTEXT.Lock())).acquire(),
    "lock: flock": file_lock,
    "lock: lockf": lambda: fcntl.lockf(new_file(LOCKED), fcntl.LOCK_EX),
    "socket: recv": lambda: pair().recv(1),
    "socket: recv, with a timeout": lambda: with_timeout(pair()).recv(1),
    "socket: file": lambda: pair().makefile("rb").read(1),
    "socket: recvfrom": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).recvfrom(1),
    "socket: send": fill_socket,
    "socket: accept": lambda: server().accept(),
    "socket: accept, with a timeout": lambda: with_timeout(server()).accept(),
    "socket: connect": fill_backlog,
    "socket: os.read": lambda: os.read(pair().fileno(), 1),
    "socket: select of one": lambda: select.select([pair()], [], []),
    "socket: poll of one": lambda: poll(pair()),
    "socket: server": serve,
    "socket: multiprocessing.Pipe": lambda: keep(*CONTEXT.Pipe()).recv(),
    "poll: select of two": lambda: select.select([pair()], [pipe()[0]], []),
    "poll: poll of two": lambda: poll(pair(), pair()),
    "poll: epoll": epoll,
    "poll: asyncio": lambda: asyncio.run(asyncio.sleep(LONG)),
    "poll: communicate, two pipes": lambda: CHILDREN[4].communicate(timeout=LONG),
    "pipe: read": lambda: os.read(pipe()[0], 1),
    "pipe: write": fill_pipe,
    "pipe: select of one": lambda: select.select([pipe()[0]], [], []),
    "pipe: named, open": open_fifo,
    "pipe: named, read": read_fifo,
    "pipe: child's output": CHILDREN[2].stdout.read,
    "pipe: communicate, one pipe": lambda: CHILDREN[3].communicate(timeout=LONG),
    "pipe: multiprocessing.Queue": lambda: keep(CONTEXT.Queue()).get(),
    "pipe: multiprocessing.Queue, with a timeout": lambda: keep(CONTEXT.Queue()).get(timeout=LONG),
    "sleep: time.sleep": lambda: time.sleep(LONG),
    "sleep: select of none": lambda: select.select([], [], [], LONG),
    "sleep: poll of none": lambda: select.poll().poll(LONG * 1000),
    "sleep: signal.pause": signal.pause,
    "sleep: signal.sigwait": lambda: signal.sigwait([signal.SIGUSR1]),
    "child: subprocess": CHILDREN[1].wait,
    "child: multiprocessing": lambda: os.waitpid(PROCESS.pid, 0),
    "child: pidfd": pid_descriptor,
    "child: not begun": spawn,
    "file: terminal": read_terminal,
}
if sys.version_info >= (3, 10):
    WAITS["poll: eventfd"] = lambda: os.eventfd_read(os.eventfd(0))


def end_children():
    """End every child: the one that has not begun holds what the others wait for."""
    for tid in os.listdir("/proc/self/task"):
        # a thread ends when the child has that it waits for
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open("/proc/self/task/%s/children" % tid) as children:
                pids = children.read().split()
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)


def main():
    """Start a thread for each wait, say who they are, and hold still."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    PROCESS.start()
    people = queue.SimpleQueue()
    faults = queue.SimpleQueue()

    def wait(body):
        people.put(lab.me())
        try:
            body()
        except Exception as error:  # of any kind: the test is told
            faults.put(repr(error))
        faults.put(threading.current_thread().name)

    for name, body in WAITS.items():
        threading.Thread(target=wait, args=(body,), name=name, daemon=True).start()
    said = [people.get() for _ in WAITS]
    lab.step("all wait", lab.process(said))
    while not faults.empty():
        sys.stderr.write("does not wait: " + faults.get())
        sys.stderr.flush()
        os._exit(1)
    end_children()
    os._exit(0)


main()
