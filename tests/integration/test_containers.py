"""Applications in cgroups that are called as container engines call them."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.harness import DEADLINE, run, until
from tests.serving import application, serving
from tests.testbed import CHECKOUT
from threadwatch.procfs import parse_cpu_stat

UID = "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288"


@contextlib.contextmanager
def cgroup(path: str) -> Iterator[Path]:
    """Make a cgroup (v2, or else systemd's of v1) while this is entered; its processes have to end before."""
    root = next(
        place
        for place in map(
            Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
        )
        if (place / "cgroup.procs").exists()
    )
    with ExitStack() as made:
        place = root
        for part in path.split("/"):
            place /= part
            if not place.exists():
                place.mkdir()
                made.callback(_remove, place)
        yield place


def _remove(place: Path) -> None:
    until(lambda: not (place / "cgroup.procs").read_text(), f"{place} is empty")
    place.rmdir()


def test_containers_are_told_apart(tmp_path: Path) -> None:
    """One application on the host and in two containers of a pod is three groups, each with its place."""
    ids = [os.urandom(32).hex() for _ in range(2)]
    with ExitStack() as stack:
        places = [stack.enter_context(cgroup(f"kubepods/burstable/pod{UID}/{id_}")) for id_ in ids]
        programs = [stack.enter_context(application(name="app.py")) for _ in range(3)]
        for place, program in zip(places, programs[1:], strict=True):
            (place / "cgroup.procs").write_text(str(program.pid))
        daemon = stack.enter_context(serving(tmp_path))
        groups = ["app", *(f"app@{id_[:12]}" for id_ in ids)]
        for group in groups:
            published = f'threadwatch_group_published_processes{{group="{group}"}}'
            until(lambda name=published: daemon.metric(name) == "1.0", f"{group} is seen")  # type: ignore[misc]  # a default binds it
        infos = [
            line
            for line in daemon.get("/metrics")[1].splitlines()
            if line.startswith("threadwatch_group_container_info{")
        ]
        for id_ in ids:
            labels = f'{{container_id="{id_}",group="app@{id_[:12]}",pod_uid="{UID}",unit="'
            assert sum(labels in line for line in infos) == 1
        assert not [line for line in infos if 'group="app"' in line and UID in line]
        ps = run("ps", "app", check=True)
        assert all(f"{program.pid}" in ps.stdout for program in programs), ps.stdout


def test_a_user_in_a_container_is_a_number(tmp_path: Path) -> None:
    """The name that our own passwd has for a uid is not believed in a container; on the host it is."""
    config = tmp_path / "config.yml"
    config.write_text("groups: [{name: '{app} of {user}', match: {user: ., exe: python}}]\n")
    id_ = os.urandom(32).hex()
    with ExitStack() as stack:
        place = stack.enter_context(cgroup(f"docker/{id_}"))
        inside, _ = (stack.enter_context(application(name="app.py")) for _ in range(2))
        (place / "cgroup.procs").write_text(str(inside.pid))
        daemon = stack.enter_context(serving(tmp_path, f"--config.file={config}"))
        for user in (str(os.geteuid()), pwd.getpwuid(os.geteuid()).pw_name):
            series = f'threadwatch_group_published_processes{{group="app of {user}"}}'
            until(lambda name=series: daemon.metric(name) == "1.0", series)  # type: ignore[misc]  # a default binds it


@contextlib.contextmanager
def limited() -> Iterator[tuple[Path, Callable[[], float]]]:
    """Make a cgroup that gets a fifth of a CPU; yields it and a function: its throttled seconds."""
    root = Path("/sys/fs/cgroup")
    v1 = (root / "cpu").is_dir()
    place = root / ("cpu" if v1 else "") / f"threadwatch-{os.getpid()}"
    if not v1:
        (root / "cgroup.subtree_control").write_text("+cpu")
    place.mkdir()
    try:
        if v1:
            (place / "cpu.cfs_quota_us").write_text("20000")
        else:
            (place / "cpu.max").write_text("20000 100000")
        stat = place / "cpu.stat"
        yield place, lambda: parse_cpu_stat(stat.read_bytes()).throttled_ns / 1e9
    finally:
        _remove(place)


def test_a_limit_of_cpu_time_is_told_from_a_busy_host(tmp_path: Path) -> None:
    """An application that computes under a limit is throttled, as the kernel counts; another is not."""
    code = (
        "def work():\n    while True: sum(range(1000))\n"
        "threading.Thread(target=work, name='engine', daemon=True).start()\n"
    )
    name = 'threadwatch_group_throttled_seconds_total{{group="{}"}}'
    with ExitStack() as stack:
        place, kernel = stack.enter_context(limited())
        shop = stack.enter_context(application(name="shop.py", code=code))
        stack.enter_context(application(name="free.py"))
        (place / "cgroup.procs").write_text(str(shop.pid))
        before = kernel()
        daemon = stack.enter_context(serving(tmp_path))

        def throttled(group: str) -> float:
            return float(daemon.metric(name.format(group)) or 0)

        until(lambda: throttled("shop") > 0, "the limit is seen")
        assert throttled("shop") <= kernel() - before
        assert daemon.metric(name.format("free")) == "0.0"


_IN_A_NAMESPACE = """
echo $$ >"$1/cgroup.procs"
shift
exec unshare --cgroup --mount sh -ec 'umount "$3"; mount -t "$1" -o "$2" none "$3"; shift 3; exec "$@"' - "$@"
"""
_LOOK = """
import os, sys
from threadwatch.procfs import CgroupTree, parse_cgroup
with open(f"/proc/{sys.argv[1]}/cgroup", "rb") as file:
    path = parse_cgroup(file.read()).cpu
place = CgroupTree(proc=sys.argv[2]).place(path)
print(path, place and os.stat(os.path.join(*place, "cpu.stat")).st_ino)
"""


def test_a_limit_is_found_from_a_cgroup_namespace_of_our_own(tmp_path: Path) -> None:
    """A daemon whose cgroup namespace hides an application's cgroup finds the very one by way of PID 1.

    PID 1 is the test, which has all cgroups mounted: that of the machine lets not everybody look.
    """
    (tmp_path / "1").mkdir()
    (tmp_path / "1/root").symlink_to(f"/proc/{os.getpid()}/root")
    (tmp_path / "2").mkdir()
    (tmp_path / "2/stat").write_text("2 (kthreadd) S 0 0 0 0 -1 2097152 0 0\n")
    with ExitStack() as stack:
        place, _ = stack.enter_context(limited())
        v1 = place.parent.name == "cpu"
        for name in ("daemon", "app"):
            (place / name).mkdir()
            stack.callback(_remove, place / name)
        shop = stack.enter_context(application(name="shop.py"))
        (place / "app/cgroup.procs").write_text(str(shop.pid))
        mount = ("cgroup", "cpu") if v1 else ("cgroup2", "rw")
        look = (sys.executable, "-c", _LOOK, str(shop.pid), str(tmp_path))
        done = subprocess.run(
            [
                "sh",
                "-c",
                _IN_A_NAMESPACE,
                "-",
                str(place / "daemon"),
                *mount,
                str(place.parent),
                *look,
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        path = "cpu/../app" if v1 else "../app"
        inode = (place / "app/cpu.stat").stat().st_ino
        assert (done.stdout, done.stderr) == (f"{path} {inode}\n", "")
