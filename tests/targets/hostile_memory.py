"""A process whose memory is a trap: addresses that cannot be read, or that keep readers waiting for ever.

``hostile_memory.py PLACE``: makes a file system of its own at PLACE (a file, in its own mount namespace),
which answers everything except reads and flushes, and maps that file. Prints as JSON the addresses of a
page in that mapping (``hung``), of one that a userfaultfd would have to bring (``fault``) and of an
ordinary one (``good``), and the PID of the file system's server (``server``): everybody who waits for the
file system waits until that is killed. It needs root.

With ``hang`` behind it, two threads wait for that file system, too: one reads the file, the other
touches the mapping. With ``exec`` it becomes another program at SIGUSR1, and that
hangs as well; with ``lock`` it keeps its memory locked from then on. With ``poll`` a thread waits in poll(2),
and what it waits for stands in a page of that mapping. With ``hand SOCKET`` it hands that file over to a
daemon, as if it were a table.
"""

import ctypes
import json
import mmap
import os
import platform
import signal
import struct
import sys
import threading
import time

# <linux/sched.h>, <linux/mount.h>, <linux/fuse.h>, <linux/userfaultfd.h>
NEWNS, REC_PRIVATE = 0x20000, 0x44000
GETATTR, OPEN, READ, FLUSH, INIT = 3, 14, 15, 25, 26
HEADER = struct.Struct("=IIQQIIII")
ANSWER = struct.Struct("=IiQ")
ATTRIBUTES = struct.pack("=6Q10I", 1, 1 << 20, 8, 0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0, 0, 4096, 0)
BODIES = {
    INIT: struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 12, 10, 1 << 16, 1, 0, 0, 0, *[0] * 7),
    GETATTR: struct.pack("=QII", 3600, 0, 0) + ATTRIBUTES,
    OPEN: struct.pack("=QII", 1, 0, 0),
}
USERFAULTFD = {"x86_64": 323, "aarch64": 282}[platform.machine()]
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
PAGE = mmap.PAGESIZE

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + (ctypes.c_int,) * 3 + (ctypes.c_long,)


def check(result):
    """What a C function has given, if it is no error."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def serve(device):
    """Be the file system, in a process of its own. Reads are never answered."""
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    while True:
        request = os.read(device, 1 << 17)
        _, code, unique, *_ = HEADER.unpack_from(request)
        if code in (READ, FLUSH):
            continue
        body = BODIES.get(code)
        error = 0 if body is not None else -38  # ENOSYS
        body = body or b""
        os.write(device, ANSWER.pack(ANSWER.size + len(body), error, unique) + body)


def file_system(place):
    """A file that can be opened and not read; and the server's PID."""
    check(libc.unshare(NEWNS))
    check(libc.mount(None, b"/", None, REC_PRIVATE, None))
    device = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=100644,user_id=0,group_id=0" % device
    check(libc.mount(b"trap", place.encode(), b"fuse", 0, options))
    server = os.fork()
    if not server:
        serve(device)
    os.close(device)
    trap = os.open(place, os.O_RDONLY)
    os.fstat(trap)  # until a process asks, the kernel takes it to be empty
    return server, trap


def missing_page():
    """The address of a page that a userfaultfd would have to bring."""
    handler = check(libc.syscall(USERFAULTFD, 0))
    check(libc.ioctl(handler, UFFDIO_API, struct.pack("=QQQ", 0xAA, 0, 0)))
    page = check(libc.mmap(None, PAGE, 3, 0x22, -1, 0))
    check(libc.ioctl(handler, UFFDIO_REGISTER, struct.pack("=QQQQ", page, PAGE, 1, 0)))
    return page


def lock_memory(hung):
    """Have one thread fetch a page that does not come, with the memory locked, and others want the lock."""
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    threading.Thread(target=os.pread, args=(memory, 1, hung), name="reads", daemon=True).start()
    time.sleep(0.5)
    threading.Thread(target=libc.mmap, args=(None, PAGE, 3, 0x22, -1, 0), daemon=True).start()
    time.sleep(1000)


def poll_then_map(page, trap):
    """Have a thread wait for what stands in a page, and then put the mapping in that page's place."""
    poll = threading.Thread(target=libc.poll, args=(ctypes.c_void_p(page), 1, -1), daemon=True)
    poll.start()
    with open("/proc/self/task/%d/wchan" % poll.native_id) as wchan:
        while "poll" not in wchan.read():
            time.sleep(0.01)
            wchan.seek(0)
    check(libc.mmap(page, PAGE, 1, 0x12, trap, 0))  # MAP_PRIVATE, MAP_FIXED


def hand_over(path, trap):
    """Send the file to a daemon's socket."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
        daemon.connect(path)
        socket.send_fds(daemon, [b"thrdwtch"], [trap])


def main():
    """Set the traps, tell where they are, and wait for the input to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    server, trap = file_system(sys.argv[1])
    hung = check(libc.mmap(None, PAGE, 1, 2, trap, 0))
    good = check(libc.mmap(None, PAGE, 3, 0x22, -1, 0))
    addresses = {"hung": hung, "fault": missing_page(), "good": good, "server": server}
    if sys.argv[2:] == ["hang"]:
        threading.Thread(target=os.read, args=(trap, 1), name="file", daemon=True).start()
        touch = threading.Thread(target=libc.memcmp, args=(ctypes.c_void_p(hung),) * 2 + (1,))
        touch.daemon = True
        touch.start()
    if sys.argv[2:3] == ["hand"]:
        hand_over(sys.argv[3], trap)
    if sys.argv[2:] == ["poll"]:
        poll_then_map(good, trap)
    print(json.dumps(addresses), flush=True)
    if sys.argv[2:] == ["exec"]:
        signal.sigwait({signal.SIGUSR1})
        os.execv("/bin/sleep", ["sleep", "1000"])  # which closes the file, and that is not answered
    if sys.argv[2:] == ["lock"]:
        signal.sigwait({signal.SIGUSR1})
        lock_memory(hung)
    sys.stdin.read()
    os._exit(0)


main()
