"""What permission hides: Yama, hidepid, subset=pid, AppArmor; and what doctor says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.harness import until
from tests.kernels.guest.here import (
    AS_NOBODY,
    AS_SHOP,
    DAEMON,
    HERE,
    CannotRun,
    answer,
    as_shipped,
    drop_in,
    shell,
    view,
)
from tests.kernels.guest.threads import STATES, states
from tests.service.systemd.machine import Service

_SCOPE: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_KERNELS: Final = {name[:15] for name in STATES}
"""The names of these threads that the kernel can have: CPython 3.14 and later gives them to it."""


@dataclass(frozen=True, slots=True)
class _User:
    """A user who asks, and whether capabilities let that user trace."""

    name: str
    prefix: Sequence[str]
    has_ptrace: bool


_USERS: Final = (
    _User("root", (), True),
    _User("the same user", AS_SHOP, False),
    _User(
        "the same user with CAP_SYS_PTRACE",
        (*AS_SHOP, "--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"),
        True,
    ),
)


def _pids() -> tuple[int, int]:
    """Return the PIDs of the process that publishes, and of the one that does not."""
    published, plain = (Service(HERE, name).pid() for name in ("rest", "plain"))
    assert published
    assert plain
    return published, plain


def _by_pid(processes: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    return {process["pid"]: process for process in processes}


def _require_yama() -> None:
    if not _SCOPE.exists():
        raise CannotRun("Yama is not built in")


def yama(scope: int) -> None:
    """Check that names are seen with the right to look, memory and reasons to wait with that to trace."""
    _require_yama()
    _SCOPE.write_text(str(scope))
    DAEMON.do("stop")  # which is not asked here, and takes a share of a slow CPU
    published, plain = _pids()
    for user in _USERS:
        may_trace = scope == 0 or (user.has_ptrace and scope < 3)
        where = f"ptrace_scope {scope}, {user.name}"
        processes = _by_pid(answer("ps", str(published), str(plain), prefix=user.prefix))
        expected = STATES if may_trace else dict.fromkeys(STATES, "sleeping")
        assert states(processes[published], "published").items() >= expected.items(), where
        assert (states(processes[plain], "memory").items() >= STATES.items()) == may_trace, where
        source = "memory" if may_trace else "comm"
        assert processes[plain]["source"] == source, (where, processes[plain]["source"])
        said = answer("doctor", str(published), str(plain), prefix=user.prefix)
        assert said["situation"]["ptrace_scope"] == scope, where
        by_yama = [one for one in said["missing"] if one["kind"] == "yama"]
        pids = {pid for one in by_yama for pid in one["pids"]}
        assert pids == (set() if may_trace else {published, plain}), (where, said["missing"])
        for pid, access in ((published, "published"), (plain, source)):
            finding = _by_pid(said["processes"])[pid]
            hidden = "yes" if may_trace else "hidden"
            assert (finding["states"], finding["memory"]) == (hidden, hidden), (where, finding)
            assert finding["source"] == access, (where, finding)
        not_read = _by_pid(said["processes"])[plain]["not_from_memory_because"]
        assert not_read == (None if may_trace else "hidden"), (where, not_read)


def yama_3() -> None:
    """Check the same for scope 3, which holds for root and the unit, and until the machine starts again."""
    yama(3)
    published, plain = _pids()
    DAEMON.do("start")
    sleeping = dict.fromkeys(STATES, "sleeping")
    until(lambda: states(view().get(published), "published").items() >= sleeping.items(), "names")
    assert view()[plain]["source"] == "comm"
    assert "Permission hides some" in DAEMON.show("StatusText")


def own_user() -> None:
    """Check that own-user.conf sees that user's threads, under Yama not in full, and that doctor says why."""
    _require_yama()
    published, plain = _pids()
    _SCOPE.write_text("0")
    try:
        drop_in("own-user.conf")
        for pid, source in ((published, "published"), (plain, "memory")):
            until(lambda: states(view().get(pid), source).items() >= STATES.items(), "ten states")  # noqa: B023 - used at once
        _SCOPE.write_text("1")
        DAEMON.do("restart")
        sleeping = dict.fromkeys(STATES, "sleeping")
        until(
            lambda: states(view().get(published), "published").items() >= sleeping.items(), "names"
        )
        assert view()[plain]["source"] == "comm"
        until(lambda: "Permission hides some" in DAEMON.show("StatusText"), "the status to say so")
        (missing,) = answer("doctor", "rest")["missing"]
        assert missing["kind"] == "daemon-yama", missing
        assert missing["pids"] == [DAEMON.pid()], missing
    finally:
        _SCOPE.write_text("0")


def hidepid(value: int) -> None:
    """Check that a user sees the own processes, root all, another user none, and that doctor says why."""
    published, _ = _pids()
    if value == 1:
        as_shipped()
    HERE.run("mount", "-o", f"remount,hidepid={value}", "/proc")
    try:
        for prefix in ((), AS_SHOP):
            (process,) = answer("ps", str(published), prefix=prefix)
            assert states(process, "published").items() >= STATES.items(), prefix
        said = answer("doctor", prefix=AS_NOBODY)
        assert "hidepid" in {one["kind"] for one in said["missing"]}, said["missing"]
        assert published not in _by_pid(said["processes"])
        assert "hidepid" not in {one["kind"] for one in answer("doctor")["missing"]}
        until(
            lambda: states(view().get(published), "published").items() >= STATES.items(), "the unit"
        )
    finally:
        HERE.run("mount", "-o", "remount,hidepid=0", "/proc")


def subset_pid() -> None:
    """Check that a procfs of processes alone is enough for names and states, and that doctor mentions it."""
    published, plain = _pids()
    mounted = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", mounted, "sh")
    processes = _by_pid(answer("ps", str(published), str(plain), prefix=prefix))
    for pid, source in ((published, "published"), (plain, "memory")):
        assert states(processes[pid], source).items() >= STATES.items(), source
    said = answer("doctor", str(published), prefix=prefix)
    assert said["situation"]["subset_pid"]
    assert any(note.startswith("subset=pid hides") for note in said["notes"]), said["notes"]


_PROFILE: Final = """
profile alone flags=(attach_disconnected) {
  capability,
  file,
  network,
  signal,
  unix,
  ptrace (read, trace, readby, tracedby) peer=alone,
}
"""
"""As the default profiles of container engines: it looks only at processes of its own profile."""


def apparmor() -> None:
    """Check that a confined process is seen, and that in a container's profile doctor says what refuses."""
    parameters = Path("/sys/module/apparmor/parameters/enabled")
    if not parameters.exists() or parameters.read_text().strip() != "Y":
        raise CannotRun("AppArmor is not built in, or off")
    published, _ = _pids()
    HERE.write("/etc/apparmor.d/alone", _PROFILE)
    HERE.run("apparmor_parser", "--replace", "/etc/apparmor.d/alone")
    confined = ("aa-exec", "-p", "alone", "--")
    unit = "--property=AppArmorProfile=alone"
    program = ("/opt/threadwatch/bin/python", "/srv/rest.py")
    HERE.run("systemd-run", "--quiet", "--unit=confined", unit, "--setenv=THREADWATCH=1", *program)
    pid = until(Service(HERE, "confined").pid, "the confined process")

    def sees(process: Mapping[str, Any] | None) -> bool:
        return states(process, "published").items() >= STATES.items()

    try:
        label = Path(f"/proc/{pid}/attr/current").read_text()
        assert label.startswith("alone (enforce)"), label
        until(lambda: sees(view().get(pid)), "the unit sees a confined process")
        until(lambda: sees(answer("ps", str(pid), prefix=confined)[0]), "those of the same profile")
        said = answer("doctor", str(published), str(pid), prefix=confined)
        assert said["situation"]["security_label"] == "alone (enforce)", said["situation"]
        refused = [one for one in said["missing"] if one["kind"] == "refused"]
        assert [one["pids"] for one in refused] == [[published]], said["missing"]
        assert "alone (enforce)" in refused[0]["text"], refused
    finally:
        shell("systemctl stop confined")
