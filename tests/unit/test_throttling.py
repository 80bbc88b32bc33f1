"""How long groups were throttled, from captured trees of cgroups."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.errors import Malformed
from threadwatch.model.keys import ProcessKey
from threadwatch.poll.throttling import Throttling
from threadwatch.procfs import CgroupTree, Place, Throttled, parse_cpu_stat

RULES = GroupRules("group", 200, str, 60_000_000_000)
STEP_NS = 5_000_000_000
V1 = b"nr_periods 100\nnr_throttled 40\nthrottled_time 4280000000\nnr_bursts 0\nburst_time 0\n"
V2 = (
    b"usage_usec 900\nuser_usec 500\nsystem_usec 400\ncore_sched.force_idle_usec 0\n"
    b"nr_periods 100\nnr_throttled 40\nthrottled_usec 4280000\nnr_bursts 0\nburst_usec 0\n"
)


@pytest.mark.parametrize(
    ("data", "throttled"),
    [
        (V1, Throttled(100, 4_280_000_000)),
        (V2, Throttled(100, 4_280_000_000)),
        (b"usage_usec 900\nuser_usec 500\nsystem_usec 400\n", Throttled(0, 0)),
        (b"", Throttled(0, 0)),
    ],
    ids=["v1", "v2", "no controller", "empty"],
)
def test_both_versions_are_read(data: bytes, throttled: Throttled) -> None:
    """The time is nanoseconds of v1 and microseconds of v2; without a limit it is 0."""
    assert parse_cpu_stat(data) == throttled


@pytest.mark.parametrize("data", [b"nr_periods\n", b"nr_periods x\n", b"a " + b"9" * 21])
def test_other_bytes_are_malformed(data: bytes) -> None:
    """A line that is not a name and a number of 64 bits is an error that names it."""
    with pytest.raises(Malformed, match="NAME NUMBER"):
        parse_cpu_stat(data)


class Tree:
    """A tree of cgroups, and processes in it: each is its group's only one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.account = Account()
        self.throttling = Throttling(self.account, CgroupTree(str(root)))
        self.processes: dict[str, Any] = {}
        self.now_ns = 0

    def put(self, directory: str, periods: int, ms: int) -> None:
        """Write a cgroup's count."""
        place = self.root / directory
        place.mkdir(parents=True, exist_ok=True)
        text = f"nr_periods {periods}\nnr_throttled 1\nthrottled_usec {ms * 1000}\n"
        (place / "cpu.stat").write_text(text)

    def run(self, group: str, cgroup: str | None) -> None:
        """Let a process of a group run in a cgroup."""
        process = ProcessKey(100 + len(self.processes), 1)
        self.account.open(process, group, RULES, 0)
        self.processes[group] = SimpleNamespace(
            key=process,
            membership=SimpleNamespace(cpu_cgroup=cgroup),
            last=SimpleNamespace(poll=1),
        )

    def look(self) -> dict[str, int | None]:
        """Look after five seconds, and return each group's total, in ms."""
        self.now_ns += STEP_NS
        self.throttling.look(self.processes.values(), self.now_ns)
        return {
            group.name: None if group.throttled_ns is None else group.throttled_ns // 1_000_000
            for group in self.account.groups(self.now_ns)
        }


def test_a_group_has_what_its_limit_withheld_since_it_was_seen(tmp_path: Path) -> None:
    """The first look finds 0, later ones what came to that; the nearest limit above a cgroup counts."""
    tree = Tree(tmp_path)
    tree.put("pod/app/worker", 0, 0)
    tree.put("pod/app", 10, 700)
    tree.put("pod", 10, 90_000)
    tree.put("system.slice/free.service", 0, 0)
    tree.run("shop", "pod/app/worker")
    tree.run("free", "system.slice/free.service")
    tree.run("hidden", None)
    tree.run("gone", "pod/away")
    assert tree.look() == {"shop": 0, "free": 0, "hidden": None, "gone": None}
    tree.put("pod/app", 20, 1900)
    tree.put("pod", 20, 95_000)
    assert tree.look()["shop"] == 1200
    assert tree.look()["shop"] == 1200


def test_totals_never_fall(tmp_path: Path) -> None:
    """A cgroup that is gone, or made anew with a smaller count, takes nothing away."""
    tree = Tree(tmp_path)
    tree.put("app", 10, 0)
    tree.run("shop", "app")
    tree.look()
    tree.put("app", 20, 500)
    assert tree.look()["shop"] == 500
    tree.put("app", 1, 100)
    assert tree.look()["shop"] == 500
    tree.put("app", 2, 160)
    assert tree.look()["shop"] == 560
    (tmp_path / "app" / "cpu.stat").unlink()
    assert tree.look()["shop"] == 560


def test_looks_are_five_seconds_apart(tmp_path: Path) -> None:
    """Between two looks nothing is read, whatever is asked."""
    tree = Tree(tmp_path)
    tree.put("app", 10, 0)
    tree.run("shop", "app")
    tree.look()
    tree.put("app", 20, 500)
    tree.throttling.look(tree.processes.values(), tree.now_ns + STEP_NS - 1)
    (group,) = tree.account.groups(tree.now_ns)
    assert group.throttled_ns == 0


@pytest.fixture
def namespace(tmp_path: Path) -> tuple[Path, CgroupTree]:
    """Return the host's cgroups, and what a daemon in a cgroup namespace of its own sees of them."""
    proc = tmp_path / "proc"
    host = proc / "1/root" / "sys/fs/cgroup"
    (host / "kubepods/pod-a/daemon").mkdir(parents=True)
    (host / "system.slice").mkdir()
    (proc / "2").mkdir()
    flags = 0x00208040  # PF_KTHREAD among others
    (proc / "2/stat").write_text(f"2 (kthreadd) S 0 0 0 0 -1 {flags} 0 0\n")
    return host, CgroupTree(str(host / "kubepods/pod-a/daemon"), str(proc))


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("..", "kubepods/pod-a"),
        ("../app", "kubepods/pod-a/app"),
        ("../../pod-b/app", "kubepods/pod-b/app"),
        ("../../../system.slice/shop.service", "system.slice/shop.service"),
        ("../../..", ""),
    ],
)
def test_a_cgroup_outside_of_our_namespace_is_found(
    namespace: tuple[Path, CgroupTree], path: str, directory: str
) -> None:
    """Its path from our own place leads to its directory in the host's tree, as that of its first process."""
    host, tree = namespace
    assert tree.place(path) == Place(f"{host}/", directory)


def test_a_cgroup_in_our_namespace_is_read_there(namespace: tuple[Path, CgroupTree]) -> None:
    """A path without dots is one of our own mount."""
    host, tree = namespace
    assert tree.place("app") == Place(str(host / "kubepods/pod-a/daemon"), "app")


def test_each_hierarchy_has_a_tree_of_its_own(tmp_path: Path) -> None:
    """With cgroup v1, our place in the hierarchy of the cpu controller counts."""
    proc = tmp_path / "proc"
    host = proc / "1/root" / "sys/fs/cgroup"
    (host / "cpu/docker/ours").mkdir(parents=True)
    (proc / "2").mkdir()
    (proc / "2/stat").write_text("2 (kthreadd) S 0 0 0 0 -1 2097152 0 0\n")
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted/cpu").symlink_to(host / "cpu/docker/ours")
    tree = CgroupTree(str(tmp_path / "mounted"), str(proc))
    assert tree.place("cpu/../theirs") == Place(f"{host}/cpu/", "docker/theirs")


def test_the_first_process_of_a_container_is_not_believed(
    namespace: tuple[Path, CgroupTree],
) -> None:
    """Where PID 2 is no thread of the kernel, PID 1 may be a container's: its root is not looked into."""
    host, tree = namespace
    (host.parents[4] / "2/stat").write_text("2 (shop) S 1 2 2 0 -1 4194304 0 0\n")
    assert tree.place("../app") is None


@pytest.mark.parametrize("path", ["../../../../..", "../../../../x"])
def test_no_cgroup_is_above_the_root(namespace: tuple[Path, CgroupTree], path: str) -> None:
    """More levels up than we are deep lead nowhere."""
    _, tree = namespace
    assert tree.place(path) is None


def test_without_the_right_to_look_there_is_nothing(tmp_path: Path) -> None:
    """Where the root of PID 1 cannot be followed, a cgroup outside is out of sight."""
    (tmp_path / "2").mkdir()
    (tmp_path / "2/stat").write_text("2 (kthreadd) S 0 0 0 0 -1 2097152 0 0\n")
    assert CgroupTree(str(tmp_path), str(tmp_path)).place("../app") is None
