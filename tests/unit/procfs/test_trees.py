"""Trees in a directory: the captured one, and those that the builder makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fixtures
from tests.proctree import ProcTree
from threadwatch.errors import Gone, Unusable
from threadwatch.procfs import (
    ProcFS,
    find_tables,
    parse_cgroup,
    parse_cmdline,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
)


@pytest.fixture
def captured() -> ProcFS:
    """Return the captured tree."""
    return ProcFS(str(fixtures.PROC))


def test_captured_processes_are_listed(captured: ProcFS) -> None:
    """Each numeric directory is a process; in a captured tree, no PID is one for a system call."""
    assert sorted(captured.pids()) == [2, 100, 200, 300, 400, 500, 600]
    assert not captured.same_namespace


def test_captured_threads_are_read_by_tid(captured: ProcFS) -> None:
    """The threads of a process, each with its own files."""
    with captured.open_process(fixtures.APPLICATION) as process:
        assert sorted(process.tids()) == list(fixtures.APPLICATION_THREADS)
        for tid, comm in fixtures.APPLICATION_THREADS.items():
            assert parse_stat(process.read_task(tid, "stat")).comm == comm
        cpu_ns, *_ = parse_schedstat(process.read_task(101, "schedstat"))
        assert cpu_ns >= 50_000_000  # it was captured after it had used that much


def test_captured_process_has_the_rest(captured: ProcFS) -> None:
    """Executable, arguments, cgroup and file descriptors are there to be read."""
    with captured.open_process(fixtures.APPLICATION) as process:
        assert (process.exe() or "").startswith("/usr/bin/python3")
        assert parse_cmdline(process.read("cmdline", "cmdline")) == ("python3", "app.py")
        assert parse_cgroup(process.read("cgroup", "cgroup")).systemd_unit == "shop.service"
        assert find_tables(process) == [3]


def test_a_link_in_a_tree_is_no_table(captured: ProcFS) -> None:
    """What a captured link points to is not there: no table is opened, none is made up."""
    with captured.open_process(fixtures.APPLICATION) as process, pytest.raises(Gone):
        process.open_table(3)


@pytest.mark.parametrize("pid", [fixtures.KERNEL_THREAD, fixtures.ZOMBIE])
def test_a_process_without_memory_has_no_exe(captured: ProcFS, pid: int) -> None:
    """A kernel thread and a zombie live without an executable and arguments: that is no error."""
    with captured.open_process(pid) as process:
        assert process.exe() is None
        assert parse_cmdline(process.read("cmdline", "cmdline")) == ()


def test_half_gone_process_gives_what_is_left(captured: ProcFS) -> None:
    """A file that has vanished is Gone, one by one; the others are still read."""
    with captured.open_process(fixtures.HALF_GONE) as process:
        assert parse_stat(process.read("stat", "stat")).num_threads == 2
        assert sorted(process.tids()) == list(fixtures.HALF_GONE_THREADS)
        for tid in fixtures.HALF_GONE_THREADS:
            with pytest.raises(Gone):
                process.read_task(tid, "stat")
        assert process.read_task(fixtures.HALF_GONE_THREADS[0], "schedstat")
        assert process.read_task(fixtures.HALF_GONE_THREADS[1], "comm")


def test_built_files_are_in_the_kernels_format(tmp_path: Path) -> None:
    """What the builder was told is what the parsers find."""
    process = ProcTree(tmp_path).process(
        4711, comm=b"a) \\\n", uid=7, cmdline=("x", ""), cgroup=b"0::/x.service\n", nspid=(4711, 3)
    )
    process.thread(
        4712,
        own_tid=4,
        user_ticks=5,
        cpu_ns=6,
        runqueue_ns=7,
        timeslices=8,
        read_bytes=9,
        state="R",
    )
    with ProcFS(str(tmp_path)).open_process(4711) as read:
        assert sorted(read.tids()) == [4711, 4712]
        stat = parse_stat(read.read("stat", "stat"))
        assert (stat.comm, stat.user_ticks, stat.num_threads) == (b"a) \\\n", 5, 2)
        status = parse_status(read.read("status", "status"))
        assert (status.uids, status.nspid) == ((7,) * 4, (4711, 3))
        task = parse_stat(read.read_task(4712, "stat"))
        assert (task.pid, task.state, task.user_ticks) == (4712, "R", 5)
        assert parse_status(read.read_task(4712, "status")).nspid == (4712, 4)
        assert parse_schedstat(read.read_task(4712, "schedstat"))[1] == 7
        assert parse_io(read.read_task(4712, "io")).read_bytes == 9
        assert parse_cmdline(read.read("cmdline", "cmdline")) == ("x",)
        assert parse_cgroup(read.read("cgroup", "cgroup")).systemd_unit == "x.service"


def test_built_threads_change_and_end(tmp_path: Path) -> None:
    """A kept file sees the change; an ended thread is Gone and stays in the process's sums."""
    process = ProcTree(tmp_path).process(4711)
    thread = process.thread(4712, user_ticks=1)
    with ProcFS(str(tmp_path)).open_process(4711) as read:
        kept = read.open_task_file(4712, "stat")
        thread.set(user_ticks=8)
        assert parse_stat(kept.read()).user_ticks == 8
        kept.close()
        thread.end()
        assert read.tids() == [4711]
        with pytest.raises(Gone):
            read.read_task(4712, "stat")
        assert parse_stat(read.read("stat", "stat")).user_ticks == 8


def test_built_pid_can_be_used_again(tmp_path: Path) -> None:
    """After a process has ended and another has its PID, what was opened before is Gone."""
    tree = ProcTree(tmp_path)
    tree.process(4711, comm=b"old").end()
    tree.process(4711, comm=b"older")
    with ProcFS(str(tmp_path)).open_process(4711) as before:
        tree.processes[4711].end()
        tree.process(4711, comm=b"new")
        with pytest.raises(Gone):
            before.read("stat", "stat")


@pytest.mark.parametrize(
    "there", ["nothing", "an empty directory", "numbers without stat", "a file"]
)
def test_what_is_no_procfs_is_unusable(tmp_path: Path, there: str) -> None:
    """One line says what is missing where, and what to do."""
    root = tmp_path / "proc"
    if there == "a file":
        root.write_text("")
    elif there != "nothing":
        root.mkdir()
        if there == "numbers without stat":
            (root / "4711").mkdir()
    with pytest.raises(Unusable) as caught:
        ProcFS(str(root))
    message = str(caught.value)
    assert message.startswith(f"{root} is not mounted: {root}/self/stat: ")
    assert message.endswith("or name another with --path.procfs")
    assert "\n" not in message
