"""Programs that other tools start: what publishes under ``threadwatch run``, and what they are called.

OpenTelemetry, New Relic and Datadog start Python with a sitecustomize of theirs, before and behind ``run``.
PEX and PyInstaller bring what does not look at the environment: ``run`` says so, and their groups are right.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import harness, programs
from tests.testbed import CHECKOUT, Interpreter, require
from threadwatch.labels.applications import application_name

SHOP = """
import os, sys, threading, time
def main():
    if "publish" in sys.argv:
        import threadwatch
        threadwatch.publish()
    threading.Thread(target=sys.stdin.read, name="metrics-flush").start()
    print(os.getpid(), flush=True)
if __name__ == "__main__":
    main()
"""
OPENTELEMETRY = ("opentelemetry-distro==0.60b1",)
NEW_RELIC = ("newrelic==11.5.0",)
DATADOG = ("ddtrace==4.0.0",)
QUIET = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "NEW_RELIC_LICENSE_KEY": "x",
    "NEW_RELIC_DEVELOPER_MODE": "true",
    "NEW_RELIC_LOG": "/dev/null",
    "DD_TRACE_ENABLED": "false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}
RUN = ("env", f"PYTHONPATH={CHECKOUT}", *harness.threadwatch("run", "--"))


@dataclass(frozen=True, slots=True)
class Seen:
    """What ``threadwatch ps`` sees of a program."""

    group: str
    published: bool
    threads: frozenset[str]
    stderr: str
    """What had been said by then."""


@contextmanager
def _running(
    command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[int, Path]]:
    """Run a program until it is killed; yield its PID as it says it, and the file with its stderr."""
    stderr = directory / "stderr"
    with (
        stderr.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=directory,
            env=harness.environ("run", {**QUIET, **environment}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.strip().isdecimal(), stderr.read_text()
            yield int(line), stderr
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it ends with it, and so do those between


def _seen(command: Sequence[str], directory: Path, **environment: str) -> Seen:
    with _running(command, directory, environment) as (pid, stderr):
        done = harness.run("ps", "--json", "--interval=0", str(pid), check=True)
        (process,) = (one for one in json.loads(done.stdout) if one["pid"] == pid)
        names = frozenset(thread["name"] for thread in process["threads"])
        return Seen(process["group"], process["published"], names, stderr.read_text())


def _shop(directory: Path) -> Path:
    script = directory / "shop.py"
    script.write_text(SHOP)
    return script


@pytest.mark.parametrize(
    ("tool", "requirements"),
    [
        ("opentelemetry-instrument", OPENTELEMETRY),
        ("newrelic-admin run-program", NEW_RELIC),
        ("ddtrace-run", DATADOG),
    ],
    ids=["opentelemetry", "newrelic", "ddtrace"],
)
@pytest.mark.parametrize("version", [(3, 9), (3, 13)], ids=["3.9", "3.13"])
def test_beside_a_tool_that_starts_python_by_its_own_sitecustomize(
    tool: str, requirements: tuple[str, ...], version: tuple[int, int], tmp_path: Path
) -> None:
    """Before ``threadwatch run`` and behind it, both of them have the process."""
    interpreter = require(*version)
    if tool.startswith("newrelic") and version == (3, 9):
        requirements = ("newrelic==11.1.0",)
    environment = programs.environment(interpreter, *requirements)
    program, *arguments = tool.split()
    instrument = [str(environment / "bin" / program), *arguments]
    shop = [*programs.python(interpreter, environment), str(_shop(tmp_path))]
    for command in ([*RUN, *instrument, *shop], [*instrument, *RUN, *shop]):
        seen = _seen(command, tmp_path)
        assert seen.published, seen
        assert {"MainThread", "metrics-flush"} <= seen.threads
        assert seen.group == "shop"
        assert "threadwatch:" not in seen.stderr


def test_a_sitecustomize_that_hands_over_to_nobody(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """Any tool's may stand before ours: outside of a virtual environment, Python publishes behind it."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/sitecustomize.py").write_text("import sys; sys.tool = True\n")
    (tmp_path / "usercustomize.py").write_text("import sys; sys.user = True\n")
    script = tmp_path / "shop.py"
    check = "assert sys.tool and sys.user and not [p for p in sys.path if p.endswith('inject')]"
    script.write_text(f"import sys\n{check}\n{SHOP}")
    shell = f'PYTHONPATH={tmp_path}/tool:$PYTHONPATH:{tmp_path} exec "$@"'
    command = [*RUN, "sh", "-c", shell, "sh", *interpreter.command, str(script)]
    seen = _seen(command, tmp_path)
    assert seen.published, seen
    assert {"MainThread", "metrics-flush"} <= seen.threads


LAYOUTS = {
    "zipapp": ("--layout=zipapp",),
    "loose": ("--layout=loose",),
    "packed": ("--layout=packed",),
    "venv": ("--venv",),
    "sh-boot": ("--sh-boot",),
}


@pytest.fixture(scope="module")
def pexes() -> Path:
    """Return a directory with the shop as a PEX in each layout, kept with the environment that made them."""
    environment = programs.environment(require(3, 11), "pex==2.105.0")
    directory = environment / f"pexes-{zlib.crc32(SHOP.encode()):08x}"
    for layout, options in LAYOUTS.items():
        if not (directory / layout / "complete").exists():
            _make_pex(environment, directory / layout, *options)
            (directory / layout / "complete").touch()
    return directory


def _make_pex(environment: Path, directory: Path, *options: str) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "src").mkdir(parents=True)
    _shop(directory / "src")
    python = [f"--python={require(3, 11).command[-1]}", f"--pex-root={environment / 'pex-root'}"]
    output = ["-m", "shop", "--output-file=ubshop.pex"]
    command = [str(environment / "bin/pex"), "--sources-directory=src", *options, *python, *output]
    subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL)
    return directory / "ubshop.pex"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pex_is_called_after_its_file_and_said_not_to_publish(
    layout: str, pexes: Path, tmp_path: Path
) -> None:
    """In every layout the group is the application and no hash, and ``run`` says what would publish."""
    pex = pexes / layout / "ubshop.pex"
    started = [[require(3, 11).command[-1], str(pex)]]
    if pex.is_dir():
        started.append([require(3, 11).command[-1], str(pex / "__main__.py")])
    else:
        started.append([str(pex)])
    for command in started:
        seen = _seen([*RUN, *command], tmp_path, PEX_ROOT=str(pexes / "root"))
        assert (seen.group, seen.published) == ("ubshop", False)
        assert seen.stderr.count("\n") == 1
        assert seen.stderr.startswith("threadwatch: run: ubshop.pex is a PEX")


def test_a_pex_with_threadwatch_in_it_publishes(wheel: Path, tmp_path: Path) -> None:
    """The package inside and the variable are enough, with ``run`` and without."""
    environment = programs.environment(require(3, 11), "pex==2.105.0")
    within = ("--no-pypi", "--intransitive", str(wheel))
    pex = _make_pex(environment, tmp_path / "pex", *within)
    command = [require(3, 11).command[-1], str(pex)]
    root = str(tmp_path / "root")
    for seen in (
        _seen([*RUN, *command], tmp_path, PEX_ROOT=root),
        _seen(command, tmp_path, PEX_ROOT=root, THREADWATCH="1"),
    ):
        assert (seen.group, seen.published, seen.stderr) == ("ubshop", True, "")
        assert {"MainThread", "metrics-flush"} <= seen.threads


def test_a_pex_of_somebody_elses_environment_is_called_pex() -> None:
    """Where the environment cannot be read, all of a host's are in one group, not one for each build."""
    hash_ = "467c24e90a68e3138452cabdc1deab82bb869807"
    for path in (f"/r/unzipped_pexes/4/{hash_}", f"/r/venvs/4/{hash_}/5f1d2eed/pex"):
        assert application_name(exe=None, cmdline=("/v/python", "-I", path), comm="x") == "pex"


@pytest.mark.parametrize("layout", ["onefile", "onedir"])
def test_a_program_that_pyinstaller_has_frozen(layout: str, tmp_path: Path) -> None:
    """It is called by its own name, and publishes from its code; of ``run`` alone, ``run`` says what would.

    Its threads have their names in any case.
    """
    interpreter = require(3, 11)
    environment = programs.environment(interpreter, "pyinstaller==6.22.3")
    directory = _frozen(environment, layout)
    program = str(directory / ("ubfrozen" if layout == "onefile" else "ubfrozen/ubfrozen"))
    seen = _seen([program], tmp_path)
    assert (seen.group, seen.published) == ("ubfrozen", False)
    assert {"MainThread", "metrics-flush"} <= seen.threads  # by its memory
    seen = _seen([*RUN, program, "publish"], tmp_path)
    assert (seen.group, seen.published) == ("ubfrozen", True)
    assert {"MainThread", "metrics-flush"} <= seen.threads
    assert seen.stderr.count("\n") == 1
    assert seen.stderr.startswith("threadwatch: run: ubfrozen is frozen by PyInstaller")


def _frozen(environment: Path, layout: str) -> Path:
    """Return a frozen shop with threadwatch in it."""
    directory = environment / "frozen" / layout
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "shop.py").write_text(SHOP)
    options = [
        f"--{layout}",
        "--name=ubfrozen",
        f"--paths={CHECKOUT}",
        "--distpath=.",
        "--noconfirm",
    ]
    subprocess.run(
        [str(environment / "bin/pyinstaller"), *options, "--log-level=ERROR", "shop.py"],
        cwd=directory,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return directory


def test_a_python_that_the_dynamic_loader_starts(interpreter: Interpreter, tmp_path: Path) -> None:
    """It is in its application's group, publishes, and has its threads' names when it does not, too."""
    if interpreter.root != Path("/"):
        loader = [*interpreter.command[:-1], "/lib64/ld-linux-x86-64.so.2", interpreter.command[-1]]
    else:
        loader = ["/lib64/ld-linux-x86-64.so.2", interpreter.command[-1]]
    command = [*loader, str(_shop(tmp_path))]
    for seen, published in (
        (_seen([*RUN, *command], tmp_path), True),
        (_seen(command, tmp_path), False),
    ):
        assert (seen.group, seen.published) == ("shop", published)
        assert {"MainThread", "metrics-flush"} <= seen.threads


def _copied(directory: Path) -> dict[str, str]:
    """Return what the command says to set, after it has copied the publisher for users with any umask."""
    done = harness.run(
        *("files", "--inject", str(directory)),
        prefix=("sh", "-c", 'umask 077; exec "$@"', "sh"),
        check=True,
    )
    variable, _, value = done.stdout.strip().partition("=")
    return {variable: value}


def test_a_copy_of_the_publisher(interpreter: Interpreter, tmp_path: Path) -> None:
    """Python publishes by a copy that everyone may read, made anew while it runs, and by nothing else."""
    copy = tmp_path / "volume" / "publisher"
    variables = _copied(copy)
    (copy / "of others").touch()
    assert _copied(copy) == variables == {"PYTHONPATH": f"{copy}/threadwatch/inject"}
    assert sorted(path.name for path in copy.iterdir()) == ["of others", "threadwatch"]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in copy.glob("threadwatch/**/*"))
    seen = _seen([*interpreter.command, str(_shop(tmp_path))], tmp_path, **variables)
    assert seen.published, seen
    assert "metrics-flush" in seen.threads


@pytest.mark.parametrize(
    ("directory", "why"),
    [("taken", "is not of ours"), ("file", "File exists"), ("a:b", "PYTHONPATH")],
    ids=["taken", "a-file", "colon"],
)
def test_a_copy_that_cannot_be_made(directory: str, why: str, tmp_path: Path) -> None:
    """One line says why, and what is there stays as it is."""
    (tmp_path / "taken" / "threadwatch").mkdir(parents=True)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    done = harness.run("files", "--inject", str(tmp_path / directory))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert why in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
