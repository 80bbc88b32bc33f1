"""The commands as an administrator meets them: real processes, real signals, exit codes and one line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import DEADLINE, run, threadwatch, until
from tests.kubernetes import put_config
from tests.serving import application, request, serving
from tests.terminal import written_to_a_terminal
from tests.testbed import CHECKOUT, descendants, require

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_serve_says_what_it_sees_and_ends_cleanly(tmp_path: Path) -> None:
    """The daemon is ready after one poll, shows an application by name, and SIGTERM ends it with 0."""
    with application() as target, serving(tmp_path) as daemon:
        until(lambda: daemon.get("/-/ready")[0] == 200, "ready")
        series = 'threadwatch_threads{group="shop",state="sleep",thread="metrics-flush"}'
        until(lambda: daemon.metric(series) == "1.0", "the application's thread")
        assert daemon.metric('threadwatch_group_published_processes{group="shop"}') == "1.0"
        assert daemon.get("/-/healthy")[0] == 200
        assert daemon.get("/anything")[0] == 404
        target.kill()
        target.wait()
        until(lambda: daemon.metric(series) == "0.0", "zero once the thread has ended")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(DEADLINE) == 0
    assert "stopping" in daemon.text()
    assert "Traceback" not in daemon.text()


def test_a_daemon_that_hangs_says_so_and_ends(tmp_path: Path) -> None:
    """When a watchdog would end it, it is neither healthy nor ready; it still ends on SIGTERM, with 1.

    Its log is full, so it hangs at the next message: that it has read its configuration again.
    """
    log = tmp_path / "log"
    os.mkfifo(log)
    gate = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    with log.open("wb") as stderr:
        daemon = subprocess.Popen(
            threadwatch("serve", "--web.listen-address=127.0.0.1:0"),
            cwd=CHECKOUT,
            env={**os.environ, "WATCHDOG_USEC": "2000000"},
            stderr=stderr,
        )
    said = b""

    def is_listening() -> bool:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(gate, 65536)
        return b"address=" in said

    def status(path: str) -> int:
        return request(f"{url}{path}")[0]

    try:
        until(is_listening, "listening")
        url = "http://" + re.findall(r"address=(\S+)", said.decode())[0]
        until(lambda: status("/-/ready") == 200, "ready")
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(gate, b"x")
        daemon.send_signal(signal.SIGHUP)
        wchan = Path(f"/proc/{daemon.pid}/wchan")
        until(lambda: "pipe_write" in wchan.read_text(), "a main thread that hangs")
        until(lambda: status("/-/healthy") == 503, "not healthy")
        assert status("/-/ready") == 503
        assert status("/metrics") == 200
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(DEADLINE) == 1
    finally:
        daemon.kill()
        daemon.wait()
        os.close(gate)


def test_reload_takes_a_good_configuration_and_refuses_a_bad_one(tmp_path: Path) -> None:
    """SIGHUP puts a good file in force; a bad one is logged in one line and leaves the old in force."""
    config = tmp_path / "threadwatch.yml"
    config.write_text("poll_interval: 200ms\n")
    with application(), serving(tmp_path, f"--config.file={config}") as daemon:
        shop = 'threadwatch_group_processes{group="shop"}'
        until(lambda: daemon.metric(shop) == "1.0", "the default group")
        config.write_text(
            "poll_interval: 200ms\ngroups:\n- name: renamed\n  match: {cmdline: shop}\n"
        )
        daemon.process.send_signal(signal.SIGHUP)
        until(
            lambda: daemon.metric('threadwatch_group_processes{group="renamed"}') == "1.0",
            "the configured group",
        )
        assert daemon.metric(shop) == "0.0"
        config.write_text("poll_intervall: 1s\n")
        daemon.process.send_signal(signal.SIGHUP)
        success = "threadwatch_config_last_reload_successful"
        until(lambda: daemon.metric(success) == "0.0", "the failure is shown")
        assert daemon.metric('threadwatch_group_processes{group="renamed"}') == "1.0"
        (line,) = [line for line in daemon.text().splitlines() if "level=error" in line]
        assert f"{config}:1: poll_intervall" in line
        config.write_text("poll_interval: 200ms\n")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.metric(shop) == "1.0", "back to the default")
        assert daemon.metric(success) == "1.0"


def test_a_configuration_that_changes_is_read_again(tmp_path: Path) -> None:
    """With --config.auto-reload a ConfigMap's swap counts, and a write in place; a bad one is read once."""

    def is_group(name: str) -> bool:
        return daemon.metric(f'threadwatch_group_processes{{group="{name}"}}') == "1.0"

    config = put_config(tmp_path, "poll_interval: 200ms\n")
    with (
        application(),
        serving(tmp_path, f"--config.file={config}", "--config.auto-reload") as daemon,
    ):
        until(lambda: is_group("shop"), "the default group")
        put_config(
            tmp_path, "poll_interval: 100ms\ngroups: [{name: swapped, match: {cmdline: shop}}]\n"
        )
        until(lambda: is_group("swapped"), "the group of the new content")
        put_config(tmp_path, "poll_intervall: 1s\n")
        success = "threadwatch_config_last_reload_successful"
        until(lambda: daemon.metric(success) == "0.0", "the failure is shown")
        polls = float(daemon.metric("threadwatch_polls_total") or 0)
        until(
            lambda: float(daemon.metric("threadwatch_polls_total") or 0) > polls + 5, "more polls"
        )
        assert is_group("swapped")
        (line,) = [line for line in daemon.text().splitlines() if "level=error" in line]
        assert f"{config}:1: poll_intervall" in line
        config.write_text(
            "poll_interval: 100ms\ngroups: [{name: written, match: {cmdline: shop}}]\n"
        )
        until(lambda: is_group("written"), "the group that was written into the file")
        assert daemon.metric(success) == "1.0"


def test_auto_reload_needs_a_file() -> None:
    """--config.auto-reload without a file is refused, and the line says what is missing."""
    done = run("serve", "--config.auto-reload")
    assert done.returncode != 0
    assert "add --config.file" in done.stderr


def test_log_lines_are_json_where_asked_for() -> None:
    """With --log.format=json every line is one JSON object with time, level and message."""
    daemon = subprocess.Popen(
        threadwatch("serve", "--web.listen-address=127.0.0.1:0", "--log.format=json"),
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert daemon.stderr is not None
    first = daemon.stderr.readline()
    daemon.send_signal(signal.SIGINT)
    _, rest = daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0
    for line in (first + rest).splitlines():
        assert {"time", "level", "msg"} <= json.loads(line).keys()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("poll_intervall: 1s\n", ":1: poll_intervall: "),
        ("groups:\n- name: a\n  match: {cmdline: '('}\n", ":3: "),
        ("", ": is empty"),
    ],
)
def test_bad_configuration_ends_with_78(tmp_path: Path, text: str, complaint: str) -> None:
    """serve, ps and check-config all refuse a bad file with one line that names the place, and 78."""
    config = tmp_path / "threadwatch.yml"
    config.write_text(text)
    for command in (
        ("serve", f"--config.file={config}"),
        ("ps", f"--config.file={config}"),
        ("check-config", str(config)),
    ):
        done = run(*command)
        assert done.returncode == 78, command
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("threadwatch: ")
        assert str(config) + complaint in line


def test_check_config_says_ok() -> None:
    """The configuration that comes with the project is accepted, in one line on standard output."""
    done = run("check-config", "config/threadwatch.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("config/threadwatch.yml: ok")


def test_port_in_use_is_one_line() -> None:
    """A port that is taken ends serve with 1 and one line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", f"--web.listen-address={address}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert address in line
    assert "in use" in line


@pytest.mark.parametrize("command", ["serve", "ps"])
def test_no_procfs_is_one_line(tmp_path: Path, command: str) -> None:
    """Where there is no procfs, the command ends with 1 and one line that says what to do."""
    done = run(command, f"--path.procfs={tmp_path}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path} is not mounted" in line


def test_bad_arguments_are_usage_errors() -> None:
    """What cannot be an address, a path or a command ends with 1 or 2 and says what would be right."""
    assert run().returncode == 2
    assert run("run", "--").returncode == 2
    assert run("serve", "--log.level=loud").returncode == 2
    done = run("serve", "--web.listen-address=nowhere")
    assert done.returncode == 1
    assert "host:port" in done.stderr


@pytest.mark.parametrize("command", ["serve", "ps", "top", "doctor", "demo", "check-config"])
def test_an_old_python_is_told_in_one_line(command: str) -> None:
    """On a Python that the daemon does not run on, its commands say so in one line and end with 1."""
    old = require(3, 10)
    arguments = ["x.yml"] if command == "check-config" else []
    done = subprocess.run(
        [*old.command, "-m", "threadwatch", command, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{command} needs Python 3.11 or later" in line
    assert old.release in line


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_run_reports_what_cannot_be_started(command: str, status: int) -> None:
    """A command that is not there, or cannot be run, ends run with one line, and a shell's status."""
    done = run("run", "--", command)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert command in line


def test_files_come_along() -> None:
    """The files are listed, whole or by directory, and printed as they are; another name is a failure."""
    names = run("files").stdout.splitlines()
    assert {"threadwatch.yml", "systemd/threadwatch.service", "runbooks/down.md"} <= set(names)
    dashboards = [name for name in names if name.startswith("grafana/dashboards/")]
    assert run("files", "grafana/dashboards").stdout.splitlines() == dashboards
    rules = CHECKOUT / "config" / "prometheus" / "rules" / "threadwatch.yml"
    assert run("files", "prometheus/rules/threadwatch.yml").stdout == rules.read_text()
    done = run("files", "no-such-file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no-such-file" in done.stderr


def test_ps_shows_an_application_as_text() -> None:
    """ps NAME shows the group's headline, its process, and each thread by name."""
    with application(code="threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"):
        done = run("ps", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.match(r"shop   CPython \d+\.\d+\.\d+ · 1 process, 3 threads · published$", lines[0])
    assert re.match(r"  PID \d+   \S*python\S* \S+shop\.py   CPU ", lines[2])
    assert lines[3].split() == [
        "TID",
        "THREAD",
        "COMM",
        "STATE",
        "CPU",
        "%",
        "GIL",
        "HELD",
        "GIL",
        "WAIT",
        "READY",
        "CPU",
        "TIME",
        "LAST",
        "CPU",
    ]
    names = [re.split(r" {2,}", line.strip())[1] for line in lines[4:7]]
    assert sorted(names) == ["MainThread", "Thread-1 (sleep)", "metrics-flush"]
    assert "parentheses" not in done.stdout


def test_ps_shows_hostile_names_without_obeying_them() -> None:
    """A name with terminal controls, newlines or overrides is shown escaped, on its own line."""
    name = "a\x1b[2Jb\nc\u202ed"
    with application(code=f"threading.current_thread().name = {name!r}"):
        done = run("ps", "shop", "--interval", "0")
    assert "\x1b" not in done.stdout
    assert r"a\x1b[2Jb\nc\u202ed" in done.stdout


def test_ps_shows_a_process_that_does_not_publish() -> None:
    """A process of any kind is shown when asked for by PID: by comm, in parentheses, with the reason."""
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", "exec")
        done = run("ps", str(sleeper.pid), "--interval", "0")
    finally:
        sleeper.kill()
        sleeper.wait()
    assert "(sleep)" in done.stdout
    assert "not published" in done.stdout
    assert "A name in parentheses is the kernel's comm" in done.stdout


def test_ps_says_what_is_not_there() -> None:
    """A PID or a name that nothing has ends ps with 1 and one line."""
    for what in ("2147483647", "no-such-application"):
        done = run("ps", what)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert what in line


@pytest.mark.parametrize("command", [("ps", "--interval=0"), ("top", "-b", "-n1", "-d0.1")])
@pytest.mark.parametrize(("limit", "fits"), [("80:80", False), ("80:2000", True)])
def test_processes_beyond_the_file_limit(
    command: tuple[str, ...], limit: str, *, fits: bool
) -> None:
    """As many files are used as may be; where these are too few, it says how many processes are left out."""
    names = [f"shop{number}" for number in range(5)]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(application(name=f"{name}.py"))
        done = run(*command, prefix=("prlimit", f"--nofile={limit}"))
    assert done.returncode == 0
    assert all(name in done.stdout for name in names) == fits
    said = re.findall(
        r"^threadwatch: (\d+) processes are left out.*ulimit", done.stderr, re.MULTILINE
    )
    if fits:
        assert said == []
    else:
        assert int(said[0]) >= 4
        assert len(said) == 1


def test_ps_of_another_users_process_says_what_is_hidden() -> None:
    """Without the right to read another user's names, ps shows the threads by comm and says why."""
    with application() as target:
        done = subprocess.run(
            [*NOBODY, *threadwatch("ps", str(target.pid))],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "not published" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "hidden" in line
    assert "CAP_DAC_READ_SEARCH" in line


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_ps_in_a_terminal(environment: dict[str, str], *, colored: bool) -> None:
    """On a terminal lines fit into its width, and NO_COLOR takes the bold type away."""
    with application(code="threading.current_thread().name = 'x' * 150"):
        code, text = written_to_a_terminal(threadwatch("ps", "shop"), **environment)
    assert code == 0
    assert ("\x1b[1m" in text) is colored
    table = [line for line in text.splitlines() if "xxxx" in line]
    assert table
    assert all(len(line) <= 80 for line in table)
    assert "…" in table[0]


@pytest.mark.parametrize(
    ("end", "status"),
    [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["ended", "killed"],
)
def test_demo_shows_the_mapping_and_serves_it(end: signal.Signals, status: int) -> None:
    """The demo starts its application, prints the mapping and where to look, and leaves nothing behind."""
    with subprocess.Popen(
        threadwatch("demo", "--web.listen-address=127.0.0.1:0"),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            family = _check_demo(process)
            process.send_signal(end)
            process.communicate(timeout=DEADLINE)
            assert process.returncode == status
        finally:
            process.kill()
    until(lambda: not any(map(_runs, family)), "all of the application has ended")


def test_demo_waits_until_its_application_is_complete(tmp_path: Path) -> None:
    """An application that takes longer than three polls to start is shown with all that it has."""
    # The application's own delay, longer than three polls: no test waits by it.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'demo_app.py' in sys.orig_argv[1]: time.sleep(5)\n"
    )
    with subprocess.Popen(
        threadwatch("demo", "--web.listen-address=127.0.0.1:0"),
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _check_demo(process)
        finally:
            process.terminate()


def _check_demo(process: subprocess.Popen[str]) -> list[int]:
    """Check what the demo prints and serves; return the PIDs of its application's processes."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or "once it scrapes" not in lines[-1]:
        line = process.stdout.readline()
        assert line, "".join(lines)
        lines.append(line)
    text = "".join(lines)
    for name in ("price-engine", "http_0", "event-loop", "Thread-1 (sleeper)", "(native-io)"):
        assert name in text
    ways = dict(
        re.findall(r"^  (in the browser|in a terminal|the metrics) +(.+)$", text, re.MULTILINE)
    )
    for way, expected in (
        ("in the browser", b"demo_app"),
        ("the metrics", b'thread="price-engine"'),
    ):
        with urllib.request.urlopen(ways[way], timeout=DEADLINE) as response:  # noqa: S310 - as above
            assert expected in response.read()
    shown = subprocess.run(
        ["sh", "-c", f"{ways['in a terminal']} -b -n 1 -d 0.2"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "price-engine" in shown.stdout
    examined = run("doctor", "--json", str(process.pid))
    tables = [one["table"] for one in json.loads(examined.stdout)["processes"]]
    assert tables == ["found"] * 5, "the demo and its application publish"
    started = re.search(r"PID (\d+)", text)
    assert started
    family = [int(started[1]), *descendants(int(started[1]))]
    assert len(family) == 4
    return family


def _runs(pid: int) -> bool:
    """Return whether there is such a process; one that its parent has not waited for has ended, too."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b") ")[2][:1] not in (b"Z", b"X")


PRINTING = {
    "help": ("--help",),
    "help of one": ("top", "--help"),
    "version": ("--version",),
    "ps": ("ps",),
    "json": ("ps", "--json"),
    "doctor": ("doctor",),
    "top": ("top", "-b", "-n", "1", "-d", "0.2"),
    "check-config": ("check-config", "config/threadwatch.yml"),
    "check-web-config": ("check-web-config", "config/web.yml"),
    "demo": ("demo", "--web.listen-address=127.0.0.1:0"),
}
"""Each command that prints, and the usage texts, which argparse prints."""


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_output_that_cannot_be_written(arguments: tuple[str, ...]) -> None:
    """A full disk and a closed output give one line and 1; a reader that left is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        on = {"full": full.fileno(), "left": writer, "closed": None}
        ends = {name: _printing(arguments, output) for name, output in on.items()}
    os.close(writer)
    line = "threadwatch: the output cannot be written: "
    assert ends == {
        "full": (1, f"{line}No space left on device\n"),
        "left": (-signal.SIGPIPE, ""),
        "closed": (1, f"{line}Bad file descriptor\n"),
    }


def _printing(arguments: tuple[str, ...], output: int | None) -> tuple[int, str]:
    """Return the exit code and stderr of a command with that standard output; None: it is closed."""
    closed = ("sh", "-c", 'exec "$@" >&-', "sh") if output is None else ()
    done = subprocess.run(
        [*closed, *threadwatch(*arguments)],
        cwd=CHECKOUT,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("closed", [">&- 2>&-", "2>/dev/full"])
def test_what_is_no_output_of_a_command_needs_none(tmp_path: Path, closed: str) -> None:
    """`run` starts its command, and the daemon polls and serves, with no or a full standard error."""
    said = tmp_path / "said"
    command = f'python3 -c \'open("{said}", "w").write("done")\''
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    start = [*shell, *threadwatch("run", "--", "sh", "-c", command)]
    assert subprocess.run(start, cwd=CHECKOUT, timeout=DEADLINE, check=False).returncode == 0
    assert said.read_text() == "done"
    path = tmp_path / "socket"
    daemon = subprocess.Popen(
        [*shell, *threadwatch("serve", f"--web.listen-address=unix:{path}")], cwd=CHECKOUT
    )
    try:
        until(path.exists, "a socket")
        ask = ["curl", "--silent", "--fail", "--unix-socket", str(path), "http://localhost/-/ready"]
        until(lambda: not subprocess.run(ask, check=False).returncode, "a complete poll")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(DEADLINE) == 0
    finally:
        daemon.kill()
        daemon.wait()
