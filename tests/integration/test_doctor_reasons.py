"""Why threads have no name in Python: real processes in each situation, and what ``doctor`` says of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import testbed
from tests.harness import DEADLINE, command, environ, threadwatch, until
from tests.serving import serving
from tests.testbed import CHECKOUT, Interpreter, descendants

SOME = testbed.interpreters()[::3]
"""The oldest, one in the middle and the newest: the situations are the same with each."""
RUN = tuple(threadwatch("run", "--"))
PUBLISH = "import threadwatch; threadwatch.publish()"


@dataclass(frozen=True)
class Situation:
    """How a process is started, and what the reason is then."""

    kind: str | None
    """None: it publishes."""
    before: Sequence[str] = ()
    """In front of the interpreter."""
    inside: Sequence[str] = ()
    """The same, on the interpreter's side of a chroot."""
    options: Sequence[str] = ()
    code: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
    """Words of the reason."""


SITUATIONS = {
    "published": Situation(None, RUN),
    "never asked": Situation("not-published", says="Neither its environment"),
    "switched off": Situation("switched-off", variables={"THREADWATCH": "0"}, says="THREADWATCH=0"),
    "isolated": Situation("isolated", RUN, options=["-I"], says="with -I"),
    "ignoring": Situation("isolated", RUN, options=["-Es"], says="with -E"),
    "without site": Situation("no-site", RUN, options=["-S"], says="with -S"),
    "not installed": Situation("not-installed", variables={"THREADWATCH": "1"}, says="installed"),
    "another path": Situation(
        "not-installed", RUN, ["env", "PYTHONPATH=/srv/lib"], says="PYTHONPATH=/srv/lib lacks"
    ),
    "another environment": Situation(
        "environment-reset",
        RUN,
        ["sh", "-c", 'env -i "$@"; true', "sh"],
        says="made a new environment",
    ),
    "few files": Situation("few-files", RUN, ["prlimit", "--nofile=60"], says="60 open files"),
    "small files": Situation(
        "file-size", RUN, ["prlimit", "--fsize=1000000"], says="1,000,000 bytes"
    ),
    "all closed": Situation(
        "closed-files", RUN, code="os.closerange(3, 256)", says="has closed all its files"
    ),
    "refused": Situation(
        "unexplained",
        (*RUN, sys.executable, "tests/targets/deny.py", "memfd_create", "EPERM"),
        says="its filter of system calls (seccomp) refuses memfd_create",
    ),
    "hidden": Situation(
        "unexplained",
        RUN,
        code="import threadwatch.publisher.publisher; threadwatch.publisher.publisher.unpublish()",
        says="its code has ended publishing",
    ),
}


@contextlib.contextmanager
def started(situation: Situation, interpreter: Interpreter) -> Iterator[int]:
    """Yield the PID of the process, once it has run its code."""
    code = f"import os\n{situation.code}\nprint(os.getpid(), flush=True)\ninput()"
    python = [*command(interpreter, *situation.inside), *situation.options, "-c", code]
    process = subprocess.Popen(
        [*situation.before, *python],
        cwd=CHECKOUT,
        env=environ("none", situation.variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.communicate()


def doctor(*pids: int, before: Sequence[str] = ()) -> dict[str, Any]:
    """Return what it says of these processes."""
    done = subprocess.run(
        [*before, *threadwatch("doctor", "--json", *map(str, pids))],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def finding(said: dict[str, Any], pid: int) -> dict[str, Any]:
    """Return what is said of one process."""
    (found,) = (process for process in said["processes"] if process["pid"] == pid)
    result: dict[str, Any] = found
    return result


def texts(said: dict[str, Any], pid: int) -> dict[str, str]:
    """Return what is missing of one process, by kind."""
    return {one["kind"]: one["text"] for one in said["missing"] if pid in one["pids"]}


@pytest.mark.parametrize("interpreter", SOME, ids=str)
def test_the_reason_is_true(interpreter: Interpreter) -> None:
    """In each situation in which a process does not publish, doctor names that one, and no other."""
    with contextlib.ExitStack() as stack:
        pids = {
            name: stack.enter_context(started(situation, interpreter))
            for name, situation in SITUATIONS.items()
        }
        # two seconds long, that it has only just started is a reason
        until(lambda: all(map(_is_grown_up, pids.values())), "processes that are no longer young")
        said = doctor(*pids.values())
    reasons = {name: finding(said, pid)["unpublished_because"] for name, pid in pids.items()}
    assert reasons == {name: situation.kind for name, situation in SITUATIONS.items()}
    for name, situation in SITUATIONS.items():
        if situation.kind is not None:
            assert situation.says in texts(said, pids[name])[situation.kind]


def _is_grown_up(pid: int) -> bool:
    born = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    now = float(Path("/proc/uptime").read_text().split()[0])
    return now - born / os.sysconf("SC_CLK_TCK") > 2


FORKED = """
import ctypes, signal
if not ctypes.CDLL(None).fork():
    signal.pause()
"""


def test_a_fork_by_c_code() -> None:
    """Of a child that C code has forked, doctor says so, and whose table it has."""
    situation = Situation(None, RUN, code=FORKED)
    with started(situation, testbed.interpreters()[0]) as pid:
        (child,) = descendants(pid)
        said = doctor(pid)
    assert finding(said, child)["unpublished_because"] == "forked"
    assert f"(of PID {pid})" in texts(said, child)["forked"]


NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
for _ in range(3):
    libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)
"""
OLDER = """
import _thread, os, time
for _ in range(2):
    _thread.start_new_thread(time.sleep, (600,))
while len(os.listdir('/proc/self/task')) < 3:
    pass
started = max(
    int(open(f'/proc/self/task/{tid}/stat').read().rpartition(')')[2].split()[19])
    for tid in os.listdir('/proc/self/task')
)
while time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf('SC_CLK_TCK') < started + 1:
    pass
"""
"""Publishes when the tick of the clock in which its threads began is over."""
FULL = """
import threading
from threadwatch.publisher import layout as table
table.CAPACITY = 64
threadwatch.publish()
stop = threading.Lock()
stop.acquire()
for _ in range(100):
    threading.Thread(target=stop.acquire, daemon=True).start()
"""


@pytest.mark.parametrize("interpreter", SOME, ids=str)
def test_threads_without_a_name(interpreter: Interpreter) -> None:
    """Threads of C code, of before, and beyond the table's room are counted, each for what it is."""
    path = {"PYTHONPATH": str(CHECKOUT)}
    codes = {
        "native": f"{PUBLISH}\n{NATIVE}",
        "older": f"{OLDER}\n{PUBLISH}",
        "full": f"import threadwatch\n{FULL}",
        "none": PUBLISH,
    }
    with contextlib.ExitStack() as stack:
        pids = {
            name: stack.enter_context(
                started(Situation(None, code=code, variables=path), interpreter)
            )
            for name, code in codes.items()
        }
        until(lambda: all(map(_is_grown_up, pids.values())), "threads that are no longer young")
        said = doctor(*pids.values())
    counts = {name: finding(said, pid)["nameless_threads"] for name, pid in pids.items()}
    full = counts["full"].pop("full")
    assert counts == {"native": {"native": 3}, "older": {"older": 2}, "full": {}, "none": {}}
    assert 101 - 64 <= full <= 101
    assert "a table has room for 32,768 threads" in texts(said, pids["full"])["table-full"]
    assert finding(said, pids["full"])["names"] == "yes"
    assert "unreadable" not in texts(said, pids["full"])
    notes = "\n".join(said["notes"])
    assert "3 threads have the kernel's name: started by C code" in notes
    assert "2 threads have the kernel's name: started before publishing began" in notes


def test_what_comes_before_threadwatch_on_the_path(tmp_path: Path) -> None:
    """Where another sitecustomize comes first, doctor says in which directory that can be."""
    (tmp_path / "sitecustomize.py").touch()
    inject = CHECKOUT / "threadwatch/inject"
    variables = {"THREADWATCH": "1", "PYTHONPATH": f"{tmp_path}:{inject}"}
    # -s: without usercustomize, as in a virtual environment
    with started(Situation(None, options=["-s"], variables=variables), SOME[0]) as pid:
        until(lambda: _is_grown_up(pid), "a process that is no longer young")
        said = doctor(pid)
    assert finding(said, pid)["unpublished_because"] == "unexplained"
    assert f"a sitecustomize.py in {tmp_path} comes first" in texts(said, pid)["unexplained"]


SCOPED = """
mount -t tmpfs none "$0" && mkdir "$0/yama" && echo 1 > "$0/yama/ptrace_scope" &&
mount --bind "$0" /proc/sys/kernel && exec "$@"
"""
"""Show Yama's setting, in a mount namespace of its own, where there is no Yama."""


def test_a_daemon_of_ones_own_user_under_yama(tmp_path: Path) -> None:
    """Root is told what Yama hides from a daemon that has not the capability, also of its own user."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    variables = {"PYTHONPATH": str(CHECKOUT)}
    publish = Situation(None, inside=nobody, code=PUBLISH, variables=variables)
    with serving(tmp_path, prefix=nobody) as daemon, started(publish, SOME[-1]) as target:
        pid = daemon.process.pid
        plain = doctor(target, pid)
        scoped = doctor(
            target, pid, before=("unshare", "--mount", "sh", "-c", SCOPED, str(tmp_path))
        )
    assert "daemon-yama" not in texts(plain, pid)
    (missing,) = (one for one in scoped["missing"] if one["kind"] == "daemon-yama")
    assert missing["pids"] == [pid]
    assert "Yama's ptrace_scope is 1, and it lacks CAP_SYS_PTRACE" in missing["text"]
    assert "for all users" in {way["where"] for way in missing["ways"]}


def test_a_daemon_with_too_few_files(tmp_path: Path) -> None:
    """Root is told how many processes a daemon can watch that may open only few files."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(serving(tmp_path, prefix=("prlimit", "--nofile=72:72")))
        pid = daemon.process.pid
        for _ in range(4):
            stack.enter_context(started(SITUATIONS["never asked"], SOME[0]))
        said = doctor(pid)
    assert "watches 1 process at most" in texts(said, pid)["daemon-files"]
    assert "it may open 72 files" in texts(said, pid)["daemon-files"]
