"""Each parser on what real kernels and real tools write, and on what they must refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import fixtures
from threadwatch.errors import Malformed
from threadwatch.procfs import (
    FdInfo,
    Io,
    Stat,
    Waited,
    decode_comm,
    is_kernel_thread,
    parse_cgroup,
    parse_clock_offsets,
    parse_cmdline,
    parse_cpu_stat,
    parse_fdinfo,
    parse_io,
    parse_root,
    parse_schedstat,
    parse_stat,
    parse_status,
    parse_switches,
    parse_waited,
)

ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
OTHER_ID = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
UNIT = "shop.service"
UID = "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288"

STAT = (
    b"4713 (a) R (b) S 1 4711 4711 0 -1 4194368 12 99 3 98 250 75 97 96 20 -5 8 0 216004 545935360 3431 "
    b"18446744073709551615 1 1 0 0 0 0 0 16781312 2 0 0 0 17 5 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
STATUS = (
    b"Name:\tshop\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t100\nPid:\t100\n"
    b"Uid:\t1000\t1001\t1002\t4294967295\nGid:\t7\t7\t7\t7\nNSpid:\t100\t1\nThreads:\t8\n"
    b"voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n"
)
IO = (
    b"rchar: 1388033\nwchar: 6\nsyscr: 147\nsyscw: 2\nread_bytes: 73728\nwrite_bytes: 4096\n"
    b"cancelled_write_bytes: 512\n"
)


class TestStat:
    """``stat``."""

    def test_fields_are_those_of_the_manual(self) -> None:
        """Every field is taken from its place, counted as in proc_pid_stat(5)."""
        assert parse_stat(STAT) == Stat(
            pid=4713,
            comm=b"a) R (b",
            state="S",
            ppid=1,
            minor_faults=12,
            major_faults=3,
            user_ticks=250,
            system_ticks=75,
            num_threads=8,
            start_ticks=216004,
            last_cpu=5,
        )

    @pytest.mark.parametrize(("tid", "comm"), fixtures.APPLICATION_THREADS.items())
    def test_hostile_comms_do_not_shift_fields(self, tid: int, comm: bytes) -> None:
        """Whatever a thread is called, its stat gives that name and its own numbers."""
        directory = fixtures.PROC / str(fixtures.APPLICATION) / "task" / str(tid)
        stat = parse_stat((directory / "stat").read_bytes())
        assert (stat.pid, stat.comm, stat.state) == (tid, comm, "S")
        assert (stat.ppid, stat.num_threads) == (1, len(fixtures.APPLICATION_THREADS))

    def test_a_zombie_and_a_kernel_thread_parse(self) -> None:
        """Processes without memory have a whole line, too."""
        zombie = parse_stat((fixtures.PROC / str(fixtures.ZOMBIE) / "stat").read_bytes())
        assert (zombie.pid, zombie.state) == (fixtures.ZOMBIE, "Z")
        line = (fixtures.PROC / str(fixtures.KERNEL_THREAD) / "stat").read_bytes()
        kernel = parse_stat(line)
        assert (kernel.comm, kernel.ppid) == (b"kthreadd", 0)
        assert is_kernel_thread(line)
        assert not is_kernel_thread(STAT)

    def test_the_times_of_ended_children(self) -> None:
        """They are fields 16 and 17, whatever stands in comm; anything else is malformed."""
        assert parse_waited(STAT) == Waited(97, 96)
        assert parse_waited(b"7 (a) R 1 (b) S 1 7 7 0 -1 0 1 2 3 4 5 6 70 80 20 0 1") == (70, 80)
        for data in (b"", b"7 (a", b"7 (a) S 1 7 7 0 -1 0 1 2 3 4 5 6 70", b"7 (a) " + b"- " * 30):
            with pytest.raises(Malformed):
                parse_waited(data)

    def test_nobody_is_a_kernel_thread_by_a_name(self) -> None:
        """What stands in comm cannot shift the flags; flags that are no number say nothing."""
        assert not is_kernel_thread(b"7 (a) S 0 0 0 0 -1 2097152 b) S 1 7 7 0 -1 4194304 0 0\n")
        assert not is_kernel_thread(b"7 (a) S 1 7 7 0 -1 -2097152 0 0\n")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"4713",
            b"4713 (a",
            b"4713 (a) ",
            b"4713 a S 1\n",
            STAT[:100],
            STAT[: STAT.index(b" 5 0 0") + 2],  # cut right behind field 39, which may go on
            STAT.replace(b"4713", b"+4713"),
            STAT.replace(b"4713", b"-1"),
            STAT.replace(b"4713", b""),
            STAT.replace(b"4713", "٤".encode()),
            STAT.replace(b" 250 ", b" 2_50 "),
            STAT.replace(b" 250 ", b" -250 "),
            STAT.replace(b" 250 ", b"  250 "),
            STAT.replace(b" 250 ", b" 250\t"),
            STAT.replace(b" 250 ", b" %s " % (b"1" * 5000)),
            STAT.replace(b") S", b") SS"),
            STAT.replace(b") S", b") 7"),
            STAT.replace(b") S", b") \xc3"),
            STAT.replace(b") S", b")S"),
        ],
    )
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A cut line and numbers that only int() would take are refused."""
        with pytest.raises(Malformed, match=r"^stat: malformed: "):
            parse_stat(data)


class TestSchedstat:
    """``schedstat``."""

    def test_three_numbers(self) -> None:
        """CPU time, run-queue wait and timeslices stand in this order."""
        assert parse_schedstat(b"42512019 197249 23\n") == (42512019, 197249, 23)

    @pytest.mark.parametrize(
        "data",
        [b"", b"\n", b"1 2\n", b"1 2 3", b"1 2 3 4\n", b"1 2 3\n\n", b"1  2\n", b"1 -2 3\n", b"1 2_0 3\n",
         b"1\t2 3\n", b" 1 2 3\n", b"1 2 \n", b"1 2 %s\n" % (b"9" * 5000)],
    )  # fmt: skip  # one line per value would hide what they have in common
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A cut line, other counts of numbers and odd numbers are refused."""
        with pytest.raises(Malformed, match=r"^schedstat: malformed: "):
            parse_schedstat(data)


class TestStatus:
    """``status``."""

    def test_lines_that_are_used(self) -> None:
        """Each value comes from its own line."""
        status = parse_status(STATUS)
        assert status.uids == (1000, 1001, 1002, 4294967295)
        assert status.nspid == (100, 1)
        assert (status.voluntary_switches, status.involuntary_switches) == (5, 2)

    def test_what_older_kernels_lack_is_absent_not_zero(self) -> None:
        """Without NSpid the tuple is empty, without switches they are None."""
        data = b"".join(
            text
            for text in STATUS.splitlines(keepends=True)
            if not text.startswith((b"NSpid", b"voluntary", b"nonvoluntary"))
        )
        status = parse_status(data)
        assert status.nspid == ()
        assert (status.voluntary_switches, status.involuntary_switches) == (None, None)

    @pytest.mark.parametrize("tid", fixtures.APPLICATION_THREADS)
    def test_a_thread_has_its_own(self, tid: int) -> None:
        """NSpid in a thread's status is the thread's TID."""
        directory = fixtures.PROC / str(fixtures.APPLICATION) / "task" / str(tid)
        assert parse_status((directory / "status").read_bytes()).nspid == (tid,)

    @pytest.mark.parametrize(
        "name", [b"x\\nUid:\\t0", b"Uid:\t0\t0\t0\t0", b"Uid:", b"\\n", b"\\\\n"]
    )
    def test_a_name_cannot_pretend_to_be_a_line(self, name: bytes) -> None:
        """A Name that looks like Uid does not change the uids."""
        data = STATUS.replace(b"Name:\tshop", b"Name:\t" + name)
        assert parse_status(data).uids == (1000, 1001, 1002, 4294967295)

    def test_a_namespace_inside_has_both_pids(self) -> None:
        """NSpid goes from the reader's namespace to the process's own."""
        data = (fixtures.PROC / str(fixtures.NESTED) / "status").read_bytes()
        assert parse_status(data).nspid == (fixtures.NESTED, 1)

    def test_uids_of_another_user(self) -> None:
        """All four uids are those that the process has taken."""
        data = (fixtures.PROC / str(fixtures.OTHER_USER) / "status").read_bytes()
        assert parse_status(data).uids == (fixtures.OTHER_UID,) * 4

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"Name:\tshop",
            b"Name:\tshop\n",
            b"\n" + STATUS,
            STATUS.replace(b"Uid:", b"uid:"),
            STATUS.replace(b"\t1002", b""),
            STATUS.replace(b"\t1002", b"\t"),
            STATUS.replace(b"1001", b"+1001"),
            STATUS.replace(b"\t1001", b"\t1001 "),
            STATUS.replace(b"\t1001", b"\t" + b"8" * 5000),
            STATUS.replace(b"NSpid:\t100\t1", b"NSpid:\t100\tx"),
            STATUS.replace(b"NSpid:\t100\t1", b"NSpid:\t"),
            STATUS[: STATUS.index(b"Threads") + 10],
        ],
    )
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A missing or cut line and odd numbers are refused."""
        with pytest.raises(Malformed, match=r"^status: malformed: "):
            parse_status(data)

    def test_turns_on_a_cpu(self) -> None:
        """Both kinds of switches are added, and the letter R means that the thread wants a CPU."""
        assert parse_switches(STATUS) == (False, 7)
        assert parse_switches(STATUS.replace(b"State:\tS", b"State:\tR")) == (True, 7)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            STATUS.replace(b"State:", b"state:"),
            STATUS.replace(b"nonvoluntary_ctxt", b"other"),
            STATUS.replace(b"\tvoluntary_ctxt", b"other").replace(
                b"ctxt_switches:\t5", b"ctxt_switches:\tx"
            ),
        ],
    )
    def test_turns_that_are_not_told(self, data: bytes) -> None:
        """A missing line and odd numbers are refused."""
        with pytest.raises(Malformed, match=r"^status: malformed: "):
            parse_switches(data)


class TestIo:
    """``io``."""

    def test_bytes_of_the_storage_layer(self) -> None:
        """The two counts are not those of rchar, wchar or cancelled_write_bytes."""
        assert parse_io(IO) == Io(read_bytes=73728, write_bytes=4096)

    def test_cancelled_writes_do_not_stand_in_for_writes(self) -> None:
        """Without its own line, write_bytes is missing."""
        with pytest.raises(Malformed, match=r"^io: malformed: no line write_bytes:"):
            parse_io(IO.replace(b"\nwrite_bytes: 4096", b""))

    @pytest.mark.parametrize(
        "data", [b"", IO[:-40], IO.replace(b"73728", b"-1"), IO.replace(b"4096", b"")]
    )
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A cut file and odd numbers are refused."""
        with pytest.raises(Malformed, match=r"^io: malformed: "):
            parse_io(data)


class TestCmdline:
    """``cmdline``."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"", ()),
            (b"\0", ()),
            (b"python3\0", ("python3",)),
            (b"python3\0-c\0print(1)\0", ("python3", "-c", "print(1)")),
            (b"python3\0\0app.py\0", ("python3", "", "app.py")),
            (b"python3\0 spaced \0", ("python3", " spaced ")),
            (b"shop: worker [idle]", ("shop: worker [idle]",)),
            (b"shop: worker [idle]\0\0\0\0\0", ("shop: worker [idle]",)),
            (b"shop: worker [idle]      \0", ("shop: worker [idle]",)),
            (b"\xff\0caf\xc3", ("�", "caf�")),
            (b"two\nlines\0\x1b[31m\0", ("two\nlines", "\x1b[31m")),
        ],
    )
    def test_arguments_and_titles(self, data: bytes, expected: tuple[str, ...]) -> None:
        """Arguments end at NULs; a rewritten title is one element without its padding."""
        assert parse_cmdline(data) == expected

    def test_a_title_over_the_environment(self) -> None:
        """A title that is longer than the arguments were is shown whole."""
        data = (fixtures.PROC / str(fixtures.TITLE) / "cmdline").read_bytes()
        assert parse_cmdline(data) == ("shop: worker [idle]",)


class TestCgroup:
    """``cgroup``."""

    @pytest.mark.parametrize(
        ("data", "unit", "container"),
        [
            (b"", None, None),
            (b"0::/\n", None, None),
            (b"0::/system.slice/shop.service\n", UNIT, None),
            (b"0::/system.slice/shop.service (deleted)\n", UNIT, None),
            (b"0::/system.slice/_cpu.service\n", "cpu.service", None),
            (b"0::/system.slice/shop.service/payload\n", UNIT, None),
            (b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n", UNIT, None),
            (b"0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope", None),
            (b"9:name=systemd:/system.slice/shop.service\n4:memory:/other.service\n0::/\n", UNIT, None),
            (b"9:name=systemd:/\n4:memory:/other.service\n0::/shop.service\n", UNIT, None),
            (b"4:cpu,cpuacct:/other.service\n", None, None),
            (f"0::/system.slice/docker-{ID}.scope\n".encode(), f"docker-{ID}.scope", ID),
            (f"5:cpuset:/docker/{ID}\n1:name=systemd:/docker/{ID}\n".encode(), None, ID),
            (f"0::/machine.slice/libpod-{ID}.scope/container\n".encode(), f"libpod-{ID}.scope", ID),
            (f"3:pids:/libpod_parent/libpod-{ID}\n".encode(), None, ID),
            (f"0::/kubepods/besteffort/pod0d3/{ID}\n".encode(), None, ID),
            (f"0::/kubepods.slice/cri-containerd-{ID}.scope\n".encode(), f"cri-containerd-{ID}.scope", ID),
            (f"0::/kubepods.slice/crio-{ID}.scope\n".encode(), f"crio-{ID}.scope", ID),
            (f"0::/system.slice/containerd.service/kubepods-pod0d3.slice:cri-containerd:{ID}\n".encode(),
             "containerd.service", ID),
            (f"0::/default/{ID}\n".encode(), None, ID),
            (f"0::/docker/{OTHER_ID}/kubelet/kubepods/{ID}\n".encode(), None, ID),
            (f"0::/kubepods.slice/crio-conmon-{ID}.scope\n".encode(), f"crio-conmon-{ID}.scope", None),
            (f"0::/docker/{ID[:-1]}\n".encode(), None, None),
            (f"0::/docker/{ID}0\n".encode(), None, None),
            (f"0::/docker/{ID.upper()}\n".encode(), None, None),
            (b"0::/a:b:c/shop.service\n", UNIT, None),
            (b"0::/\xff/shop.service\n", UNIT, None),
        ],
    )  # fmt: skip  # one case in one line
    def test_unit_and_container(self, data: bytes, unit: str | None, container: str | None) -> None:
        """The innermost unit and container are found in each of the usual layouts."""
        found = parse_cgroup(data)
        assert (found.systemd_unit, found.container) == (unit, container)

    @pytest.mark.parametrize(
        ("data", "directory"),
        [
            (b"0::/system.slice/shop.service\n", "system.slice/shop.service"),
            (b"0::/\n", ""),
            (b"4:cpu,cpuacct:/docker/x\n0::/docker/y\n", "cpu/docker/x"),
            (b"4:cpuset:/docker/x\n2:cpu:/\n1:name=systemd:/a\n", "cpu"),
            (b"0::/../kubepods/x\n", "../kubepods/x"),
            (b"2:cpu:/../x\n0::/../y\n", "cpu/../x"),
            (b"0::/a (deleted)\n", "a"),
            (b"1:name=systemd:/a\n", None),
            (b"", None),
        ],
    )
    def test_where_cpu_time_is_limited(self, data: bytes, directory: str | None) -> None:
        """The directory for CPU time is that of v1, or else of v2; outside of our namespace it has dots."""
        assert parse_cgroup(data).cpu == directory

    @pytest.mark.parametrize(
        ("path", "container", "name", "pod"),
        [
            (f"/system.slice/shop.service/libpod-payload-{ID}", ID, None, None),
            (f"/ecs/{ID[:32]}/{ID[:32]}-1234567890", f"{ID[:32]}-1234567890", None, None),
            ("/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1",
             "6f265890-5165-7fab-6b52-18d1", None, None),
            (f"/nomad.slice/share.slice/{UID}.web.scope", f"{UID}.web", "web", None),
            (f"/nomad/{UID}.web", f"{UID}.web", "web", None),
            ("/lxc/mysql-1", "mysql-1", "mysql-1", None),
            ("/lxc.payload.web1/system.slice/shop.service", "web1", "web1", None),
            ("/lxc.monitor.web1", None, None, None),
            ("/machine.slice/systemd-nspawn@web1.service/payload", "web1", "web1", None),
            ("/machine.slice/machine-web\\x2d1.scope/payload", "web-1", "web-1", None),
            ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", None, None, None),
            (f"/machine.slice/machine-libpod_pod_{OTHER_ID}.slice/libpod-{ID}.scope", ID, None, None),
            (f"/machine.slice/libpod-conmon-{ID}.scope", None, None, None),
            (f"/kubepods/burstable/pod{UID}/{ID}", ID, None, UID),
            (f"/kubepods/burstable/pod{ID[:32]}/{ID}", ID, None, ID[:32]),
            (f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
             ID, None, UID),
            (f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope/container",
             ID, None, UID),
            (f"/containerd.service/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}",
             ID, None, UID),
            (f"/../../kubepods-besteffort-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
             ID, None, UID),
            (f"/kubepods/pod{UID}", None, None, UID),
            (f"/podruntime/{UID}", None, None, None),
        ],
    )  # fmt: skip  # one case in one line
    def test_containers_and_pods(
        self, path: str, container: str | None, name: str | None, pod: str | None
    ) -> None:
        """Containers with other ids or with names, and pods, in the layouts of each engine."""
        found = parse_cgroup(f"0::{path}\n".encode())
        assert (found.container, found.container_name, found.pod_uid) == (container, name, pod)

    @pytest.mark.parametrize(
        "data", [b"\n", b"0::/\n\n", b"0:/\n", b"x::/\n", b"0::\n", b"0::shop\n"]
    )
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A line that is none of cgroup's is refused."""
        with pytest.raises(Malformed, match=r"^cgroup: malformed: "):
            parse_cgroup(data)


class TestFdinfo:
    """``fdinfo``."""

    def test_mount_and_flags(self) -> None:
        """The mount is decimal, the flags are octal."""
        data = b"pos:\t0\nflags:\t012000000\nmnt_id:\t16\nino:\t1052\n"
        assert parse_fdinfo(data) == FdInfo(mnt_id=16, flags=0o12000000)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"pos:\t0\nflags:\t02\n",
            b"flags:\t08\nmnt_id:\t16\n",
            b"flags:\t0o2\nmnt_id:\t16\n",
            b"flags:\t02\nmnt_id:\t-1\n",
            b"flags:\t02\nmnt_id:\t16",
            b"flags:\t" + b"1" * 5000 + b"\nmnt_id:\t16\n",
        ],
    )
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A missing or cut line and odd numbers are refused."""
        with pytest.raises(Malformed, match=r"^fdinfo: malformed: "):
            parse_fdinfo(data)


class TestIdMap:
    """``uid_map``."""

    @pytest.mark.parametrize(
        ("data", "root"),
        [
            (b"         0          0 4294967295\n", 0),
            (b"         0     100000      65536\n", 100000),
            (b"         1     100000       1000\n         0       1000          1\n", 1000),
            (b"      1000       1000          1\n", None),
            (b"         0 4294967295          1\n", None),
            (b"         0       1000          0\n", None),
            (b"", None),
        ],
    )
    def test_the_root(self, data: bytes, root: int | None) -> None:
        """The root is the id that 0 stands for, in any line; none where no id does."""
        assert parse_root(data) == root

    @pytest.mark.parametrize("data", [b"\n", b"0 0\n", b"0 0 1 2\n", b"0 -1 1\n", b"a b c\n"])
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """A line that is no range is refused."""
        with pytest.raises(Malformed, match=r"^uid_map: malformed: "):
            parse_root(data)


class TestTimeOffsets:
    """``timens_offsets``."""

    @pytest.mark.parametrize(
        ("data", "offsets_ns"),
        [
            (b"monotonic           0         0\nboottime            0         0\n", (0, 0)),
            (
                b"monotonic           5         0\nboottime        86400        25\n",
                (5_000_000_000, 86_400_000_000_025),
            ),
            (
                b"monotonic          -5         7\nboottime         -600         0\n",
                (-4_999_999_993, -600_000_000_000),
            ),
            (b"1 5 0\n7 -1 500000000\n", (5_000_000_000, -500_000_000)),
        ],
    )
    def test_both_clocks(self, data: bytes, offsets_ns: tuple[int, int]) -> None:
        """Each has a line; seconds can be negative, nanoseconds not."""
        assert parse_clock_offsets(data) == offsets_ns

    @pytest.mark.parametrize("data", [b"", b"monotonic 1 2\n", b"boottime 1\n", b"boottime 1 -2\n"])
    def test_anything_else_is_malformed(self, data: bytes) -> None:
        """Without such a line it is refused."""
        with pytest.raises(Malformed, match=r"^timens_offsets: malformed: "):
            parse_clock_offsets(data)


class TestComm:
    """``comm``."""

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (b"", ""),
            (b"\n", "\n"),
            (b"worker", "worker"),
            (b"two\nlines\n", "two\nlines\n"),
            ("überprüfung-é".encode()[:15], "überprüfung-�"),
            (b"\xff\x1b[0m", "�\x1b[0m"),
        ],
    )
    def test_text_of_any_bytes(self, raw: bytes, expected: str) -> None:
        """What is not UTF-8 is replaced, everything else stays."""
        assert decode_comm(raw) == expected

    @pytest.mark.parametrize("tid", fixtures.APPLICATION_THREADS)
    def test_file_and_stat_agree(self, tid: int) -> None:
        """The comm file and field 2 of stat decode to the same name."""
        directory = fixtures.PROC / str(fixtures.APPLICATION) / "task" / str(tid)
        stat = parse_stat((directory / "stat").read_bytes())
        file = (directory / "comm").read_bytes()
        assert decode_comm(file.removesuffix(b"\n")) == decode_comm(stat.comm)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "stat": parse_stat,
    "schedstat": parse_schedstat,
    "status": parse_status,
    "io": parse_io,
    "cmdline": parse_cmdline,
    "cgroup": parse_cgroup,
    "cpu.stat": parse_cpu_stat,
}


def test_every_captured_file_parses() -> None:
    """No file that a real kernel wrote is malformed."""
    parsed = 0
    for path in fixtures.PROC.rglob("*"):
        if path.is_file() and path.name in PARSERS and not path.is_symlink():
            PARSERS[path.name](path.read_bytes())
            parsed += 1
    assert parsed > 50
