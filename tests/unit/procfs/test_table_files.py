"""Tables of real processes, and what hostile processes put in their place."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT
from tests.unit.procfs.helpers import NAMESPACES, NOBODY, Target, read_elsewhere
from threadwatch.errors import Gone, Malformed, ReadError
from threadwatch.names.slots import parse_header, parse_slots
from threadwatch.procfs import (
    MAX_TABLES,
    TABLE_LINK,
    ProcessDir,
    ProcFS,
    find_some_tables,
    find_tables,
)
from threadwatch.publisher import layout as table

Start = Callable[..., Target]
Open = Callable[[Target], ProcessDir]

# A table as a publisher makes it, with three threads.
TABLE = f"""
sys.path.insert(0, {str(CHECKOUT)!r})
from threadwatch.publisher import layout as table
def make(threads=3):
    fd = os.memfd_create(table.NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, table.HEADER_SIZE + table.CAPACITY * table.SLOT_SIZE)
    static = table.pack_static(flags=0, pid=os.getpid(), start_ticks=5, hexversion=sys.hexversion,
                               interpreter=0, created_ns=1, implementation=b"cpython")
    os.pwrite(fd, static, 0)
    os.pwrite(fd, table.DYNAMIC.pack(threads, 0), table.DYNAMIC_OFFSET)
    for i in range(threads):
        slot = table.pack_slot(table.LIVE, 0, i + 1, 100 + i, i, 1, 0, table.CPU_UNKNOWN, 0, b"thread %d" % i)
        os.pwrite(fd, slot, table.HEADER_SIZE + i * table.SLOT_SIZE)
    return fd
"""


class TestTables:
    """Tables that are what they should be."""

    def test_a_table_is_found_and_read(self, start: Start, opened: Open) -> None:
        """Header, counters and slots of another process come back as they were written."""
        target = start(TABLE + "words = [make()]")
        process = opened(target)
        assert find_tables(process) == [int(target.words[0])]
        with process.open_table(int(target.words[0])) as file:
            header = parse_header(file.read_header())
            assert (header.pid, header.generation, header.overflow) == (target.pid, 3, 0)
            slots, torn = parse_slots(file.read_slots(0, 10))
            assert [(i, slot.tid, slot.name) for i, slot in slots] == [
                (0, 100, "thread 0"),
                (1, 101, "thread 1"),
                (2, 102, "thread 2"),
            ]
            assert torn == 0
            assert file.owner_uid == os.geteuid()

    def test_a_table_outlives_its_process(self, start: Start, opened: Open) -> None:
        """The ends of threads that were published last can be read after the process's own."""
        target = start(TABLE + "words = [make()]")
        with opened(target).open_table(int(target.words[0])) as file:
            target.end()
            assert parse_header(file.read_header()).pid == target.pid
            assert len(parse_slots(file.read_slots(0, 64))[0]) == 3

    def test_slots_beyond_the_capacity_are_not_read(self, start: Start, opened: Open) -> None:
        """However many slots are asked for, and however long the file, no more than a table's are read."""
        target = start(TABLE + "words = [make()]\nos.ftruncate(words[0], 1 << 30)")
        with opened(target).open_table(int(target.words[0])) as file:
            last = table.CAPACITY - 1
            assert len(file.read_slots(last, 1000)) == table.SLOT_SIZE
            assert file.read_slots(table.CAPACITY, 1) == b""
            assert file.read_slots(-1, 1) == b""
            assert file.read_slots(0, 0) == b""

    def test_two_tables_are_told_apart(self, start: Start, opened: Open) -> None:
        """Each table has an inode of its own, the same each time that it is opened."""
        target = start(TABLE + "words = [make(), make()]")
        process = opened(target)
        inodes = []
        for fd in find_tables(process) * 2:
            with process.open_table(fd) as file:
                inodes.append(file.inode)
        assert inodes[:2] == inodes[2:]
        assert inodes[0] != inodes[1]

    def test_other_memfds_are_no_tables(self, start: Start, opened: Open) -> None:
        """Only the exact name counts."""
        target = start(
            "words = [os.memfd_create(n) for n in ('threadwatch2', 'xthreadwatch', 'threadwatch (deleted)')]"
        )
        assert find_tables(opened(target)) == []

    def test_no_target_keeps_the_daemon_busy(self, start: Start, opened: Open) -> None:
        """Of many descriptors some are looked at, and of many tables some are returned."""
        target = start(
            "words = [os.memfd_create('threadwatch')]; same = [os.dup(words[0]) for _ in range(200)]"
        )
        process = opened(target)
        found = find_tables(process)
        assert len(found) == MAX_TABLES
        first = int(target.words[0])
        assert find_some_tables(process, 0, first + 3) == (found[:3], first + 3)

    def test_many_descriptors_are_looked_at_in_parts(self, start: Start, opened: Open) -> None:
        """Part by part all are seen once, however far apart their numbers are."""
        target = start(
            "import fcntl; fd = os.memfd_create('threadwatch')\n"
            "words = [fcntl.fcntl(fd, fcntl.F_DUPFD, n) for n in range(100, 1000, 9)]\nos.close(fd)"
        )
        process = opened(target)
        found, first, parts = [], 0, 0
        while first or not parts:
            fds, first = find_some_tables(process, first, 7)
            found += fds
            parts += 1
        assert found == [int(word) for word in target.words]
        assert parts == (len(process.fds()) + 7) // 7

    def test_a_descriptor_that_is_something_else_by_now_is_gone(
        self, start: Start, opened: Open
    ) -> None:
        """Between finding and opening, a target may close its table and open another file."""
        target = start("words = [os.open('/dev/null', os.O_RDONLY)]")
        with pytest.raises(Gone):
            opened(target).open_table(int(target.words[0]))

    def test_a_user_without_rights_reads_the_tables_of_its_own(self, start: Start) -> None:
        """Capabilities are for other users' processes only."""
        target = start(f"{NOBODY}{TABLE}become_nobody()\nwords = [make()]")
        code = f"""{NOBODY}
become_nobody()
with ProcFS().open_process(int(sys.argv[1])) as process:
    for fd in find_tables(process):
        with process.open_table(fd) as file:
            print(parse_header(file.read_header()).pid, file.owner_uid)
"""
        assert read_elsewhere(code, target.pid) == f"{target.pid} 65534\n"

    def test_a_reader_with_another_root_reads_them_as_well(
        self, start: Start, tmp_path: Path
    ) -> None:
        """In a chroot with a procfs of its own, the names and the mount of memfds are the same."""
        target = start(TABLE + "words = [make()]")
        code = f"""{NAMESPACES}
own_mounts()
root = sys.argv[2]
mount("tmpfs", root, b"tmpfs")
os.mkdir(root + "/proc")
mount("proc", root + "/proc", b"proc")
os.chroot(root)
os.chdir("/")
with ProcFS().open_process(int(sys.argv[1])) as process:
    for fd in find_tables(process):
        with process.open_table(fd) as file:
            print(parse_header(file.read_header()).pid)
"""
        assert read_elsewhere(code, target.pid, tmp_path) == f"{target.pid}\n"

    def test_targets_in_namespaces_of_their_own_are_read(self, start: Start, opened: Open) -> None:
        """The memfd of a process in a container is on the same kernel mount as ours."""
        target = start(
            f"{NAMESPACES}{TABLE}own_mounts()\ncheck(_libc.unshare(0x8000000))\nwords = [make()]"
        )
        with opened(target).open_table(int(target.words[0])) as file:
            assert parse_header(file.read_header()).pid == target.pid


# Files that the kernel calls like tables: on a file system of the target's own, which it has
# detached, so that their paths begin there; by name, or because they have been deleted.
DISGUISES = f"""{NAMESPACES}
import socket, stat
def disguised(make, name="memfd:threadwatch"):
    own_mounts()
    root = tempfile.mkdtemp()
    mount("tmpfs", root, b"tmpfs")
    path = root + "/" + name
    fd = make(path)
    if not name.endswith(")"):
        os.unlink(path)
    detach(root)
    os.rmdir(root)
    return fd
def fifo(path):
    os.mkfifo(path)
    return os.open(path, os.O_PATH)
def regular(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    return fd
def device(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 0))
    return os.open(path, os.O_PATH)
def directory(path):
    os.mkdir(path)
    return os.open(path, os.O_PATH)
def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    return os.open(path, os.O_PATH)
"""


class TestHostile:
    """Targets that want the daemon to block, to open their files or to believe them."""

    @pytest.mark.parametrize(
        "disguise",
        [
            "fifo, 'memfd:threadwatch (deleted)'",
            "regular, 'memfd:threadwatch (deleted)'",
            "device, 'memfd:threadwatch (deleted)'",
            "directory, 'memfd:threadwatch (deleted)'",
            "fifo",
            "regular",
            "device",
            "unix_socket",
        ],
    )
    def test_what_is_only_called_a_memfd_is_refused(
        self, start: Start, opened: Open, disguise: str
    ) -> None:
        """A file with exactly a table's name is found out by its mount, and never opened."""
        target = start(f"{DISGUISES}words = [disguised({disguise})]")
        process = opened(target)
        fd = int(target.words[0])
        assert process.fd_link(fd) == TABLE_LINK
        assert fd in find_tables(process)
        before = time.monotonic()
        with pytest.raises(
            Malformed, match=r"^table: malformed: is called like a memfd and is none"
        ):
            process.open_table(fd)
        assert time.monotonic() - before < 5  # a FIFO without a writer would block for ever

    def test_a_lease_does_not_make_the_daemon_wait(self, start: Start, opened: Open) -> None:
        """A target that holds a lease on its memfd could delay an open(2) by 45 seconds."""
        code = """
import fcntl, signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
writable = os.memfd_create("threadwatch")
words = [os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)]
os.close(writable)
fcntl.fcntl(words[0], fcntl.F_SETLEASE, fcntl.F_WRLCK)
"""
        target = start(code)
        before = time.monotonic()
        with pytest.raises(ReadError) as caught:
            opened(target).open_table(int(target.words[0]))
        assert time.monotonic() - before < 5
        assert (caught.value.source, caught.value.reason) == ("table", "eagain")

    def test_a_memfd_of_huge_pages_is_refused(self, start: Start, opened: Open) -> None:
        """It is on another mount; no publisher makes one."""
        target = start("words = [os.memfd_create('threadwatch', os.MFD_HUGETLB)]")
        with pytest.raises(Malformed):
            opened(target).open_table(int(target.words[0]))

    @pytest.mark.parametrize("size", [0, 1, table.HEADER_SIZE - 1, table.HEADER_SIZE + 100])
    def test_a_table_that_is_too_short_is_malformed(
        self, start: Start, opened: Open, size: int
    ) -> None:
        """What is missing is missing: no error of its own, no bus error, the parsers refuse it."""
        target = start(f"{TABLE}words = [make()]\nos.ftruncate(words[0], {size})")
        with opened(target).open_table(int(target.words[0])) as file:
            if size < table.HEADER_SIZE:
                with pytest.raises(Malformed):
                    parse_header(file.read_header())
            with pytest.raises(Malformed):
                parse_slots(file.read_slots(0, 64) or b"x")
            data = file.read_slots(0, 64)
            assert len(data) == max(0, size - table.HEADER_SIZE)

    def test_a_table_is_opened_for_reading_only(self, start: Start, opened: Open) -> None:
        """The daemon cannot change a target's memory, and its file does not outlive an exec."""
        target = start(TABLE + "words = [make()]")
        before = set(os.listdir("/proc/self/fd"))
        with opened(target).open_table(int(target.words[0])) as file:
            assert fcntl.fcntl(file._fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            assert not os.get_inheritable(file._fd)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(file._fd, b"x", 0)
        assert len(set(os.listdir("/proc/self/fd")) - before) == 1  # the directory that is kept

    def test_refusals_leave_nothing_open(self, start: Start, opened: Open) -> None:
        """However often a hostile descriptor is tried, the daemon's own do not run out."""
        target = start(f"{DISGUISES}words = [disguised(fifo)]")
        process = opened(target)
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(Malformed):
                process.open_table(int(target.words[0]))
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_table_of_our_own_is_read_like_any_other(procfs: ProcFS) -> None:
    """The daemon can be its own target."""
    fd = os.memfd_create(table.NAME)
    try:
        with procfs.open_process(os.getpid()) as process, process.open_table(fd) as file:
            assert file.read_header() == b""
    finally:
        os.close(fd)
