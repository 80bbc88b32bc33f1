"""What the daemon sees with fewer rights: what is lost is absent and counted, and nothing is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness import until
from tests.service.systemd.machine import DROP_INS, TARGETS, UNITS, WRITER, Machine, Service, value

COMM = WRITER[:15]
"""What the kernel has of the name."""


@dataclass(frozen=True, slots=True)
class Rights:
    """A way to run the daemon, and which sources are denied to it."""

    capabilities: str
    denied: frozenset[str]


RIGHTS = {
    "both": Rights("CAP_SYS_PTRACE CAP_DAC_READ_SEARCH", frozenset()),
    "ptrace": Rights("CAP_SYS_PTRACE", frozenset({"fd", "syscall"})),
    "read-search": Rights("CAP_DAC_READ_SEARCH", frozenset({"exe", "fd", "syscall"})),
    "none": Rights("", frozenset({"exe", "fd", "syscall"})),
}


@pytest.fixture
def fast(service: Service) -> Service:
    """Return the unit, to be started with ten polls in a second."""
    service.machine.write("/etc/threadwatch.yml", "poll_interval: 100ms\n")
    service.options("--config.file=/etc/threadwatch.yml")
    return service


def grant(service: Service, capabilities: str) -> None:
    """Run the unit with just these."""
    lines = [
        f"{key}={one}"
        for key in ("AmbientCapabilities", "CapabilityBoundingSet")
        for one in ("", capabilities)
    ]
    service.drop_in("[Service]\n" + "\n".join(lines) + "\n")


def denied(metrics: str) -> set[str]:
    """Return the sources that are counted as denied."""
    pattern = r'^threadwatch_read_errors_total\{reason="(\w+)",source="(\w+)"\} [1-9]'
    found = re.findall(pattern, metrics, re.MULTILINE)
    assert {reason for reason, _ in found} <= {"denied"}, found
    return {source for _, source in found}


def after_polls(service: Service, count: int = 20) -> str:
    """Return the metrics after this many polls, when rare reads have been made, too."""
    until(lambda: (service.value("threadwatch_polls_total") or 0) >= count, "some polls")
    return service.metrics()


def threads(metrics: str, group: str) -> dict[tuple[str, str], float]:
    """Return how many threads the group has, by name and state."""
    found = re.findall(
        rf'^threadwatch_threads\{{group="{group}",state="(\w+)",thread="([^"]*)"\}} (\S+)$',
        metrics,
        re.MULTILINE,
    )
    return {(thread, state): float(number) for state, thread, number in found if float(number)}


NAMED = {("MainThread", "sleep"): 1.0, (WRITER, "lock"): 1.0, ("order-socket", "socket"): 1.0}
"""The threads of a target as it knows itself."""
KERNELS = {("python", "sleeping"): 1.0, (COMM, "sleeping"): 1.0, ("order-socket", "sleeping"): 1.0}
"""The values are the same that the kernel tells every user."""


def cpu_ns(machine: Machine, group: str) -> int:
    """Return the CPU time of a target, by the kernel, which rests."""
    pid = Service(machine, group).pid()
    lines = machine.run("sh", "-c", f"cat /proc/{pid}/task/*/schedstat").splitlines()
    return sum(int(line.split()[0]) for line in lines)


def check_cpu(machine: Machine, metrics: str, group: str) -> None:
    """Check that the group's CPU time and the sum of its threads are what the kernel has for the process."""
    true = cpu_ns(machine, group) / 1e9
    total = value(metrics, f'threadwatch_group_cpu_seconds_total{{group="{group}"}}')
    assert total == pytest.approx(true, abs=1e-8)
    parts = re.findall(
        rf'^threadwatch_thread_cpu_seconds_total\{{group="{group}",.*\}} (\S+)$',
        metrics,
        re.MULTILINE,
    )
    assert sum(map(float, parts)) == pytest.approx(true, abs=1e-8)


@pytest.mark.parametrize("name", RIGHTS)
def test_what_is_lost_is_absent_and_counted(fast: Service, machine: Machine, name: str) -> None:
    """Without a capability names and reasons are absent, and the denial counted; CPU time stays exact."""
    rights = RIGHTS[name]
    grant(fast, rights.capabilities)
    fast.start()
    metrics = after_polls(fast)
    assert denied(metrics) == rights.denied
    published = 1.0 if name == "both" else None
    for group in TARGETS:
        assert threads(metrics, group) == (NAMED if name == "both" else KERNELS), group
        series = f'threadwatch_group_published_processes{{group="{group}"}}'
        assert value(metrics, series) in {published, published or 0.0}
        assert (f'threadwatch_gil_held_seconds_total{{group="{group}"' in metrics) == (
            name == "both"
        )
        check_cpu(machine, metrics, group)
    hidden = "Permission hides some: threadwatch doctor says what." in fast.show("StatusText")
    assert hidden == bool(rights.denied)


def test_python_stacks(fast: Service, machine: Machine) -> None:
    """With drop-in and option, py-spy reads other users' threads for the page; else a line says why not."""
    fast.options("--config.file=/etc/threadwatch.yml", "--web.enable-stacks")
    fast.start()
    url = f"http://127.0.0.1:{fast.port}/api/v1"

    def view() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(machine.get(f"{url}/view") or "{}").get(
            "processes", []
        )
        return found

    def await_targets() -> None:
        until(
            lambda: (
                {
                    process["group"]
                    for process in view()
                    if WRITER in {thread["name"] for thread in process["threads"]}
                }
                >= TARGETS.keys()
            ),
            "the threads",
        )

    def ask(group: str) -> str:
        (process,) = (process for process in view() if process["group"] == group)
        (thread,) = (thread for thread in process["threads"] if thread["name"] == WRITER)
        query = f"pid={process['pid']}&tid={thread['tid']}&start_ticks={thread['start_ticks']}"
        return machine.run(
            *("curl", "--silent", "--request", "POST", "--header", "X-Threadwatch: test"),
            f"{url}/stack?{query}",
        )

    await_targets()
    said = ask("shop")
    assert said.startswith("Cannot be read: py-spy cannot read process ")
    assert "Failed to suspend process: EPERM: Operation not permitted" in said
    fast.drop_in((DROP_INS / "stacks.conf").read_text(), "stacks")
    fast.do("restart")
    await_targets()
    for group in TARGETS:
        frames = json.loads(ask(group))["frames"]
        assert [frame["function"].rpartition(".")[2] for frame in frames] == [
            "run",
            "_bootstrap_inner",
            "_bootstrap",
        ]


@pytest.mark.parametrize("way", ["both", "none", "none-group"])
def test_hidden_processes(fast: Service, machine: Machine, way: str) -> None:
    """Under hidepid=2, CAP_SYS_PTRACE sees all; without it others' processes are absent, but for a group."""
    machine.run("groupadd", "--system", "--force", "proc")
    gid = machine.run("getent", "group", "proc").split(":")[2]
    if way != "both":
        grant(fast, "")
    # these two bring a procfs of its own, without hidepid, in systemd 262
    fast.drop_in("[Service]\nProtectKernelTunables=no\nProtectControlGroups=no\n", "proc")
    if way == "none-group":
        fast.drop_in((DROP_INS / "hidepid.conf").read_text(), "hidepid")
    machine.run("mount", "-o", f"remount,hidepid=2,gid={gid}", "/proc")
    try:
        fast.start()
        metrics = after_polls(fast)
        for group in TARGETS:
            expected = {"both": NAMED, "none": {}, "none-group": KERNELS}[way]
            assert threads(metrics, group) == expected, group
            if expected:
                check_cpu(machine, metrics, group)
            else:
                assert f'group="{group}"' not in metrics
        assert threads(metrics, "threadwatch")
    finally:
        machine.run("mount", "-o", "remount,hidepid=0,gid=0", "/proc")


def test_all_users_without_capabilities(fast: Service, machine: Machine) -> None:
    """Without a capability it has the names of processes of two users that have started since it did.

    Their CPU time is exact, what needs their memory is absent, and the others keep the kernel's names.
    """
    fast.drop_in((DROP_INS / "no-capabilities.conf").read_text())
    machine.run("systemctl", "stop", "books")
    fast.start()
    assert machine.run("stat", "--format=%a", "/run/threadwatch/publish.socket") == "666"
    status = machine.run("cat", f"/proc/{fast.pid()}/status")
    assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}
    try:
        for name in ("books", "late"):
            machine.start_target(name)
        named = {(name, "sleeping"): number for (name, _), number in NAMED.items()}
        for group in ("books", "late"):
            until(lambda group=group: threads(fast.metrics(), group) == named, "names")  # type: ignore[misc]  # mypy knows no such default
        metrics = after_polls(fast)
        assert threads(metrics, "shop") == KERNELS
        for group in ("books", "late", "shop"):
            check_cpu(machine, metrics, group)
            assert f'threadwatch_gil_held_seconds_total{{group="{group}"' not in metrics
    finally:
        machine.run("systemctl", "stop", "late", check=False)


def test_own_user_without_capabilities(fast: Service, machine: Machine) -> None:
    """As the application's user, without a capability, it sees that user's threads in full, and no others.

    And the application's shared memory is still there when it has stopped.
    """
    shared = "/dev/shm/shop"  # noqa: S108  # of the machine
    machine.run("setpriv", "--reuid=shop", "--clear-groups", "touch", shared)
    fast.drop_in((DROP_INS / "own-user.conf").read_text())
    fast.start()
    metrics = after_polls(fast)
    assert threads(metrics, "shop") == NAMED
    for group in ("books", "mail"):
        assert threads(metrics, group) == KERNELS
        check_cpu(machine, metrics, group)
    status = machine.run("cat", f"/proc/{fast.pid()}/status")
    assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}
    fast.do("stop")
    machine.run("ls", shared)


def test_user_unit_sees_its_users_processes(machine: Machine) -> None:
    """Under a user's own service manager it is ready, sees that user's threads in full, reloads and stops."""
    uid = machine.run("id", "--user", "shop")
    home, runtime = "/home/shop", f"/run/user/{uid}"
    machine.write(
        "/etc/systemd/system/user@.service.d/test.conf",
        # what pam_systemd would set
        "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n",
    )
    machine.write(
        f"{home}/.config/systemd/user/threadwatch.service",
        (UNITS / "user/threadwatch.service").read_text(),
    )
    machine.write(
        f"{home}/.config/threadwatch.env",
        "THREADWATCH_OPTIONS=--web.listen-address=127.0.0.1:9750\n",
    )
    machine.run("mkdir", "-p", f"{home}/.local/bin")
    machine.run("ln", "-sf", "/opt/threadwatch/bin/threadwatch", f"{home}/.local/bin/threadwatch")
    machine.run("chown", "-R", "shop:", home)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"user@{uid}")

    def systemctl(*arguments: str) -> str:
        return machine.run(
            *("setpriv", "--reuid=shop", "--regid=shop", "--clear-groups", "--reset-env"),
            *(
                "env",
                f"XDG_RUNTIME_DIR={runtime}",
                "systemctl",
                "--user",
                *arguments,
                "threadwatch",
            ),
        )

    try:
        systemctl("start")
        assert systemctl("show", "--value", "--property=ActiveState") == "active"
        service = Service(machine, port=9750)
        metrics = after_polls(service, 3)
        assert threads(metrics, "shop") == NAMED
        assert threads(metrics, "books") == KERNELS
        systemctl("reload")
        until(
            lambda: "Watching" in systemctl("show", "--value", "--property=StatusText"),
            "the status",
        )
        systemctl("stop")
        assert systemctl("show", "--value", "--property=Result,ExecMainStatus") == "success\n0"
    finally:
        machine.run("systemctl", "stop", f"user@{uid}")
