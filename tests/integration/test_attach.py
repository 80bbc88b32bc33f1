"""``threadwatch attach`` and ``detach``: real processes that had started without threadwatch."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import (
    DEADLINE,
    Target,
    await_rest,
    command,
    environ,
    marked,
    run,
    threadwatch,
    until,
)
from tests.integration.conftest import Fleet
from tests.testbed import CHECKOUT, TREE, Interpreter, require
from tests.tracer import traced
from threadwatch.attach import script, session
from threadwatch.attach.place import placed
from threadwatch.attach.request import Requests
from threadwatch.attach.subject import Subject
from threadwatch.errors import Malformed, ReadError, Unusable
from threadwatch.names.slots import parse_header, parse_slots
from threadwatch.procfs import ProcFS, find_tables, parse_syscall
from threadwatch.publisher import layout

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
TIMEOUT = 40.0
"""Seconds that a busy machine may need."""
PROGRAM = "attached.py"
MOST_THREADS = 512
"""No target has more."""
READ = 63 if platform.machine() == "aarch64" else 0
"""read(2)."""


@pytest.fixture(params=[(3, 14), (3, 15)], ids=["3.14", "3.15"])
def attachable(request: pytest.FixtureRequest) -> Interpreter:
    """Return each CPython that can be attached to."""
    return require(*request.param)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Check that no test leaves a script behind."""
    before = scripts()
    yield
    assert scripts() <= before


def scripts() -> set[str]:
    """Return the directories in which scripts lie, where the targets' temporary files are."""
    return {name for name in os.listdir("/tmp") if re.fullmatch("threadwatch-[0-9a-f]{16}", name)}  # noqa: S108  # what targets have as /tmp


class Program:
    """A target of ``attached.py``."""

    def __init__(self, target: Target) -> None:
        self.target = target
        line = target.next_line()
        assert line is not None, target.complaint("ended")
        said = json.loads(line)
        self.pid: int = said["pid"]
        self.threads = {int(tid): name for tid, name in said["threads"].items()}

    def ends_as_ever(self) -> dict[str, object]:
        """Let it end; what it says that it has done. Nothing went wrong in it, and it has not said so."""
        self.target.go()
        line = self.target.next_line()
        assert line is not None, self.target.complaint("said nothing at its end")
        assert self.target.next_line() is None
        assert self.target.process.wait(DEADLINE) == 0
        assert self.target.stderr() == ""
        said: dict[str, object] = json.loads(line)
        return said


def start(fleet: Fleet, interpreter: Interpreter, *arguments: str, **options: object) -> Program:
    """Start the program in one of its modes, without threadwatch unless the options say otherwise."""
    program = Program(fleet.start(interpreter, PROGRAM, *arguments, **{"mode": "plain", **options}))
    if arguments[0] in ("alone", "later"):
        until(lambda: reads_its_input(program.pid), "it is blocked")
    return program


def reads_its_input(pid: int) -> bool:
    """Return whether a process's main thread waits for a line."""
    call = parse_syscall(Path(f"/proc/{pid}/syscall").read_bytes())
    return call is not None and call.number == READ and call.args[0] == 0


def attach(pid: int, timeout: float = TIMEOUT) -> None:
    """Attach as the command does once it has been allowed to."""
    with Subject(pid) as subject:
        session.attach(subject, timeout, lambda _: None)


def detach(pid: int) -> None:
    """Detach as the command does."""
    with Subject(pid) as subject:
        session.detach(subject, TIMEOUT, lambda _: None)


def refusal(pid: int, timeout: float = TIMEOUT) -> str:
    """Return why a process cannot be attached to."""
    with pytest.raises(Unusable) as caught:
        attach(pid, timeout)
    text = str(caught.value)
    assert "\n" not in text
    return text


def names(pid: int) -> dict[int, str]:
    """Return the names that it publishes of its living threads, by their TIDs as it sees them."""
    found: dict[int, str] = {}
    with ProcFS().open_process(pid) as process:
        for fd in find_tables(process):
            with process.open_table(fd) as file:
                if parse_header(file.read_header()).interpreter == 0:
                    slots, _ = parse_slots(file.read_slots(0, MOST_THREADS))
                    found |= {slot.tid: slot.name for _, slot in slots if slot.state == layout.LIVE}
    return found


@pytest.mark.parametrize("mode", ["loop", "busy", "blocked", "many", "idle", "interpreters"])
def test_a_running_process_publishes_and_ceases(
    fleet: Fleet, attachable: Interpreter, mode: str
) -> None:
    """All its threads have their names at once, none after detach, all again after another attach."""
    program = start(fleet, attachable, mode)
    attach(program.pid)
    assert names(program.pid) == program.threads
    detach(program.pid)
    assert names(program.pid) == {}
    attach(program.pid)
    assert names(program.pid) == program.threads
    assert program.ends_as_ever() == {"mode": mode}


def test_at_the_end_of_the_main_thread(fleet: Fleet, attachable: Interpreter) -> None:
    """A program whose main thread only waits for others publishes by one of those."""
    program = start(fleet, attachable, "end")
    attach(program.pid)
    assert names(program.pid) == program.threads
    detach(program.pid)
    assert names(program.pid) == {}
    assert program.ends_as_ever() == {"mode": "end"}


def test_nothing_runs(fleet: Fleet, attachable: Interpreter) -> None:
    """Where no thread runs Python, that is said, and the request is taken back: nothing comes of it later."""
    program = start(fleet, attachable, "alone")
    why = refusal(program.pid, 0.5)
    assert "has not run the script in 0.5 s, and nothing has been changed: its main thread" in why
    assert program.ends_as_ever() == {"mode": "alone"}  # else it would not find the script


def test_waits_for_the_main_thread(fleet: Fleet, attachable: Interpreter) -> None:
    """A process that is blocked publishes as soon as it runs again."""
    program = start(fleet, attachable, "later")
    waits: list[str] = []

    def told(what: str) -> None:
        waits.append(what)
        program.target.go()

    with Subject(program.pid) as subject:
        session.attach(subject, TIMEOUT, told)
    assert len(waits) == 1
    assert waits[0].startswith("its main thread ")
    assert names(program.pid)[program.pid] == "MainThread"
    assert program.ends_as_ever() == {"mode": "later"}


def test_ctrl_c_takes_the_request_back(fleet: Fleet) -> None:
    """An attach that is interrupted ends with 130, and leaves no request in the process."""
    program = start(fleet, require(3, 14), "alone")
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            threadwatch("attach", "--yes", "--timeout=300", str(program.pid)),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as attaching:
            assert attaching.stderr is not None
            for line in attaching.stderr:
                if line.startswith("Waiting: its main thread "):
                    break
            attaching.send_signal(number)
            # a line that is being written when the signal comes may come twice
            assert attaching.stderr.read() in ("", line)
            assert attaching.wait(DEADLINE) == 130
    assert program.ends_as_ever() == {"mode": "alone"}


def test_a_signal_in_the_middle(fleet: Fleet, attachable: Interpreter) -> None:
    """What a signal handler of the program raises while the script runs reaches the program."""
    program = start(fleet, attachable, "interrupted")
    attach(program.pid)
    assert names(program.pid) == program.threads
    assert program.ends_as_ever() == {"mode": "interrupted", "sent": True, "caught": True}


def test_commands(fleet: Fleet) -> None:
    """The commands say what is done, ask first, and do nothing twice."""
    interpreter = require(3, 15)
    pid = str(start(fleet, interpreter, "loop").pid)
    refused = run("attach", pid)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Process {pid} of root on CPython {interpreter.release}: " in refused.stderr
    assert "This changes that process: " in refused.stderr
    assert "threadwatch: standard input is no terminal" in refused.stderr
    assert names(int(pid)) == {}
    for arguments, said in (
        (("detach", pid), f"Process {pid} does not publish its threads; nothing has been done.\n"),
        (("attach", "--yes", pid), f"Process {pid} publishes its threads: threadwatch ps {pid}\n"),
        (("attach", pid), f"Process {pid} publishes its threads already; nothing has been done.\n"),
        (("detach", pid), f"Process {pid} publishes its threads no more.\n"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    assert names(int(pid)) == {}


@pytest.mark.parametrize("mode", ["loop", "idle"])
def test_by_the_same_version(fleet: Fleet, attachable: Interpreter, mode: str) -> None:
    """A threadwatch on the process's own version asks by sys.remote_exec, and by its own way if need be."""
    program = start(fleet, attachable, mode)
    by = (
        "import sys; from threadwatch.commands.main import main;"
        " sys.addaudithook(lambda event, _: event == 'sys.remote_exec' and print(event)); sys.exit(main())"
    )
    done = subprocess.run(
        [*attachable.command, "-c", by, "attach", "--yes", str(program.pid)],
        env=environ("publish", {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "sys.remote_exec"
    assert names(program.pid) == program.threads
    assert program.ends_as_ever() == {"mode": mode}


def test_publishes_by_itself(fleet: Fleet, attachable: Interpreter) -> None:
    """A process that was started by ``run`` can be told to cease, and begins again by its own publisher."""
    program = start(fleet, attachable, "loop", mode="run")
    assert names(program.pid) == program.threads
    detach(program.pid)
    assert names(program.pid) == {}
    attach(program.pid)
    assert names(program.pid) == program.threads
    assert program.ends_as_ever() == {"mode": "loop"}


def test_another_version_takes_over(
    fleet: Fleet, attachable: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an attach by another threadwatch has left its publisher, that one is replaced."""
    program = start(fleet, attachable, "loop")
    attach(program.pid)
    source = script._source
    monkeypatch.setattr(script, "_source", lambda path: source(path) + "# another version\n")
    attach(program.pid)
    assert names(program.pid) == program.threads
    with ProcFS().open_process(program.pid) as process:
        assert len(find_tables(process)) == 1
    assert program.ends_as_ever() == {"mode": "loop"}


def test_in_a_container(fleet: Fleet, attachable: Interpreter) -> None:
    """The script is where the process sees it: in namespaces of PIDs and mounts of its own."""
    tmp, proc = TREE / "tmp", TREE / "proc"
    mount = f'mount -t tmpfs none {tmp} && mount -t proc none {proc} && exec "$@"'
    program = start(
        fleet,
        attachable,
        "loop",
        prefix=("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount, "sh"),
    )
    (pid,) = (
        pid
        for pid in marked(program.target.mark)
        if Path(f"/proc/{pid}/comm").read_text().startswith("python")
    )
    assert pid != program.pid, "it has a PID of its own there"
    attach(pid)
    assert names(pid) == program.threads
    assert not list(Path(f"/proc/{pid}/root", "tmp").iterdir())
    detach(pid)
    assert names(pid) == {}


def test_other_users(fleet: Fleet) -> None:
    """Root attaches to any user's process, a user to its own, and to no other's."""
    mine = require(3, 14)
    other = dataclasses.replace(mine, command=command(mine, *NOBODY))
    theirs, ours = start(fleet, other, "loop"), start(fleet, mine, "loop")
    attach(theirs.pid)
    assert names(theirs.pid) == theirs.threads
    assert run("detach", str(theirs.pid), prefix=NOBODY).returncode == 0
    assert run("attach", "--yes", str(theirs.pid), prefix=NOBODY).returncode == 0
    assert names(theirs.pid) == theirs.threads
    refused = run("attach", "--yes", str(ours.pid), prefix=NOBODY)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"threadwatch: the kernel does not let you change process {ours.pid}: be its user, or root\n"
    )
    assert theirs.ends_as_ever() == ours.ends_as_ever() == {"mode": "loop"}


@pytest.mark.parametrize(
    ("options", "environment"),
    [(("-X", "disable-remote-debug"), {}), ((), {"PYTHON_DISABLE_REMOTE_DEBUG": "1"})],
    ids=["option", "environment"],
)
def test_switched_off(
    fleet: Fleet,
    attachable: Interpreter,
    options: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    """A process that allows no scripts is left alone."""
    program = start(fleet, attachable, "loop", options=options, environment=environment)
    assert f"process {program.pid} has this switched off (PYTHON_" in refusal(program.pid)
    assert program.ends_as_ever() == {"mode": "loop"}


def test_a_hook_forbids(fleet: Fleet) -> None:
    """A process whose audit hook forbids the script goes on, and is not waited for for ever."""
    program = start(fleet, require(3, 14), "forbidden")
    said = "does not say how it went: it may not read it, or an audit hook"
    until(lambda: said in refusal(program.pid, 1), "it has taken the script")
    assert program.ends_as_ever() == {"mode": "forbidden", "refused": "not here"}


def test_a_filter_refuses(fleet: Fleet, attachable: Interpreter) -> None:
    """Where a seccomp filter refuses memfd_create, that is said, and the process goes on."""
    program = start(fleet, attachable, "filtered", "errno")
    done = run("attach", "--yes", str(program.pid))
    assert done.returncode == 1
    assert f"Process {program.pid} has a seccomp filter. If that kills" in done.stderr
    assert (
        f"process {program.pid} could not do it: [Errno 1] Operation not permitted\n" in done.stderr
    )
    assert names(program.pid) == {}
    assert program.ends_as_ever() == {"mode": "filtered"}


def test_a_filter_kills(fleet: Fleet) -> None:
    """Where a seccomp filter kills for memfd_create, there is a warning, and what has happened is said."""
    program = start(fleet, require(3, 14), "filtered", "kill")
    done = run("attach", "--yes", str(program.pid))
    assert done.returncode == 1
    assert "THE PROCESS DIES" in done.stderr
    assert done.stderr.endswith(
        f"threadwatch: process {program.pid} has ended: its seccomp filter may have killed it\n"
    )
    assert program.target.process.wait(DEADLINE) == -signal.SIGSYS


def test_older_versions(fleet: Fleet) -> None:
    """A Python before 3.14 is refused, with what to do instead, and left as it is."""
    for version in ((3, 9), (3, 12), (3, 13)):
        program = start(fleet, require(*version), "loop")
        assert refusal(program.pid) == (
            f"process {program.pid} runs on CPython {program.target.interpreter.release}, and only from 3.14 "
            "on a process can be attached to: restart it by `threadwatch run`"
        )
        assert program.ends_as_ever() == {"mode": "loop"}


def test_what_is_no_such_process(fleet: Fleet) -> None:
    """No process, no Python, a stopped process: one line each, and exit code 1."""
    program = start(fleet, require(3, 14), "loop")
    with subprocess.Popen(["sleep", "1000"]) as sleeping:
        try:
            await_rest(sleeping.pid)
            assert "has no Python in it that can be attached to: " in refusal(sleeping.pid)
            os.kill(program.pid, signal.SIGSTOP)
            until(lambda: " T " in Path(f"/proc/{program.pid}/stat").read_text(), "it is stopped")
            assert f"kill -CONT {program.pid}" in refusal(program.pid)
            os.kill(program.pid, signal.SIGCONT)
        finally:
            sleeping.kill()
        until(lambda: " Z " in Path(f"/proc/{sleeping.pid}/stat").read_text(), "it has ended")
        assert refusal(sleeping.pid) == f"process {sleeping.pid} has ended"
    assert refusal(sleeping.pid).startswith(f"there is no process {sleeping.pid}")
    done = run("attach", "--yes", str(sleeping.pid))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"threadwatch: there is no process {sleeping.pid}")
    assert program.ends_as_ever() == {"mode": "loop"}


def test_held_by_a_debugger(fleet: Fleet) -> None:
    """A process that another holds by ptrace is left to that one, by name of its PID."""
    program = start(fleet, require(3, 14), "loop")
    with traced(program.pid):
        assert re.search("is held by process [0-9]+, a debugger or strace", refusal(program.pid))
    assert program.ends_as_ever() == {"mode": "loop"}


def test_nothing_is_written_where_something_does_not_fit(
    fleet: Fleet, attachable: Interpreter
) -> None:
    """A thread state that is not the thread's, and one with another debugger's request, stay as they are."""
    program = start(fleet, attachable, "alone")
    with Subject(program.pid) as subject:
        (thread,) = subject.threads().values()
        size = subject.interpreter.offsets.thread_size
        before = subject.memory.read(thread.state, size)
        requests = Requests(subject.memory, subject.interpreter, b"/not/there.py")
        for wrong in (
            dataclasses.replace(thread, ns_tid=thread.ns_tid + 1),
            dataclasses.replace(thread, state=thread.state + 8),
            dataclasses.replace(thread, state=8),
        ):
            with pytest.raises((Malformed, ReadError)):
                requests.ask(program.pid, wrong)
            assert subject.memory.read(thread.state, size) == before
        requests.ask(program.pid, thread)
        asked = subject.memory.read(thread.state, size)
        assert asked != before
        assert "another debugger has asked it" in refusal(program.pid)
        assert subject.memory.read(thread.state, size) == asked
        assert requests.take_back(program.pid, thread)
        assert not requests.take_back(program.pid, thread)
    assert program.ends_as_ever() == {"mode": "alone"}


def test_scripts_lie_where_no_other_user_can_change_them(tmp_path: Path) -> None:
    """No link in the process's root is followed, and no place is taken where others can rename a script."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "var").mkdir(parents=True)
    (root / "tmp").symlink_to(outside)
    (root / "var/tmp").mkdir()
    (root / "var/tmp").chmod(0o777)
    (root / "run").mkdir(mode=0o755)
    proc = tmp_path / "proc"  # only its link `root` is used, which the kernel would follow as well
    proc.mkdir()
    (proc / "root").symlink_to(root)
    directory = os.open(proc, os.O_PATH)
    try:
        with placed(directory, 65534, lambda answer: f"# {answer}") as place:
            assert re.fullmatch("/run/threadwatch-[0-9a-f]{16}/script.py", place.path)
            file = root / place.path[1:]
            answer = file.with_name("answer")
            assert file.read_text() == f"# /{answer.relative_to(root)}"
            modes = [path.stat().st_mode & 0o777 for path in (file.parent, file, answer)]
            assert modes == [0o711, 0o644, 0o600]
            assert answer.stat().st_uid == 65534
            answer.write_bytes(b"one\ntwo\xff\nthr")
            assert place.answers() == ["one", "two\ufffd"]
        assert list((root / "run").iterdir()) == []
        (root / "run").rmdir()
        why = "tmp: .*; /var/tmp: any user can .*; /dev/shm: No such"
        with pytest.raises(Unusable, match=why), placed(directory, 65534, str):
            pass
    finally:
        os.close(directory)
    assert list(outside.iterdir()) == []
