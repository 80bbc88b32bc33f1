"""``threadwatch run``: how a program comes to publish that knows nothing of threadwatch."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import harness
from tests.testbed import CHECKOUT, Interpreter

LOOK = """
import json, os, sys, importlib.util
memfds = 0
for fd in os.listdir("/proc/self/fd"):
    try:
        memfds += os.readlink("/proc/self/fd/" + fd).startswith("/memfd:threadwatch")
    except OSError:
        pass
print(json.dumps(dict(
    memfds=memfds,
    path=sys.path,
    argv=sys.argv,
    threading="threading" in sys.modules,
    custom=[getattr(sys.modules.get(name), "__file__", None) for name in ("sitecustomize", "usercustomize")],
    order=getattr(sys, "order", None),
    env={k: v for k, v in os.environ.items() if k != "_"},
)))
"""


def _run(
    command: Sequence[str], *, by_run: bool = True, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    prefix = harness.threadwatch("run", "--") if by_run else []
    return subprocess.run(
        [*prefix, *command],
        cwd=CHECKOUT,
        env=harness.environ("run", environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
        check=False,
    )


def test_publishes(interpreter: Interpreter) -> None:
    """The program publishes before its first line, and we have not imported threading."""
    command = [*interpreter.command, "-X", "dev", "-W", "error", "-c", LOOK, "argument"]
    done, plain = _run(command), _run(command, by_run=False)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert (seen["memfds"], seen["argv"]) == (1, ["-c", "argument"])
    there = json.loads(plain.stdout)["threading"]  # other packages may have a say, too
    assert seen["threading"] == there, "gevent must be able to patch it first"


def test_nothing_else_can_be_imported(interpreter: Interpreter) -> None:
    """The program's sys.path is as ever, but for at most one directory with nothing but our own."""
    plain = json.loads(_run([*interpreter.command, "-c", LOOK], by_run=False).stdout)
    seen = json.loads(_run([*interpreter.command, "-c", LOOK]).stdout)
    added = [entry for entry in seen["path"] if entry not in plain["path"]]
    assert [entry for entry in seen["path"] if entry not in added] == plain["path"]
    assert len(added) <= 1
    for entry in added:
        names = {path.stem for path in Path(entry).iterdir() if path.name != "__pycache__"}
        assert names <= {"sitecustomize", "threadwatch"}, entry
    changed = {
        k
        for k in seen["env"].keys() | plain["env"].keys()
        if seen["env"].get(k) != plain["env"].get(k)
    }
    assert all(key == "PYTHONPATH" or key.startswith("THREADWATCH") for key in changed), changed


def test_other_customizations_run(interpreter: Interpreter, tmp_path: Path) -> None:
    """The program's own sitecustomize and usercustomize run as ever, once and in order."""
    for name in ("sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(
            f"import sys\nsys.order = [*getattr(sys, 'order', ()), {name!r}, __name__]\n"
        )
    environment = {"PYTHONPATH": str(tmp_path)}
    plain = _run([*interpreter.command, "-c", LOOK], by_run=False, environment=environment)
    done = _run([*interpreter.command, "-c", LOOK], environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    was, seen = json.loads(plain.stdout), json.loads(done.stdout)
    assert seen["order"] == was["order"]
    assert seen["order"] == ["sitecustomize", "sitecustomize", "usercustomize", "usercustomize"]
    assert seen["custom"] == was["custom"]
    assert seen["memfds"] == 1


@pytest.mark.parametrize(
    "fault",
    ["1 / 0", "import no_such_module", "raise SystemExit(9)", "def", "raise KeyboardInterrupt"],
)
def test_broken_customization(interpreter: Interpreter, fault: str, tmp_path: Path) -> None:
    """A sitecustomize that fails, fails as it does without us."""
    (tmp_path / "sitecustomize.py").write_text(fault + "\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    command = [*interpreter.command, "-c", "print('up')"]
    plain = _run(command, by_run=False, environment=environment)
    done = _run(command, environment=environment)
    last = [text.stderr.strip().splitlines()[-1:] for text in (done, plain)]
    assert (done.returncode, done.stdout, last[0]) == (plain.returncode, plain.stdout, last[1])


def test_children_publish_too(interpreter: Interpreter) -> None:
    """A Python that the program starts publishes as well, through a shell and from elsewhere."""
    shell = '"$0" -c "$1"; exit $?'
    code = f"import os, sys; os.chdir('/'); os.execlp('sh', 'sh', '-c', {shell!r}, sys.executable, {LOOK!r})"
    done = _run([*interpreter.command, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["memfds"] == 1


@pytest.mark.parametrize(
    "options", ["-I", "-E", "-S", "-s", "-P", "-OO", "-B", "-X frozen_modules=off"]
)
def test_isolated_interpreters(interpreter: Interpreter, options: str) -> None:
    """Options that keep Python from looking at its environment keep us out, without a word."""
    if options == "-P" and interpreter.version < (3, 11):
        options = "-q"  # there was no -P
    done = _run([*interpreter.command, *options.split(), "-c", LOOK])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["memfds"] == (options not in ("-I", "-E", "-S"))


def test_other_pythons_are_left_alone() -> None:
    """A program that is no Python runs as ever, with its own exit status."""
    done = _run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_same_process(interpreter: Interpreter) -> None:
    """The program is the very process that was started: PID, standard input and signals are its own."""
    command = [
        *interpreter.command,
        "-c",
        "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()",
    ]
    with subprocess.Popen(
        [*harness.threadwatch("run", "--"), *command],
        cwd=CHECKOUT,
        env=harness.environ("run", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(harness.DEADLINE) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "status"),
    [(["/no/such/program"], 1), (["/etc/passwd"], 1), ([], 2)],
    ids=["missing", "not-executable", "nothing"],
)
def test_cannot_run(command: Sequence[str], status: int) -> None:
    """What cannot be started is said in one line that names it."""
    done = _run(command)
    assert done.returncode == status
    assert done.stdout == ""
    assert "threadwatch" in done.stderr
    assert status == 2 or (len(done.stderr.splitlines()) == 1 and command[0] in done.stderr)


def test_run_from_an_interpreter_of_the_target(interpreter: Interpreter) -> None:
    """``run`` itself works on every interpreter that can publish, not only on the daemon's."""
    command = [*interpreter.command, "-m", "threadwatch", "run", "--"]
    environment = harness.environ("run", {"PYTHONPATH": str(CHECKOUT)})
    done = subprocess.run(
        [*command, interpreter.command[-1], "-c", LOOK],
        env=environment,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["memfds"] == 1
