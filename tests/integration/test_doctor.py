"""``threadwatch doctor`` against the kernel: real processes, real users, real capabilities and mounts.

Alone what no machine has at once is laid out as files: Yama, whose refusals are then those of a file's mode.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness import DEADLINE, threadwatch, until
from tests.proctree import ProcTree
from tests.serving import ready, serving
from tests.terminal import written_to_a_terminal
from tests.testbed import CHECKOUT, descendants

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
BOTH = "sys_ptrace,+dac_read_search"
UNIT = "AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
PUBLISH = "import threadwatch; threadwatch.publish()"
UNDUMPABLE = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE"


def able(capabilities: str) -> tuple[str, ...]:
    """Return a command before another that runs that as user 65534, with these capabilities and no others."""
    return (*NOBODY, f"--inh-caps=-all,+{capabilities}", f"--ambient-caps=-all,+{capabilities}")


@contextlib.contextmanager
def python(*lines: str, prefix: Sequence[str] = ()) -> Iterator[int]:
    """Yield the PID of a Python process that has run these lines, and waits."""
    code = "\n".join([*lines, "print('ready', flush=True)", "input()"])
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    with ready(*prefix, sys.executable, "-c", code, env=env) as process:
        yield process.pid


def run(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Return ``threadwatch doctor`` to its end."""
    environment = {k: v for k, v in os.environ.items() if k != "KUBERNETES_SERVICE_HOST"}
    return subprocess.run(
        [*prefix, *threadwatch("doctor", *arguments)],
        cwd=CHECKOUT,
        env={**environment, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def report(*arguments: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """Return what it says as JSON; its exit code has to agree."""
    done = run(*arguments, "--json", prefix=prefix)
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    assert said["ok"] is (said["missing"] == [])
    return said


def seen(said: dict[str, Any], pid: int) -> tuple[str, str, str, str]:
    """Return what is said of one process: its table, names, states, memory."""
    (found,) = (process for process in said["processes"] if process["pid"] == pid)
    return found["table"], found["names"], found["states"], found["memory"]


def kinds(said: dict[str, Any]) -> dict[str, list[int]]:
    """Return what is missing, and of which processes."""
    return {one["kind"]: one["pids"] for one in said["missing"]}


def ways(said: dict[str, Any], kind: str) -> dict[str, list[str]]:
    """Return how to grant it."""
    (found,) = (one for one in said["missing"] if one["kind"] == kind)
    return {way["where"]: way["lines"] for way in found["ways"]}


def source(said: dict[str, Any], pid: int) -> tuple[str, str | None]:
    """Return where the names of one process's threads come from, and why that is not its memory."""
    (found,) = (process for process in said["processes"] if process["pid"] == pid)
    return found["source"], found["not_from_memory_because"]


VISIBLE = ("found", "yes", "yes", "yes")
HIDDEN = ("hidden", "hidden", "hidden", "hidden")


def test_nothing_is_missing() -> None:
    """Of a process that publishes root can read all: the text ends in a line that says so, the code is 0."""
    with python(PUBLISH) as pid:
        done = run(str(pid))
        said = report(str(pid))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "Nothing is missing."
    (row,) = (line for line in lines if line.split()[:1] == [str(pid)])
    version = "{}.{}.{}".format(*sys.version_info)
    application = re.escape("python -c")
    assert re.fullmatch(
        rf" +{pid}  root +{application} +CPython {version} +yes +found +table +none +yes +yes", row
    )
    assert seen(said, pid) == VISIBLE
    assert said["situation"]["pid_namespace"] == "host"
    assert said["situation"]["capabilities"] == {
        "CAP_SYS_PTRACE": True,
        "CAP_DAC_READ_SEARCH": True,
    }


ONE_NAME_EACH = """
import threading, time
for number in range(12):
    name = f"conn-{0x1e5a3e30 + number * 0x9e3779b1 & 0xffffffff:08x}"
    threading.Thread(target=time.sleep, args=(600,), name=name, daemon=True).start()
"""


@pytest.mark.parametrize("source", ["published", "memory"])
def test_names_that_differ_only_in_a_number_have_a_rule_that_can_be_pasted(source: str) -> None:
    """The daemon counts the names, doctor prints their rule, and with that both have one name of them."""

    def foldable(config: Path, count: str) -> str:
        with serving(config.parent, f"--config.file={config}") as daemon:
            labels = 'group="python -c"'
            until(lambda: daemon.metric(f"threadwatch_group_processes{{{labels}}}"), "watched")
            until(lambda: names_of_connections(daemon.get("/metrics")[1]) == 12, "named")
            assert daemon.metric(f"threadwatch_group_foldable_names{{{labels}}}") == count
            return daemon.get("/metrics")[1]

    def names_of_connections(exposed: str) -> float:
        """Return how many threads have a name by now."""
        found = re.findall(
            r'^threadwatch_threads\{.*thread="conn-[^"]*"\} (\S+)$', exposed, re.MULTILINE
        )
        return sum(map(float, found))

    first = PUBLISH if source == "published" else ""
    with python(first, ONE_NAME_EACH) as pid, tempfile.TemporaryDirectory() as place:
        config = Path(place) / "threadwatch.yml"
        only = "groups:\n  - name: python -c\n    match:\n      cmdline: conn-\n"
        base = f"unmatched: ignore\nnames: {{from_memory: true}}\n{only}"
        config.write_text(base)
        arguments = (str(pid), f"--config.file={config}")
        said = report(*arguments)
        (process,) = said["processes"]
        assert process["source"] == source
        (found,) = said["foldable"]
        assert (found["application"], found["names"]) == ("python -c", 12)
        assert (found["match"], found["name"]) == ("conn-[0-9a-f]{8,}", "conn-N")
        foldable(config, "12.0")

        lines = run(*arguments).stdout.splitlines()
        start = lines.index("threads:")
        config.write_text("\n".join([base, *lines[start : start + 4], ""]))
        assert report(*arguments)["foldable"] == []
        assert 'thread="conn-N"' in foldable(config, "0.0")


def test_a_process_that_does_not_publish() -> None:
    """One without a table can be read but for its names, and the three ways to publish are shown."""
    with python() as pid:
        said = report(str(pid))
        done = run(str(pid))
    assert seen(said, pid) == ("none", "no", "yes", "yes")
    assert kinds(said) == {"not-published": [pid]}
    assert source(said, pid) == ("memory", None)
    assert "Names are read from memory." in said["missing"][0]["text"]
    assert sum("What only a process that publishes shows" in note for note in said["notes"]) == 1
    for way in ("threadwatch run -- COMMAND", "THREADWATCH=1 COMMAND", "threadwatch.publish()"):
        assert way in done.stdout
    assert "CAP_" not in done.stdout.partition("PROCESSES")[2]
    assert "prctl" not in done.stdout


def test_names_that_are_not_read_from_memory(tmp_path: Path) -> None:
    """Of two processes that do not publish, it says which one's memory is not to be read, and why."""
    config = tmp_path / "threadwatch.yml"
    config.write_text(
        "groups:\n  - {name: secret, match: {cmdline: secret}, names: {from_memory: false}}\n"
    )
    with python("secret = 1") as secret, python() as other:
        said = report(str(secret), str(other), f"--config.file={config}")
        done = run(str(secret), str(other), f"--config.file={config}")
    assert source(said, secret) == ("comm", "forbidden")
    assert source(said, other) == ("memory", None)
    (text,) = (one["text"] for one in said["missing"])
    assert f"PID {other}: names are read from memory." in text
    assert f"PID {secret}: the configuration does not let names be read from memory" in text
    shown = {
        words[0]: words[-4]
        for words in map(str.split, done.stdout.splitlines())
        if words and words[0].isdigit()
    }
    assert (shown[str(secret)], shown[str(other)]) == ("kernel", "memory")


@pytest.mark.parametrize(
    ("prefix", "views", "lacking"),
    [
        (NOBODY, HIDDEN, "Missing: CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH."),
        (able("sys_ptrace"), HIDDEN, "Missing: CAP_DAC_READ_SEARCH."),
        (able("dac_read_search"), HIDDEN, "Missing: CAP_SYS_PTRACE."),
        (able(BOTH), VISIBLE, None),
        (able("sys_ptrace,+dac_override"), VISIBLE, None),
    ],
    ids=["none", "ptrace", "dac", "both", "override"],
)
def test_another_users_process(
    prefix: Sequence[str], views: tuple[str, ...], lacking: str | None
) -> None:
    """Each capability that is not there is named, and how to grant it; with both, nothing is missing."""
    with python(PUBLISH) as pid, python(PUBLISH, prefix=NOBODY) as own:
        said = report(str(pid), str(own), prefix=prefix)
    assert seen(said, pid) == views
    assert seen(said, own) == VISIBLE
    assert kinds(said) == ({"other-user": [pid]} if lacking else {})
    if lacking:
        (one,) = said["missing"]
        assert "other users (root)" in one["text"]
        assert lacking in one["text"]
        granted = ways(said, "other-user")
        bounds = "CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
        assert granted["unit of systemd"] == [UNIT, bounds]
        (docker,) = granted["docker"]
        assert "--pid=host --user 0 --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH" in docker
        assert granted["by hand"] == ["sudo threadwatch …"]
        (handed,) = granted["for names alone, without a capability"]
        assert (CHECKOUT / handed.split()[-1]).exists()


def test_the_advice_is_what_opens_the_process() -> None:
    """The capabilities that the unit's line names are enough: run with them, nothing is missing."""
    with python(PUBLISH) as pid:
        lines = ways(report(str(pid), prefix=NOBODY), "other-user")["unit of systemd"]
        names = lines[0].partition("=")[2].lower().replace("cap_", "").split()
        said = report(str(pid), prefix=able(",+".join(names)))
    assert said["ok"]


def test_own_processes_that_are_closed() -> None:
    """Of the same user, one that is not dumpable and one with more privileges are told apart from others'."""
    privileged = able("net_bind_service")
    with (
        python(PUBLISH, UNDUMPABLE, prefix=NOBODY) as undumpable,
        python(PUBLISH, prefix=privileged) as higher,
    ):
        said = report(str(undumpable), str(higher), prefix=NOBODY)
        traced = report(str(undumpable), str(higher), prefix=able("sys_ptrace"))
        able_to = report(str(undumpable), str(higher), prefix=able(BOTH))
    assert kinds(said) == {"not-dumpable": [undumpable], "more-privileges": [higher]}
    assert UNIT in ways(said, "not-dumpable")["unit of systemd"]
    assert ways(said, "more-privileges")["unit of systemd"][0] == (
        "AmbientCapabilities=CAP_SYS_PTRACE"
    )
    assert kinds(traced) == {"not-dumpable": [undumpable]}
    assert able_to["ok"]


def test_root_without_capabilities() -> None:
    """Root that has been stripped, as in a container, is not told to use sudo."""
    stripped = (
        "setpriv",
        "--bounding-set=-sys_ptrace,-dac_read_search,-dac_override",
        "--inh-caps=-all",
    )
    with (
        python(PUBLISH) as own,
        python(PUBLISH, prefix=NOBODY) as other,
        python(PUBLISH, prefix=stripped) as equal,
        python(PUBLISH, UNDUMPABLE, prefix=stripped) as undumpable,
    ):
        said = report(*map(str, (own, other, equal, undumpable)), prefix=stripped)
    assert seen(said, equal) == VISIBLE
    assert kinds(said) == {
        "other-user": [other],
        "not-dumpable": [undumpable],
        "more-privileges": [own],
    }
    assert "by hand" not in ways(said, "other-user")


@pytest.mark.parametrize("option", ["hidepid=1", "hidepid=2"])
def test_hidepid(option: str) -> None:
    """Where procfs hides other users' processes, that is said; a capability or the group sees through."""

    def mounted(more: str, *prefix: str) -> tuple[str, ...]:
        mount = f'mount -t proc -o {option}{more} proc /proc && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", mount, "sh", *prefix)

    with python(PUBLISH) as pid:
        said = report(prefix=mounted("", *NOBODY))
        named = run(str(pid), prefix=mounted("", *NOBODY))
        able_to = report(str(pid), prefix=mounted("", *able(BOTH)))
        trusted = report(str(pid), prefix=mounted(",gid=65534", *NOBODY))
    word = {"hidepid=1": "noaccess", "hidepid=2": "invisible"}[option]
    assert said["situation"]["hidepid"] == word
    assert pid not in [process["pid"] for process in said["processes"]]
    assert "hidepid" in kinds(said)
    assert UNIT in ways(said, "hidepid")["unit of systemd"]
    assert named.returncode == 1
    assert f"no process {pid}, or it cannot be seen (hidepid={word})" in named.stderr
    assert seen(able_to, pid) == VISIBLE
    assert able_to["ok"]
    assert any(f"hidepid={word} hides nothing" in note for note in able_to["notes"])
    assert kinds(trusted) == {"other-user": [pid]}


def test_subset_pid() -> None:
    """A procfs of processes alone is enough: what it lacks is noted, and nothing is missing."""
    mount = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    with python(PUBLISH) as pid:
        said = report(str(pid), prefix=("unshare", "--mount", "sh", "-c", mount, "sh"))
    assert said["situation"]["subset_pid"]
    assert said["ok"]
    assert any("subset=pid" in note for note in said["notes"])


def test_a_pid_namespace_of_its_own() -> None:
    """In a container only what is inside is seen; where that is nothing, it says how to see the host."""
    said = report(prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    assert said["situation"]["pid_namespace"] == "container"
    assert said["processes"] == []
    assert kinds(said) == {"pid-namespace": []}
    assert "--pid=host" in ways(said, "pid-namespace")["docker"][0]


@pytest.mark.parametrize(
    ("surroundings", "cheap", "dear", "lines"),
    [
        ([], "docker", "docker", ["docker run --pid=container:NAME --user 65534:65534 …"]),
        (["container=podman"], "podman", "podman", ["podman run --pid=container:NAME --user 65534:65534 …"]),
        (["KUBERNETES_SERVICE_HOST=10.0.0.1"], "Kubernetes", "Kubernetes",
         ["shareProcessNamespace: true", "securityContext: {runAsUser: 65534, runAsGroup: 65534}"]),
    ],
    ids=["docker", "podman", "kubernetes"],
)  # fmt: skip
def test_beside_the_target_in_its_pid_namespace(
    surroundings: list[str], cheap: str, dear: str, lines: list[str]
) -> None:
    """Another group is told from another user; the way without a capability comes first, and is enough."""
    own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *NOBODY)
    with python(PUBLISH, prefix=own) as pid:
        (child,) = descendants(pid)
        enter = ("nsenter", f"--target={child}", "--pid", "--mount", "env", *surroundings)
        user = ("setpriv", "--reuid=65534", "--clear-groups")
        said = report("1", prefix=(*enter, *user, "--regid=100"))
        opened = report("1", prefix=(*enter, *user, "--regid=65534"))
    assert seen(said, 1) == HIDDEN
    (one,) = said["missing"]
    assert (
        "of this user, but of another group (65534) than this process, whose group is 100"
        in one["text"]
    )
    first, second = one["ways"]
    assert first == {"where": f"{cheap}, without a capability", "lines": lines}
    assert second["where"] == dear
    assert "host" not in " ".join(second["lines"])  # it is in the right PID namespace
    assert "SYS_PTRACE" in " ".join(second["lines"])
    assert seen(opened, 1) == VISIBLE
    assert opened["ok"]


def test_a_container_that_is_shown_the_hosts_procfs(tmp_path: Path) -> None:
    """With --path.procfs the host's processes are examined from within a container, and found whole."""
    inner = 'mount --bind /proc "$1" && shift && exec unshare --pid --fork --mount-proc "$@"'
    place = ("unshare", "--mount", "sh", "-c", inner, "sh", str(tmp_path))
    with python(PUBLISH) as pid:
        said = report(str(pid), f"--path.procfs={tmp_path}", prefix=place)
    assert seen(said, pid) == VISIBLE
    assert not said["situation"]["same_pid_namespace"]
    assert said["ok"]
    assert any("10 ms" in note for note in said["notes"])


def test_capabilities_of_a_user_namespace() -> None:
    """Root of a user namespace of its own is told that its capabilities count in there only."""
    with python(PUBLISH) as pid:
        said = report(str(pid), prefix=("unshare", "--user", "--map-root-user"))
    assert said["situation"]["user_namespace"] == "own"
    assert kinds(said) == {"refused": [pid]}
    assert "own user namespace" in said["missing"][0]["text"]
    assert ways(said, "refused")["docker"] == ["docker run --userns=host …"]


def test_a_machine_whose_system_calls_are_not_known() -> None:
    """There, reasons of waits cannot be had; it is said in a note, for nothing can be granted."""
    with python(PUBLISH) as pid:
        said = report(str(pid), prefix=("setarch", "i686"))
    assert seen(said, pid) == ("found", "yes", "no", "yes")
    assert said["ok"]
    assert any("i686" in note for note in said["notes"])


def test_too_few_file_descriptors() -> None:
    """Processes that were left out for want of file descriptors are counted, with the limit to raise."""
    with python(PUBLISH), python(PUBLISH), python(PUBLISH):
        said = report(prefix=("prlimit", "--nofile=80:80"))
    assert "file-descriptors" in kinds(said)
    assert said["situation"]["open_files"] == {"soft": 80, "hard": 80}
    assert ways(said, "file-descriptors")["unit of systemd"] == ["LimitNOFILE=65536"]


def test_tables_that_are_none_of_ours() -> None:
    """A table of another layout, a damaged one, and a parent's are told apart, and from none at all."""
    make = (
        "import os; from threadwatch.publisher import layout as table",
        "fd = os.memfd_create(table.NAME); os.ftruncate(fd, 1 << 16)",
    )
    newer = "os.pwrite(fd, table.MAGIC + bytes([99, 0]), 0)"
    fork = "import ctypes, time; ctypes.CDLL(None).fork() or time.sleep(600)"
    with (
        python(*make, newer) as other,
        python(*make, "os.pwrite(fd, b'x' * 256, 0)") as damaged,
        python(PUBLISH, fork) as parent,
    ):
        (child,) = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        try:
            said = report(*map(str, (other, damaged, parent)))
        finally:
            os.kill(child, signal.SIGKILL)
    assert seen(said, other)[0] == "other layout"
    assert seen(said, damaged)[0] == "malformed"
    assert seen(said, parent) == VISIBLE
    assert seen(said, child)[0] == "another's"
    assert kinds(said) == {
        "forked": [child],
        "other-layout": [other],
        "unreadable": [damaged],
    }
    text = {one["kind"]: one["text"] for one in said["missing"]}
    assert "layout 99" in text["other-layout"]
    assert f"its parent's table is there (of PID {parent})" in text["forked"]


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that every user may change; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def test_tables_that_were_handed_over(place: Path) -> None:
    """A table that a daemon has by its socket is told from one that it has not, while it runs and later."""
    socket = place / "publish.socket"
    config = place / "threadwatch.yml"
    config.write_text(f"poll_interval: 100ms\npublish_socket: {socket}\n")
    send = f"import os, threading; os.environ['THREADWATCH_SOCKET'] = '{socket}'"
    with (
        python(PUBLISH) as first,
        serving(place, f"--config.file={config}", prefix=NOBODY) as daemon,
    ):
        until(lambda: "receiving tables" in daemon.text(), "a socket that listens")
        with python(send, PUBLISH) as sender:
            believed = 'threadwatch_tables_handed_over_total{result="believed"}'
            until(lambda: float(daemon.metric(believed) or 0) > 0, "the table is believed")
            said = report(str(first), str(sender))
            alone = report(str(sender))
            daemon.process.kill()
            daemon.process.wait()
            later = report(str(first), str(sender))
    daemon_pid = daemon.process.pid
    processes = {process["pid"]: process for process in said["processes"]}
    assert (processes[first]["handed_over"], processes[first]["held_by"]) == (False, [])
    assert (processes[sender]["handed_over"], processes[sender]["held_by"]) == (True, [daemon_pid])
    (one,) = (one for one in said["missing"] if one["kind"] == "daemon")
    assert f"It has the names of PID {sender} " in one["text"]
    assert f"It has not the table of PID {first} " in one["text"]
    (one,) = (one for one in alone["missing"] if one["kind"] == "daemon")
    assert "has not the table" not in one["text"]
    note = f"The daemon, PID {daemon_pid}, has the names of threads from the table that was sent"
    assert sum(note in text for text in said["notes"]) == 1
    assert sum("to a daemon that does not run any more" in text for text in later["notes"]) == 1


def test_a_daemon_that_sees_less(tmp_path: Path) -> None:
    """Root is told if the daemon that runs has not the capabilities that root has."""
    with serving(tmp_path, prefix=NOBODY) as daemon, python(PUBLISH) as pid:
        said = report(str(pid))
    daemon_pid = daemon.process.pid
    (shown,) = (one for one in said["daemons"] if one["pid"] == daemon_pid)
    assert (shown["user"], set(shown["capabilities"].values())) == ("nobody", {False})
    assert daemon_pid in kinds(said)["daemon"]


@pytest.mark.parametrize("scope", [0, 1, 2, 3])
def test_yama(place: Path, scope: int) -> None:
    """What may be looked at but not traced is laid to Yama, with the ways that its scope leaves."""
    tree = ProcTree(place)
    process = tree.process(4711, uid=65534)
    process.directory.joinpath("mem").touch()
    process.thread(4712)
    status = process.directory / "status"
    rest = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
    status.write_text(status.read_text() + rest)
    for tid in (4711, 4712):
        (process.directory / "task" / str(tid) / "syscall").touch()
    yama = tree.root / "sys/kernel/yama/ptrace_scope"
    yama.parent.mkdir(parents=True)
    yama.write_text(f"{scope}\n")
    for path in process.directory.rglob("*"):
        os.chown(path, 65534, 65534, follow_symlinks=False)
        if path.name in ("mem", "syscall"):
            path.chmod(0)
    said = report("4711", f"--path.procfs={tree.root}", prefix=NOBODY)
    assert said["situation"]["ptrace_scope"] == scope
    assert seen(said, 4711) == ("none", "no", "hidden", "hidden")
    assert source(said, 4711) == ("comm", "hidden")
    cause = "yama" if scope else "refused"
    assert kinds(said) == {cause: [4711], "not-published": [4711]}
    if scope in (1, 2):
        assert "sysctl kernel.yama.ptrace_scope=0" in ways(said, cause)["for all users"]
        assert ways(said, cause)["unit of systemd"][0] == "AmbientCapabilities=CAP_SYS_PTRACE"
    if scope == 3:
        assert list(ways(said, cause)) == ["in /etc/sysctl.d"]


def test_a_process_that_watches_others() -> None:
    """A watching process has others' tables open for reading, and is not said to publish these.

    ``threadwatch ps`` while it measures, which publishes itself, and a watcher that does not.
    """
    watch = "import os; fd = os.open('/proc/%d/fd/%d', os.O_RDONLY)"
    with python(PUBLISH) as target:
        fds = Path(f"/proc/{target}/fd")
        (table,) = (fd.name for fd in fds.iterdir() if "memfd:threadwatch" in os.readlink(fd))
        ps = subprocess.Popen(threadwatch("ps", "--interval=600", str(target)), cwd=CHECKOUT)
        try:
            held = Path(f"/proc/{ps.pid}/fd")

            def holds_two() -> bool:
                links = []
                for fd in held.iterdir():
                    with contextlib.suppress(
                        FileNotFoundError
                    ):  # of a file that it has just closed
                        links.append(os.readlink(fd))
                return sum("memfd:threadwatch" in link for link in links) >= 2

            until(holds_two, "ps has its own table, and the target's")
            with python(watch % (target, int(table))) as watcher:
                said = report(str(ps.pid), str(watcher))
        finally:
            ps.kill()
            ps.wait()
    assert seen(said, ps.pid) == VISIBLE
    assert seen(said, watcher)[0] == "none"
    assert kinds(said)["not-published"] == [watcher]
    assert "anothers-table" not in kinds(said)


def test_many_processes_that_look_the_same_share_a_line() -> None:
    """Of many processes, those that look the same take one line, with their number."""
    # each says that it has forked, which is when it publishes, too
    fork = (
        "import os\nthere, here = os.pipe()\nfor _ in range(24):\n    if not os.fork():\n"
        "        os.write(here, b'.'); os.read(0, 1); os._exit(0)\n"
        "for _ in range(24):\n    os.read(there, 1)"
    )
    with python(PUBLISH, fork) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        assert len(children.read_text().split()) == 24
        done = run(str(pid))
        said = report(str(pid))
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines() if " CPython " in line]
    assert [row[-1] for row in rows] == ["25"]
    assert len(said["processes"]) == 25


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    """What a process calls itself is shown escaped, on its own line."""
    called = ("bash", "-c", 'exec -a "$0" "$@"', "a\x1b[2Jb\nc\u202ed")
    with python(prefix=called) as pid:
        done = run(str(pid), prefix=NOBODY)
    assert "\x1b" not in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if line.split()[:1] == [str(pid)])
    assert r"a\x1b[2Jb\nc\u202ed" in row


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_in_a_terminal(environment: dict[str, str], *, colored: bool) -> None:
    """On a terminal there is colour, unless NO_COLOR is set; text fits into its width."""
    with python() as pid:
        code, text = written_to_a_terminal(threadwatch("doctor", str(pid)), **environment)
    assert code == 1
    assert ("\x1b[" in text) is colored
    sentences = [line for line in re.sub(r"\x1b\[\d+m", "", text).splitlines() if "  " not in line]
    assert sentences
    assert all(len(line) <= 80 for line in sentences)


def test_usage_and_configuration(tmp_path: Path) -> None:
    """A bad option ends with 2, a bad configuration with 78, a name that nothing has with 1 and one line."""
    assert run("--no-such-option").returncode == 2
    config = tmp_path / "threadwatch.yml"
    config.write_text("poll_intervall: 1s\n")
    done = run(f"--config.file={config}")
    assert (done.returncode, done.stdout) == (78, "")
    assert f"{config}:1: poll_intervall" in done.stderr
    for what in ("2147483647", "no-such-application"):
        done = run(what)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert what in line
    done = run(f"--path.procfs={tmp_path}")
    assert done.returncode == 1
    assert "is not mounted" in done.stderr
