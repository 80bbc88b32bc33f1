"""The unit under a real systemd: how it starts, watches, reloads, is killed, comes back and stops."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable

import pytest

from tests.harness import until
from tests.service.systemd.limits import memory_limit
from tests.service.systemd.machine import (
    CROWD,
    DROP_INS,
    TARGETS,
    WRITER,
    Entry,
    Machine,
    Service,
    value,
)

CAPABILITIES = (1 << 2) | (1 << 19)
"""CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE, in the bits of /proc/PID/status (linux/capability.h)."""


def writer(group: str, state: str = "lock") -> str:
    """Return the series that says that the target's thread is in that state."""
    return f'threadwatch_threads{{group="{group}",state="{state}",thread="{WRITER}"}}'


def has_writer(metrics: str, group: str) -> bool:
    """Return whether the target's thread is in that group, in whatever state it is seen to be."""
    series = f'threadwatch_threads{{group="{group}",state='
    return any(
        line.startswith(series) and f'thread="{WRITER}"' in line and line.endswith(" 1.0")
        for line in metrics.splitlines()
    )


def sees_all(service: Service) -> bool:
    """Return whether the named threads of all three users are there, and known to wait for a lock."""
    metrics = service.metrics()
    return all(value(metrics, writer(group)) == 1 for group in TARGETS)


def messages(entries: list[Entry]) -> str:
    """Return what they say."""
    return "\n".join(entry.message for entry in entries)


class Gate:
    """A log that no process reads: once it is full, the main thread hangs at its next message."""

    PATH = "/srv/gate"

    def __init__(self, service: Service) -> None:
        self._machine = service.machine
        self._machine.run("systemctl", "stop", "gate", check=False)
        self._machine.run("sh", "-c", f"rm -f {self.PATH} && mkfifo --mode=666 {self.PATH}")
        self._machine.run(
            *("systemd-run", "--quiet", "--unit=gate", "sh", "-c"),
            f"exec sleep 100000 3<>{self.PATH}",
        )
        keeper = Service(self._machine, "gate").pid()
        until(
            # before that, what is written goes with its writer
            lambda: self._machine.run("readlink", f"/proc/{keeper}/fd/3", check=False) == self.PATH,
            "a process that keeps the log open",
        )
        service.drop_in(f"[Service]\nStandardError=file:{self.PATH}\n", "gate")

    def shut(self) -> None:
        """Have every writer wait from now on."""
        self._python("while True: os.write(fd, b'x')")

    def open(self) -> None:
        """Let the writers go on."""
        self._python("while os.read(fd, 1 << 20): pass")

    def await_writer(self, pid: int) -> None:
        """Wait until that process's main thread hangs there, by what it waits for in the kernel."""
        until(
            lambda: "pipe_write" in self._machine.run("cat", f"/proc/{pid}/wchan", check=False),
            "a main thread that hangs",
        )

    def _python(self, loop: str) -> None:
        text = f"import os; fd = os.open({self.PATH!r}, os.O_RDWR | os.O_NONBLOCK)\n"
        text += f"try:\n  {loop}\nexcept BlockingIOError: pass"
        self._machine.run("/opt/threadwatch/bin/python", "-I", "-S", "-c", text)


def make_polls_hang(service: Service, gate: Gate) -> None:
    """Something new to be told of, in a poll, to a log that is full. The service needs to see too little."""
    gate.shut()
    service.machine.start_target("late")
    gate.await_writer(service.pid())


SEE_TOO_LITTLE = "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n"


def test_ready_after_the_first_poll_and_not_before(service: Service, machine: Machine) -> None:
    """Until the first poll is complete, the daemon answers that it is not ready, and its unit is starting."""
    gate = Gate(service)
    gate.shut()
    machine.run("systemctl", "start", "--no-block", service.name)
    url = f"http://127.0.0.1:{service.port}/-/"
    until(lambda: "healthy" in machine.get(url + "healthy"), "healthy")
    assert machine.get(url + "ready") == ""
    assert (service.show("ActiveState"), service.show("StatusText")) == ("activating", "")
    gate.open()
    until(lambda: service.show("ActiveState") == "active", "active")
    assert "ready" in machine.get(url + "ready")
    assert service.value("threadwatch_polls_total")
    assert service.show("NRestarts") == "0"


def test_watches_three_users_with_two_capabilities(service: Service, machine: Machine) -> None:
    """As a user of its own with two capabilities it knows three users' threads, and what they wait for."""
    service.start()
    until(lambda: sees_all(service), "the threads of three users")
    metrics = service.metrics()
    for group in TARGETS:
        assert value(metrics, f'threadwatch_group_published_processes{{group="{group}"}}') == 1
        socket = f'threadwatch_threads{{group="{group}",state="socket",thread="order-socket"}}'
        assert value(metrics, socket) == 1
    assert "threadwatch_read_errors_total{" not in metrics
    status = machine.run("cat", f"/proc/{service.pid()}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    for kind in ("CapEff", "CapPrm", "CapAmb", "CapBnd"):
        assert int(fields[kind], 16) == CAPABILITIES, kind
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_status_says_what_is_watched_and_what_it_costs(service: Service, machine: Machine) -> None:
    """``systemctl status`` shows processes, threads and the cost of a poll, and is kept up to date."""
    service.drop_in("[Service]\nWatchdogSec=20\n")  # four times in that
    service.start()
    pattern = (
        r"Watching (\d+) processes \((\d+) published\) with (\d+) threads\. "
        r"A poll takes [0-9.]+ ms of CPU, and all together [0-9.]+ % of one\."
    )
    until(lambda: re.fullmatch(pattern, service.show("StatusText")), "the status")

    def looked() -> tuple[str, str] | None:
        """Return the text and all of the status, of one moment: every 5 s there is another text."""
        text = service.show("StatusText")
        status = machine.run("systemctl", "status", "--no-pager", service.name)
        return (text, status) if text == service.show("StatusText") else None

    one = until(looked, "a text that stays for so long")
    assert one is not None
    text, status = one
    found = re.fullmatch(pattern, text)
    assert found, text
    processes, published, threads = map(int, found.groups())
    assert processes >= published >= len(TARGETS) + 1
    assert threads >= 3 * len(TARGETS) + 2
    assert text in status


def test_unit_is_hardly_exposed(service: Service, machine: Machine) -> None:
    """Of the unit as it runs, systemd-analyze says the same as of the file: at most 2.1 of 10."""
    service.start()
    report = machine.run("systemd-analyze", "security", "--no-pager", service.name)
    found = re.search(r"Overall exposure level for threadwatch.service: ([0-9.]+)", report)
    assert found, report
    assert float(found[1]) <= 2.1


_ATTACK = """
import ctypes, errno, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    return errno.errorcode[ctypes.get_errno()] if getattr(libc, name)(*arguments) < 0 else "done"
def open_(path, flags):
    try:
        os.open(path, flags)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
with open(f"/proc/{pid}/maps") as maps:
    address = int(next(line for line in maps if " rw" in line).split("-")[0], 16)
buffer = ctypes.create_string_buffer(8)
own, theirs = Vector(ctypes.addressof(buffer), 1), Vector(address, 1)
one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
print("read memory:", open_(f"/proc/{pid}/mem", os.O_RDONLY))
print("write memory:", open_(f"/proc/{pid}/mem", os.O_RDWR))
vectors = ctypes.byref(own), one, ctypes.byref(theirs), one, none
print("process_vm_writev:", call("process_vm_writev", pid, *vectors))
print("ptrace:", call("ptrace", 16, pid, None, None))
places = ("/usr", "/opt", "/etc", "/var", "/run", "/home", "/dev/shm", "/dev", "/sys")
print("write:", {open_(f"{place}/new", os.O_RDWR | os.O_CREAT) for place in places} - {"EACCES"})
mounts = [line.split(maxsplit=7) for line in open("/proc/self/mountinfo")]
writable = {one[4] for one in mounts if one[5].startswith("rw")}
print("writable:", *sorted(writable & {"/", "/proc", "/tmp", *places}))
print("be root:", call("setuid", 0))
print("execute a file in /tmp:", end=" ", flush=True)
open("/tmp/x", "w").write("#!/bin/true")
os.chmod("/tmp/x", 0o755)
try:
    os.execv("/tmp/x", ["x"])
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize(
    ("drop_in", "target", "write"), [("", "books", "EACCES"), ("own-user.conf", "shop", "EROFS")]
)
def test_what_it_may_read_it_may_not_change(
    service: Service, machine: Machine, drop_in: str, target: str, write: str
) -> None:
    """A program with all that the unit has can read a process's memory, and change nothing anywhere."""
    machine.write("/etc/attack.py", _ATTACK)
    if drop_in:
        service.drop_in((DROP_INS / drop_in).read_text(), "unit")
    cursor = service.cursor()
    service.drop_in(
        "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart="
        f"/opt/threadwatch/bin/python /etc/attack.py {Service(machine, target).pid()}\n"
    )
    service.do("start")
    said = [entry.message for entry in service.journal(cursor) if entry.sender == "python"]
    assert said == [
        "read memory: done",
        f"write memory: {write}",
        "process_vm_writev: EPERM",
        "ptrace: EPERM",
        "write: {'EROFS'}",
        "writable: /tmp",
        "be root: EPERM",
        "execute a file in /tmp: EACCES",
    ]


def test_is_scraped_by_prometheus(service: Service, machine: Machine) -> None:
    """A Prometheus beside it finds it up, and answers by user and by thread name."""
    service.start()
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": "threadwatch",
                "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}],
            }
        ],
    }
    machine.write("/etc/prometheus/prometheus.yml", json.dumps(config))
    machine.run("systemctl", "start", "prometheus")

    def query(promql: str) -> list[dict[str, str]]:
        parameters = urllib.parse.urlencode({"query": promql})
        body = machine.get(f"http://127.0.0.1:9090/api/v1/query?{parameters}")
        found = json.loads(body or '{"data": {"result": []}}')["data"]["result"]
        return [one["metric"] for one in found]

    try:
        until(lambda: query('up{job="threadwatch"} == 1'), "up")
        waiting = f'threadwatch_threads{{thread="{WRITER}",state="lock"}} == 1'
        until(
            lambda: {one["group"] for one in query(waiting)} >= TARGETS.keys(),
            "the threads of three users",
        )
    finally:
        machine.run("systemctl", "stop", "prometheus")


@pytest.mark.parametrize("reload_type", ["notify", "notify-reload"])
def test_reload_with_good_and_with_bad_configuration(
    service: Service, machine: Machine, reload_type: str
) -> None:
    """A good one is in force when the reload is over; a bad one is named, and leaves the one before."""
    if reload_type == "notify-reload":
        service.drop_in((DROP_INS / "notify-reload.conf").read_text())
    service.drop_in("[Service]\nWatchdogSec=50\n")
    machine.write("/etc/threadwatch.yml", "poll_interval: 30s\n")
    machine.run("chmod", "600", "/etc/threadwatch.yml")  # CAP_DAC_READ_SEARCH is for this, too
    service.options("--config.file=/etc/threadwatch.yml")
    service.start()
    pid = service.pid()
    assert service.show("WatchdogUSec") == "1min"  # twice the interval

    def successful() -> float | None:
        return service.value("threadwatch_config_last_reload_successful")

    good = "poll_interval: 1s\ngroups:\n  - name: renamed\n    match: {cmdline: '.*books.py.*'}\n"
    machine.write("/etc/threadwatch.yml", good)
    service.do("reload")
    if reload_type == "notify":  # kill has ended, which is all that systemctl may wait for
        until(lambda: has_writer(service.metrics(), "renamed"), "the new configuration")
    assert has_writer(service.metrics(), "renamed")
    assert successful() == 1
    until(lambda: value(service.metrics(), writer("renamed")) == 1, "the state, by a sample")

    cursor = service.cursor()
    machine.write("/etc/threadwatch.yml", "poll_intervall: 1s\n")
    service.do("reload")
    until(lambda: successful() == 0, "the refusal")
    until(lambda: service.show("ActiveState") == "active", "active again")
    assert value(service.metrics(), writer("renamed")) == 1
    (error,) = [entry for entry in service.journal(cursor) if entry.priority == 3]
    assert "the new configuration is bad, so the one before stays in use" in error.message
    assert "/etc/threadwatch.yml:1: poll_intervall: unknown key" in error.message
    assert "The last reload failed: /etc/threadwatch.yml:1: poll_inter" in service.show(
        "StatusText"
    )

    machine.write("/etc/threadwatch.yml", good)
    service.do("reload")
    until(lambda: successful() == 1, "the good one again")
    until(lambda: "failed" not in service.show("StatusText"), "a status without complaint")
    assert (service.pid(), service.show("NRestarts")) == (pid, "0")


def test_hung_poll_is_killed_and_restarted(service: Service, machine: Machine) -> None:
    """A poll that never ends gets the daemon killed by the watchdog, and started again."""
    gate = Gate(service)
    service.options("--log.level=debug")
    service.drop_in(f"{SEE_TOO_LITTLE}WatchdogSec=6\nRestartSec=100ms\nTimeoutStopSec=1\n")
    service.start()
    pid = service.pid()
    try:
        make_polls_hang(service, gate)
        until(lambda: service.show("NRestarts") == "1", "a restart")
        gate.open()
        until(lambda: service.show("ActiveState") == "active", "active again")
    finally:
        machine.run("systemctl", "stop", "late", check=False)
    assert service.pid() != pid


def test_stopped_daemon_is_killed_and_says_where_it_was(service: Service, machine: Machine) -> None:
    """A daemon that is stopped is restarted by the watchdog; the log has each thread's stack."""
    service.drop_in("[Service]\nWatchdogSec=5\nRestartSec=100ms\n")
    service.start()
    cursor, pid = service.cursor(), service.pid()
    machine.run("kill", "-STOP", str(pid))
    until(lambda: service.show("NRestarts") == "1", "a restart")
    until(lambda: service.show("ActiveState") == "active", "active again")
    until(lambda: sees_all(service), "the threads of three users")
    entries = service.journal(cursor)
    assert "Watchdog timeout (limit 5s)!" in messages(entries)
    last_words = messages([e for e in entries if e.sender == "threadwatch" and e.priority == 3])
    assert "Fatal Python error: Aborted" in last_words
    assert 'threadwatch/commands/serve.py"' in last_words
    assert 'threadwatch/web/server.py"' in last_words


def test_slow_poll_that_finishes_is_left_alone(service: Service, machine: Machine) -> None:
    """A poll that takes most of the watchdog's time does not get the daemon killed."""
    gate = Gate(service)
    service.options("--log.level=debug")
    service.drop_in(f"{SEE_TOO_LITTLE}WatchdogSec=30\n")
    service.start()
    pid = service.pid()
    polls = service.value("threadwatch_polls_total") or 0
    try:
        make_polls_hang(service, gate)
        end = time.monotonic() + 16
        until(lambda: time.monotonic() > end, "more than half of the watchdog's time")
        gate.open()
        until(lambda: (service.value("threadwatch_polls_total") or 0) > polls + 2, "polls")
    finally:
        machine.run("systemctl", "stop", "late", check=False)
    assert (service.pid(), service.show("NRestarts")) == (pid, "0")


def _slow_start(service: Service, seconds: float, timeout: str) -> None:
    """Have its first poll take so long, or, with 0, hang in the middle; systemd waits for ``timeout``."""
    command = f"/opt/threadwatch/bin/python /opt/targets/slow_start.py {seconds} serve"
    service.drop_in(
        f"[Service]\nExecStart=\nExecStart={command}\nTimeoutStartSec={timeout}\nWatchdogSec=4\nRestart=no\n"
    )


def test_first_poll_that_gets_on_is_waited_for(service: Service) -> None:
    """On a machine so slow that the first poll takes longer than systemd waits for a start, it comes up."""
    _slow_start(service, 12, "6s")
    service.start()
    times = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    began, active = (int(service.show(time)) for time in times)
    assert active - began > 11_000_000
    assert service.show("Result") == "success"


def test_first_poll_that_hangs_is_ended(service: Service) -> None:
    """One that hangs in the middle is given the watchdog's time once more, and then the start has failed."""
    _slow_start(service, 0, "2s")
    service.do("start", check=False)
    assert (service.show("ActiveState"), service.show("Result")) == ("failed", "timeout")


def _killed(service: Service) -> None:
    """Kill it, as ``kill -9`` and the kernel's OOM killer do."""
    service.machine.run("kill", "-KILL", str(service.pid()))


def _crashed(service: Service) -> None:
    """Crash it, as a fault in a library would."""
    service.machine.run("kill", "-SEGV", str(service.pid()))


@pytest.mark.parametrize(
    ("death", "times"),
    # five times in ten seconds is where systemd gives up by itself
    [pytest.param(_killed, 7, id="killed"), pytest.param(_crashed, 1, id="crashed")],
)
def test_comes_back_and_finds_every_table(
    service: Service, death: Callable[[Service], None], times: int
) -> None:
    """Whatever ends it, systemd starts it again, and every published table is found as before."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.start()
    until(lambda: sees_all(service), "the threads of three users")
    for restarts in range(1, times + 1):
        death(service)
        until(lambda: service.show("NRestarts") == str(restarts), "a restart")  # noqa: B023  # used at once
        until(service.pid, "a new process")
    until(lambda: service.show("ActiveState") == "active", "active again")
    until(lambda: sees_all(service), "the threads of three users")


def test_out_of_memory_is_survived(service: Service, machine: Machine) -> None:
    """Whom the kernel's OOM killer takes while it grows comes back, and watches what was too much."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.start()
    pid = service.pid()
    with memory_limit("1M") as limited:
        limited.add(machine.host_pid(pid))
        machine.start_target("crowd")
        try:
            until(lambda: service.pid() not in {pid, 0}, "a new process")
            assert limited.kills() >= 1
            until(lambda: sees_all(service), "the threads of three users")
            series = 'threadwatch_threads{group="crowd",state="lock",thread="Thread-N (acquire)"}'
            until(lambda: service.value(series) == CROWD, "a thousand threads")
        finally:
            machine.run("systemctl", "stop", "crowd")
    assert service.show("NRestarts") == "1"


def test_stops_cleanly_and_starts_again(service: Service) -> None:
    """A stop ends with status 0, unkilled, systemd is content, and after a start all tables are found."""
    service.start()
    until(lambda: sees_all(service), "the threads of three users")
    cursor = service.cursor()
    service.do("stop")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    entries = service.journal(cursor)
    assert "threadwatch.service: Deactivated successfully." in messages(entries)
    assert [e.priority for e in entries if e.sender == "threadwatch"] == [6, 6]
    service.start()
    until(lambda: sees_all(service), "the threads of three users")


def test_thread_that_nobody_can_end_holds_up_the_stop_for_four_timeouts(
    service: Service, machine: Machine
) -> None:
    """Kept in the kernel by a target's file system, the daemon is given up by systemd, and can be started."""
    service.drop_in("[Service]\nTimeoutStopSec=1\n")
    machine.run("touch", "/srv/trap")
    machine.run(
        *("systemd-run", "--quiet", "--unit=hostile", "--setenv=THREADWATCH=1", "sh", "-c"),
        "sleep 100000 | /opt/threadwatch/bin/python /opt/targets/hostile.py /srv/trap poll",
    )
    cursor = service.cursor()
    try:
        service.start()
        pid = service.pid()
        until(lambda: "reason=timeout" in messages(service.journal(cursor)), "a thread given up")
        began = time.monotonic()
        service.do("stop")
        assert time.monotonic() - began > 3
        assert (service.show("ActiveState"), service.show("Result")) == ("failed", "timeout")
        said = messages([e for e in service.journal(cursor) if e.sender == "threadwatch"])
        assert " msg=stopped" in said
        service.start()
        assert service.pid() != pid
        assert machine.get(f"http://127.0.0.1:{service.port}/-/ready")
    finally:
        machine.run("systemctl", "kill", "--signal=KILL", "hostile")
    until(lambda: not machine.run("ps", "-p", str(pid), "-o", "pid=", check=False), "its end")
    service.do("stop")
    assert service.show("Result") == "success"


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_log_lines_have_their_priority(service: Service, form: str) -> None:
    """Each event is one line with its own priority and without a prefix, whatever its target is called."""
    service.drop_in("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n")
    service.options("--log.level=debug", f"--log.format={form}")
    cursor = service.cursor()
    service.start()
    service.do("stop")
    lines = [entry for entry in service.journal(cursor) if entry.sender == "threadwatch"]
    levels = {7: "debug", 6: "info", 4: "warn", 3: "error"}
    for line in lines:
        level = json.loads(line.message)["level"] if form == "json" else ""
        assert level == levels[line.priority] or f" level={levels[line.priority]} " in line.message
        assert line.message.isprintable()
        assert line.message.startswith("{" if form == "json" else "time=")
    assert {line.priority for line in lines} >= {4, 6}
    for event, priority in {
        "listening": 6,
        "some data could not be read": 4,
        "stopped": 6,
    }.items():
        assert any(event in line.message and line.priority == priority for line in lines), event


def test_two_instances_on_two_ports(service: Service, machine: Machine) -> None:
    """The unit installed as a template runs any number of daemons, each with options of its own."""
    machine.run(
        *("cp", "/etc/systemd/system/threadwatch.service"),
        "/etc/systemd/system/threadwatch@.service",
    )
    instances = [
        Service(machine, f"threadwatch@{name}", port) for name, port in (("a", 9800), ("b", 9801))
    ]
    try:
        service.start()
        for instance in instances:
            instance.options(f"--web.listen-address=127.0.0.1:{instance.port}")
            instance.start()
        for one in (service, *instances):
            until(lambda: sees_all(one), f"the threads at port {one.port}")  # noqa: B023  # used at once
        assert len({one.pid() for one in (service, *instances)}) == 3
    finally:
        for instance in instances:
            instance.reset()
        machine.run("rm", "/etc/systemd/system/threadwatch@.service")


def test_socket_of_systemd(service: Service, machine: Machine) -> None:
    """systemd's socket starts the daemon, which has no network itself; scrapes outlast its restart."""
    service.drop_in((DROP_INS / "no-network.conf").read_text())
    machine.write(
        "/etc/systemd/system/threadwatch.socket.d/more.conf",
        "[Socket]\nListenStream=[::1]:9749\nListenStream=/run/threadwatch.sock\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "threadwatch.socket")
    assert service.show("ActiveState") == "inactive"
    cursor = service.cursor()
    url = "http://127.0.0.1:9749/-/healthy"
    assert "healthy" in machine.get(url, "--max-time", "50")
    assert "healthy" in machine.get("http://[::1]:9749/-/healthy")
    assert "healthy" in machine.get(
        "http://localhost/-/healthy", "--unix-socket", "/run/threadwatch.sock"
    )
    until(lambda: sees_all(service), "the threads of three users")
    said = messages(service.journal(cursor))
    for address in ("127.0.0.1:9749", "[::1]:9749", "unix:/run/threadwatch.sock"):
        assert f"msg=listening address={address} " in said, said
    network = "readlink /proc/{}/ns/net"
    own, others = (machine.run(*network.format(pid).split()) for pid in (service.pid(), 1))
    assert own != others

    service.do("stop")
    service.do("start")
    assert "healthy" in machine.get(url)
    pid = service.pid()
    _killed(service)
    assert "healthy" in machine.get(url, "--max-time", "50")  # it waits in the socket's queue
    assert service.pid() != pid


def test_bad_configuration_is_not_tried_again(service: Service, machine: Machine) -> None:
    """With a configuration that is wrong the unit fails with status 78, says why, and stays down."""
    machine.write("/etc/threadwatch.yml", "nonsense: 1\n")
    service.options("--config.file=/etc/threadwatch.yml")
    cursor = service.cursor()
    service.do("start", check=False)
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    lines = [entry for entry in service.journal(cursor) if entry.sender == "threadwatch"]
    assert [line.priority for line in lines] == [3]
    assert lines[0].message.startswith("threadwatch: /etc/threadwatch.yml:1: nonsense: unknown key")


def test_bad_option_is_not_tried_again(service: Service) -> None:
    """With an option that is not known the unit fails with status 2, and stays down."""
    service.options("--no-such-option")
    cursor = service.cursor()
    service.do("start", check=False)
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("2", "0")
    lines = [entry for entry in service.journal(cursor) if entry.sender == "threadwatch"]
    assert "unrecognized arguments: --no-such-option" in messages(lines)
    assert {line.priority for line in lines} == {3}


def test_port_that_is_taken_is_waited_for(service: Service, machine: Machine) -> None:
    """A daemon that finds its port in use says so, tries again, and serves once it is free."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    cursor = service.cursor()
    machine.run(
        *("systemd-run", "--quiet", "--unit=squatter", "/opt/threadwatch/bin/python", "-m"),
        *("http.server", "--bind=127.0.0.1", "9749"),
    )
    try:
        until(lambda: machine.get("http://127.0.0.1:9749/"), "the other server")
        machine.run("systemctl", "start", "--no-block", service.name)
        until(lambda: int(service.show("NRestarts")) >= 1, "another try")
    finally:
        machine.run("systemctl", "stop", "squatter")
    until(lambda: service.show("ActiveState") == "active", "active")
    assert "cannot listen on 127.0.0.1:9749: the port is in use" in messages(
        service.journal(cursor)
    )
