"""``threadwatch run``: how a program comes to publish that knows nothing of threadwatch."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import harness
from tests.testbed import CHECKOUT, Interpreter, require

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
    """Options that keep Python from looking at its environment keep us out, and ``run`` says so in a line."""
    if options == "-P" and interpreter.version < (3, 11):
        options = "-q"  # there was no -P
    done = _run([*interpreter.command, *options.split(), "-c", LOOK])
    kept_out = options in ("-I", "-E", "-S")
    assert done.returncode == 0
    assert json.loads(done.stdout)["memfds"] == (not kept_out)
    assert len(done.stderr.splitlines()) == kept_out
    assert not kept_out or f"{options} " in done.stderr


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("PYTHON -Wignore -uI SCRIPT", "-I does not look at PYTHONPATH"),
        ("PYTHON -X dev -sE -c pass", "-E does not look at PYTHONPATH"),
        ("nice -n 1 timeout 60s PYTHON -S SCRIPT", "-S reads no start-up file"),
        ("ISOLATED", "-I does not look at PYTHONPATH"),
        ("SPLIT", "-E does not look at PYTHONPATH"),
        ("env -i PATH=/bin PYTHON SCRIPT", "env -i clears the environment"),
        ("env -i PYTHONHASHSEED=0 SCRIPT", "env -i clears the environment"),
        ("env - PYTHON SCRIPT", "env - clears the environment"),
        ("env -u PYTHONPATH PYTHON SCRIPT", "env removes PYTHONPATH"),
        ("env PYTHONPATH=/srv PYTHON SCRIPT", "env gives PYTHONPATH another value"),
        ("setpriv --reset-env PYTHON SCRIPT", "setpriv --reset-env starts its command in another"),
        ("PYTHON SCRIPT", None),
        ("PYTHON -s -B SCRIPT -I", None),
        ("PYTHON -c pass -I", None),
        ("SCRIPT -I", None),
        ("env SHOP=1 PYTHON SCRIPT", None),
        ("setpriv --no-new-privs PYTHON SCRIPT", None),
        ("env -i RUN PYTHON SCRIPT", None),
    ],
)
def test_what_keeps_python_from_publishing_is_said(
    command: str, why: str | None, tmp_path: Path
) -> None:
    """``run`` sees in its own command line what will not publish, says so in one line, and runs it."""
    python = require(3, 11).command[-1]
    files = {"SCRIPT": python, "ISOLATED": f"{python} -I", "SPLIT": f"/usr/bin/env -S {python} -sE"}
    for name, shebang in files.items():
        (tmp_path / name).write_text(f"#!{shebang}\n{LOOK}")
        (tmp_path / name).chmod(0o755)
        command = command.replace(name, str(tmp_path / name))
    run = shlex.join(["env", f"PYTHONPATH={CHECKOUT}", *harness.threadwatch("run", "--")])
    words = shlex.split(command.replace("RUN", run).replace("PYTHON ", f"{python} "))
    done = _run(words)
    assert done.returncode == 0
    assert done.stderr.count("\n") == (why is not None)
    assert why is None or (why in done.stderr and done.stderr.startswith("threadwatch: run: "))
    if done.stdout:
        assert json.loads(done.stdout)["memfds"] == (why is None)


def test_an_installed_threadwatch_publishes_in_spite_of_it(wheel: Path, tmp_path: Path) -> None:
    """Where the package is installed, -I and env -u PYTHONPATH keep nothing out, and nothing is said."""
    interpreter = require(3, 11)
    subprocess.run([*interpreter.command, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    site = tmp_path / "lib/python3.11/site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    python = str(tmp_path / "bin/python")
    for command in ([python, "-I"], ["env", "-u", "PYTHONPATH", python]):
        done = _run([*command, "-c", LOOK])
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["memfds"] == 1
    for value, publishes in (
        *(("1", 1), ("yes", 1), ("true", 1), ("on", 1)),
        *(("0", 0), ("", 0), ("false", 0), ("No", 0), (" OFF ", 0)),
    ):
        done = _run([python, "-c", LOOK], by_run=False, environment={"THREADWATCH": value})
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["memfds"] == publishes, value


@pytest.mark.parametrize("value", ["0", "false", "No", " off "])
def test_a_child_can_be_switched_off(value: str) -> None:
    """A program that is started with THREADWATCH=off does not publish, though its parent does."""
    python = require(3, 12).command[-1]
    done = _run(["env", f"THREADWATCH={value}", python, "-c", LOOK])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["memfds"] == 0
    done = _run([python, "-c", LOOK], environment={"THREADWATCH": value})
    assert json.loads(done.stdout)["memfds"] == 1, "run is asked for by name"


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8"])
def test_older_pythons_are_left_alone(version: str, tmp_path: Path) -> None:
    """A Python that cannot publish says nothing, keeps its path, and runs its own sitecustomize."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.custom = True\n")
    code = "import sys; print((sys.version_info[:2], getattr(sys, 'custom', False), sys.path))"
    (python,) = (Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python{version}")
    environment = {"PYTHONPATH": str(tmp_path)}
    shell = ["sh", "-c", f"{python} -c {shlex.quote(code)}"]
    plain = _run(shell, by_run=False, environment=environment)
    done = _run(shell, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == plain.stdout
    assert f"({version.replace('.', ', ')}), True" in done.stdout


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
    [(["/no/such/program"], 127), (["/etc/passwd"], 126), ([], 2)],
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
