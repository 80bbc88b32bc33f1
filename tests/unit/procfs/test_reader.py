"""The reader on real processes: this one, its children, those of others."""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import until
from tests.unit.procfs.helpers import NAMESPACES, NOBODY, Target, read_elsewhere
from threadwatch.errors import Denied, Gone, Malformed, ReadError
from threadwatch.procfs import (
    MAX_CMDLINE,
    MAX_FILE,
    ProcessDir,
    ProcFS,
    find_tables,
    parse_cmdline,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
)
from threadwatch.procfs.handles import failure

Start = Callable[..., Target]
Open = Callable[[Target], ProcessDir]


class TestOwnProcess:
    """The process that runs the tests."""

    def test_is_listed_by_its_own_pid(self, procfs: ProcFS) -> None:
        """In the machine's procfs, PIDs are those of system calls."""
        assert procfs.same_namespace
        assert os.getpid() in procfs.pids()

    def test_clock_counts_what_it_uses(self, procfs: ProcFS) -> None:
        """The process clock is CLOCK_PROCESS_CPUTIME_ID, seen from outside."""
        before = time.process_time_ns()
        seen = procfs.process_clock_ns(os.getpid())
        assert before <= seen <= time.process_time_ns()

    def test_every_file_that_is_polled_reads_and_parses(self, procfs: ProcFS) -> None:
        """The files of the process and of its main thread are this kernel's, and known."""
        with procfs.open_process(os.getpid()) as process:
            tid = os.getpid()
            assert parse_stat(process.read("stat", "stat")).ppid == os.getppid()
            assert parse_status(process.read("status", "status")).uids[1] == os.geteuid()
            assert parse_stat(process.read_task(tid, "stat")).state == "R"
            assert parse_schedstat(process.read_task(tid, "schedstat"))[0] > 0
            assert parse_status(process.read_task(tid, "status")).nspid[-1] == os.getpid()
            assert parse_io(process.read_task(tid, "io")).read_bytes >= 0
            assert process.owner_uid() == os.geteuid()
            assert process.exe() == str(Path("/proc/self/exe").readlink())

    def test_threads_are_those_that_python_knows(self, procfs: ProcFS) -> None:
        """A thread that runs is among the TIDs; its kept file is Gone once it has ended."""
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait)
        thread.start()
        tid = thread.native_id
        assert tid is not None
        with procfs.open_process(os.getpid()) as process:
            assert tid in process.tids()
            kept = process.open_task_file(tid, "stat")
            assert parse_stat(kept.read()).pid == tid
            leave.set()
            thread.join()
            until(lambda: tid not in process.tids(), "the thread has ended")
            with pytest.raises(Gone):
                kept.read()
            with pytest.raises(Gone):
                process.read_task(tid, "stat")
            kept.close()
            kept.close()

    def test_file_descriptors_are_listed_with_what_they_are(self, procfs: ProcFS) -> None:
        """The lowest come first, as many as asked for; closed ones are Gone."""
        read, write = os.pipe()
        with procfs.open_process(os.getpid()) as process:
            assert {read, write} <= set(process.fds())
            assert process.fds(2) == sorted(process.fds())[:2]
            assert process.fd_link(read).startswith("pipe:[")
            os.close(read)
            os.close(write)
            with pytest.raises(Gone):
                process.fd_link(write)

    def test_no_descriptor_is_left_open(self, procfs: ProcFS) -> None:
        """Whatever is read, and however it fails, the process has as many descriptors as before."""
        before = sorted(os.listdir("/proc/self/fd"))
        with procfs.open_process(os.getpid()) as process:
            process.tids()
            process.fds()
            process.fds(1)
            process.read("status", "status")
            process.read_task(os.getpid(), "stat")
            find_tables(process)
            for wrong in ("nothing", "task"):
                with pytest.raises((Gone, ReadError)):
                    process.read(wrong, wrong)
            with pytest.raises(Gone):
                process.open_table(0)
        process.close()
        assert sorted(os.listdir("/proc/self/fd")) == before

    def test_a_closed_directory_reads_nothing(self, procfs: ProcFS) -> None:
        """After close there is an error with a reason, not another process's data."""
        process = procfs.open_process(os.getpid())
        process.close()
        with pytest.raises(ReadError, match=r"^stat: ebadf"):
            process.read("stat", "stat")

    def test_no_descriptors_left_is_an_error_with_that_reason(self, procfs: ProcFS) -> None:
        """The daemon's own limit is told from a process that has gone."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with procfs.open_process(os.getpid()) as process:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                with pytest.raises(ReadError) as caught:
                    process.read_task(os.getpid(), "stat")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (caught.value.source, caught.value.reason) == ("stat", "emfile")

    def test_a_directory_is_no_file(self, procfs: ProcFS) -> None:
        """An errno without a meaning of its own becomes the reason."""
        with procfs.open_process(os.getpid()) as process, pytest.raises(ReadError) as caught:
            process.read("task", "task")
        assert (caught.value.source, caught.value.reason) == ("task", "eisdir")


PRINTS = "print(flush=True); input()"


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 70_000])
def test_long_files_are_read_whole(start: Start, opened: Open, length: int) -> None:
    """A command line of any length comes back in one piece."""
    arguments = ["python", "-c", PRINTS, ""]
    arguments[-1] = "x" * (length - len("\0".join(arguments)) - 1)
    target = start(f"os.execv(sys.executable, {arguments!r})")
    data = opened(target).read("cmdline", "cmdline")
    assert parse_cmdline(data) == tuple(filter(None, arguments))
    assert len(data) >= length


def test_the_beginning_of_a_long_command_line(start: Start, opened: Open) -> None:
    """Of a command line that lists thousands of files, the first part is read."""
    name = "/srv/lake/events/part-{:08}.snappy.parquet"
    code = f"files = [{name!r}.format(number) for number in range(20_000)]"
    data = opened(
        start(f"{code}\nos.execv(sys.executable, ['python', '-c', {PRINTS!r}, *files])")
    ).read_cmdline()
    files = [name.format(number) for number in range(20_000)]
    assert len(data) == MAX_CMDLINE
    *whole, cut = parse_cmdline(data)[3:]
    assert list(whole) == files[: len(whole)]
    assert files[len(whole)].startswith(cut)


def test_endless_files_are_malformed(tmp_path: Path) -> None:
    """A file of more than the limit is refused, not kept in memory."""
    (tmp_path / "1").mkdir()
    for name, size in (("stat", MAX_FILE), ("status", MAX_FILE + 1)):
        (tmp_path / "1" / name).write_bytes(bytes(size))
    with ProcFS(str(tmp_path)).open_process(1) as process:
        assert len(process.read("stat", "stat")) == MAX_FILE
        assert len(process.read("status", "status", most=5000)) == 5000
        with pytest.raises(Malformed, match=r"^status: malformed: longer than 1048576 bytes"):
            process.read("status", "status")


def test_a_zombie_is_read_like_a_process(start: Start, opened: Open) -> None:
    """A child that its parent has not waited for is still there: state Z, its clock, no executable."""
    target = start("")
    process = opened(target)
    target.popen.kill()
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    assert parse_stat(process.read("stat", "stat")).state == "Z"
    assert process.tids() == [target.pid]
    assert process.exe() is None
    assert process.owner_uid() == os.geteuid()
    assert process.read("cmdline", "cmdline") == b""
    assert ProcFS().process_clock_ns(target.pid) > 0


READS: dict[str, Callable[[ProcessDir], object]] = {
    "read": lambda process: process.read("stat", "stat"),
    "read_task": lambda process: process.read_task(process.pid, "stat"),
    "open_task_file": lambda process: process.open_task_file(process.pid, "stat"),
    "tids": lambda process: process.tids(),
    "owner_uid": lambda process: process.owner_uid(),
    "exe": lambda process: process.exe(),
    "namespace": lambda process: process.namespace("user"),
    "fds": lambda process: process.fds(),
    "fd_link": lambda process: process.fd_link(0),
    "open_table": lambda process: process.open_table(0),
    "find_tables": find_tables,
}


@pytest.mark.parametrize("what", READS)
def test_everything_is_gone_after_the_end(start: Start, opened: Open, what: str) -> None:
    """A directory that is kept after the process was reaped gives Gone, and nothing else."""
    target = start()
    process = opened(target)
    target.end()
    with pytest.raises(Gone):
        READS[what](process)


def test_a_number_without_a_process_is_gone(start: Start, procfs: ProcFS) -> None:
    """Opening a directory or asking a clock by the PID of a process that has ended gives Gone."""
    target = start()
    target.end()
    with pytest.raises(Gone):
        procfs.open_process(target.pid)
    with pytest.raises(Gone):
        procfs.process_clock_ns(target.pid)


def test_a_kept_directory_is_not_the_next_process() -> None:
    """When another process gets the PID, the kept directory stays Gone; a new one is the new process."""
    code = """
def child(comm):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write("499")
    pid = os.fork()
    if not pid:
        with open("/proc/self/comm", "w") as file:
            file.write(comm)
        os.write(write, b"x")
        os.read(0, 1)
        os._exit(0)
    os.read(read, 1)
    return pid

def end(pid):
    os.kill(pid, 9)
    os.waitpid(pid, 0)

read, write = os.pipe()
old = child("old")
with ProcFS().open_process(old) as kept:
    task_file = kept.open_task_file(old, "comm")
    print(kept.read("comm", "comm"))
    end(old)
    new = child("new")
    for what in (lambda: kept.read("comm", "comm"), lambda: kept.read_task(old, "comm"),
                 kept.owner_uid, kept.tids, task_file.read):
        try:
            print(what())
        except Gone:
            print("gone")
with ProcFS().open_process(new) as process:
    print(old == new, process.read("comm", "comm"))
end(new)
"""
    out = read_elsewhere(code, prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    assert out.splitlines() == ["b'old\\n'", *["gone"] * 5, "True b'new\\n'"]


def test_a_kept_directory_outlives_exec(start: Start, opened: Open) -> None:
    """A process that becomes another program is still the same process."""
    target = start("print(flush=True); sys.stdin.read(1); os.execvp('sleep', ['sleep', '1000'])")
    process = opened(target)
    started = parse_stat(process.read("stat", "stat")).start_ticks
    assert target.popen.stdin is not None
    target.popen.stdin.write(b"x")
    target.popen.stdin.flush()
    until(lambda: process.read("comm", "comm") == b"sleep\n", "it is sleep")
    assert parse_stat(process.read("stat", "stat")).start_ticks == started


class TestOtherUser:
    """Processes of root, read by a user without any rights."""

    def test_what_permission_hides_is_denied(self, start: Start) -> None:
        """Descriptors, executable and I/O are Denied by their source; no reader takes it for an end."""
        code = f"""{NOBODY}
become_nobody()
with ProcFS().open_process(int(sys.argv[1])) as process:
    for what in (
        process.fds,
        process.exe,
        lambda: process.fd_link(0),
        lambda: process.open_table(0),
        lambda: find_tables(process),
        lambda: process.read("io", "io"),
        lambda: process.read_task(process.pid, "io"),
        lambda: process.open_task_file(process.pid, "syscall"),
    ):
        try:
            print(what())
        except ReadError as error:
            print(type(error).__name__, error.source, error.reason)
"""
        sources = ["fd", "exe", "fd", "fd", "fd", "io", "io", "syscall"]
        assert read_elsewhere(code, start().pid).splitlines() == [
            f"Denied {source} denied" for source in sources
        ]

    def test_what_anyone_may_see_is_read(self, start: Start) -> None:
        """CPU time, states, names and owner need no rights."""
        code = f"""{NOBODY}
become_nobody()
procfs = ProcFS()
with procfs.open_process(int(sys.argv[1])) as process:
    stat = parse_stat(process.read_task(process.pid, "stat"))
    cpu_ns, *_ = parse_schedstat(process.read_task(process.pid, "schedstat"))
    clock = procfs.process_clock_ns(process.pid)
    print(stat.pid, process.owner_uid(), 0 < cpu_ns <= clock, process.tids())
"""
        target = start()
        assert read_elsewhere(code, target.pid) == f"{target.pid} 0 True [{target.pid}]\n"

    def test_the_owner_is_the_effective_user(self, start: Start, opened: Open) -> None:
        """A process that has given up its rights belongs to its new user, dumpable or not."""
        target = start("os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)")
        assert opened(target).owner_uid() == 65534


class TestErrno:
    """What the kernel's numbers mean."""

    @pytest.mark.parametrize("number", [errno.ENOENT, errno.ESRCH])
    def test_the_end_of_a_process_is_gone(self, number: int) -> None:
        """Both ways in which the kernel says that there is no such process."""
        assert isinstance(failure(OSError(number, "any text"), "stat"), Gone)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
    def test_refusal_is_denied(self, number: int) -> None:
        """Both ways in which the kernel says that we must not."""
        error = failure(OSError(number, "No such process"), "io")
        assert isinstance(error, Denied)
        assert (error.source, error.reason) == ("io", "denied")

    def test_einval_is_an_end_for_the_clock_alone(self) -> None:
        """clock_gettime(2) says EINVAL for a process that is not there; files do not."""
        assert isinstance(failure(OSError(errno.EINVAL, ""), "clock"), Gone)
        error = failure(OSError(errno.EINVAL, "Invalid argument"), "stat")
        assert isinstance(error, ReadError)
        assert str(error) == "stat: einval: Invalid argument"

    def test_a_number_without_a_name_is_kept(self) -> None:
        """An errno that Python does not know is still told."""
        error = failure(OSError(4095, ""), "stat")
        assert isinstance(error, ReadError)
        assert error.reason == "errno_4095"

    def test_our_own_files_never_end(self) -> None:
        """Where /proc is not mounted for the daemon itself, no target is taken for ended."""
        assert isinstance(failure(OSError(errno.ENOENT, ""), "self"), ReadError)


class TestNamespaces:
    """Other views of /proc."""

    def test_without_procfs_one_line_says_so(self) -> None:
        """Where /proc is not mounted, the daemon ends with what is wrong and what to do."""
        code = f"""{NAMESPACES}
own_mounts()
detach("/proc")
try:
    ProcFS()
except Unusable as error:
    print(error)
"""
        assert read_elsewhere(code) == (
            "/proc is not mounted: /proc/self/stat: No such file or directory; mount a procfs there "
            "(mount -t proc proc /proc) or name another with --path.procfs\n"
        )

    def test_pids_of_an_outer_namespace_are_not_for_clocks(self, start: Start) -> None:
        """From a PID namespace inside, the outer procfs is read, and known not to be our own."""
        code = """
procfs = ProcFS()
pid = int(sys.argv[1])
with procfs.open_process(pid) as process:
    print(os.getpid(), procfs.same_namespace, parse_stat(process.read("stat", "stat")).pid == pid)
"""
        out = read_elsewhere(code, start().pid, prefix=("unshare", "--pid", "--fork"))
        assert out == "1 False True\n"

    def test_the_same_number_in_two_namespaces_is_no_proof(self) -> None:
        """A process whose PID happens to be the same outside still knows the procfs for a foreign one."""
        code = """
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(os.readlink("/proc/self"))
if not os.fork():
    print(os.readlink("/proc/self") == str(os.getpid()), ProcFS().same_namespace, flush=True)
    os._exit(0)
os.wait()
"""
        outside, inside = (
            ("unshare", "--pid", "--fork", "--mount-proc"),
            ("unshare", "--pid", "--fork"),
        )
        assert read_elsewhere(code, prefix=(*outside, *inside)) == "True False\n"

    def test_inner_pids_are_in_nspid(self) -> None:
        """The status of a process in a PID namespace inside has its PID there as the last one."""
        code = """
read, write = os.pipe()
os.dup2(write, 9, inheritable=True)
import subprocess
child = subprocess.Popen(
    ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo >&9; exec sleep 1000"), close_fds=False)
os.read(read, 1)
procfs = ProcFS()
for pid in procfs.pids():
    try:
        with procfs.open_process(pid) as process:
            if parse_stat(process.read("stat", "stat")).ppid == child.pid:
                nspid = parse_status(process.read_task(pid, "status")).nspid
                print(len(nspid), nspid[0] == pid, nspid[1])
    except Gone:
        pass
child.kill()
child.wait()
"""
        assert read_elsewhere(code) == "2 True 1\n"
