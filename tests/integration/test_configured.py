"""What each key of the configuration does, on a real daemon that watches a real application."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.harness import threadwatch, until
from tests.serving import Serving, application, serving
from tests.testbed import CHECKOUT

BUSY = """
def work():
    while True:
        sum(range(1000)); time.sleep(0.01)
for number in range(5):
    threading.Thread(target=work, name=f'busy-{chr(97 + number)}', daemon=True).start()
    threading.Thread(target=work, daemon=True).start()
"""


def configured(directory: Path, text: str) -> str:
    """Return the argument for a configuration with this text; polls often."""
    path = directory / "threadwatch.yml"
    path.write_text(f"poll_interval: 200ms\n{text}")
    return f"--config.file={path}"


def labels(daemon: Serving, metric: str) -> list[dict[str, str]]:
    """Return the label sets that a metric has now."""
    lines = re.findall(rf"^{metric}{{(.*)}} ", daemon.get("/metrics")[1], re.MULTILINE)
    return [dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line)) for line in lines]


def threads_of(daemon: Serving, group: str) -> set[str]:
    """Return the thread labels of a group's CPU."""
    found = labels(daemon, "threadwatch_thread_cpu_seconds_total")
    return {each["thread"] for each in found if each["group"] == group}


def test_group_by_matchers_with_captures(tmp_path: Path) -> None:
    """A group's name is its template over captures and fields; all matchers must match."""
    text = """
unmatched: ignore
groups:
- name: "{what}-of-{user}"
  match: {cmdline: '/(?P<what>sh\\w+)\\.py', comm: python, user: '^root$', exe: python}
- {name: never, match: {cmdline: shop, user: '^nobody$'}}
"""
    with application(), serving(tmp_path, configured(tmp_path, text)) as daemon:
        group = 'threadwatch_group_processes{group="shop-of-root"}'
        until(lambda: daemon.metric(group) == "1.0", "the group")
        assert {each["group"] for each in labels(daemon, "threadwatch_group_processes")} == {
            "shop-of-root"
        }


def test_per_process_and_per_thread(tmp_path: Path) -> None:
    """per: process adds pid, per: thread adds pid and tid, which are the real ones."""
    for per in ("process", "thread"):
        text = f"threads: {{per: {per}}}\n"
        with (
            application(code=BUSY) as target,
            serving(tmp_path, configured(tmp_path, text)) as daemon,
        ):
            until(lambda d=daemon: "busy-e" in threads_of(d, "shop"), "the threads")  # type: ignore[misc]  # a default binds the loop's value
            found = [e for e in labels(daemon, "threadwatch_threads") if e["group"] == "shop"]
            assert {each["pid"] for each in found} == {str(target.pid)}
            tids = {each["tid"] for each in found if "tid" in each}
            real = set(os.listdir(f"/proc/{target.pid}/task")) if per == "thread" else set()
            assert tids == real


def test_name_rules_and_fold(tmp_path: Path) -> None:
    """Rules fold names as they say; without fold the names that Python numbers stay apart."""
    text = """
threads:
  fold: false
  rules: [{match: 'busy-(?P<x>[ab])', name: 'early-{x}'}, {match: 'busy-.*', name: late}]
"""
    with application(code=BUSY) as _, serving(tmp_path, configured(tmp_path, text)) as daemon:
        until(lambda: "late" in threads_of(daemon, "shop"), "the folded names")
        numbered = {f"Thread-{number} (work)" for number in range(1, 6)}
        until(lambda: numbered < threads_of(daemon, "shop"), "the numbered names")
        named = threads_of(daemon, "shop") - numbered
        assert named == {"MainThread", "metrics-flush", "early-a", "early-b", "late"}


def test_cap_bounds_the_names(tmp_path: Path) -> None:
    """Beyond cap names the rest of a group's threads goes to (other), and is counted as dropped."""
    with (
        application(code=BUSY),
        serving(tmp_path, configured(tmp_path, "threads: {cap: 3}\n")) as daemon,
    ):
        until(lambda: "(other)" in threads_of(daemon, "shop"), "(other)")
        assert len(threads_of(daemon, "shop") - {"(other)"}) == 3
        dropped = daemon.metric('threadwatch_series_dropped_total{group="shop"}')
        assert dropped is not None
        assert float(dropped) > 0


def test_costly_sources_are_read_where_asked_for(tmp_path: Path) -> None:
    """collect adds context switches and I/O bytes, which are absent without it."""
    costly = ("threadwatch_thread_context_switches_total", "threadwatch_thread_io_bytes_total")
    writing = "open('/dev/null', 'wb', buffering=0).write(b'x' * 4096)\n"
    with application(code=BUSY + writing):
        with serving(tmp_path, configured(tmp_path, "collect: [context_switches, io]\n")) as daemon:
            until(lambda: "busy-e" in threads_of(daemon, "shop"), "the threads")
            switches = labels(daemon, costly[0])
            assert {each["kind"] for each in switches} == {"voluntary", "involuntary"}
            assert {each["direction"] for each in labels(daemon, costly[1])} == {"read", "write"}
            busy = 'threadwatch_thread_context_switches_total{group="shop",kind="voluntary",thread="busy-a"}'
            until(lambda: float(daemon.metric(busy) or 0) > 10, "it sleeps again and again")
        with serving(tmp_path, configured(tmp_path, "")) as daemon:
            until(lambda: "busy-e" in threads_of(daemon, "shop"), "the threads")
            assert not any(labels(daemon, metric) for metric in costly)


def test_thread_info_where_asked_for(tmp_path: Path) -> None:
    """thread_info joins series to PIDs, TIDs and exact names."""
    with (
        application(code=BUSY) as target,
        serving(tmp_path, configured(tmp_path, "thread_info: true\n")) as daemon,
    ):
        until(lambda: "busy-e" in threads_of(daemon, "shop"), "the threads")
        info = [e for e in labels(daemon, "threadwatch_thread_info") if e["group"] == "shop"]
        assert {each["tid"] for each in info} == set(os.listdir(f"/proc/{target.pid}/task"))
        numbered = {
            each["name"]: each["thread"] for each in info if each["thread"] == "Thread-N (work)"
        }
        assert set(numbered) == {f"Thread-{number} (work)" for number in range(1, 6)}
        (main,) = [each for each in info if each["name"] == "MainThread"]
        assert main["tid"] == main["pid"] == str(target.pid)
        assert main["source"] == "published"


def test_groups_that_are_gone_expire(tmp_path: Path) -> None:
    """A group without processes is shown for expire_after, then not any more."""
    with serving(tmp_path, configured(tmp_path, "expire_after: 1s\n")) as daemon:
        group = 'threadwatch_group_processes{group="shop"}'
        with application():
            until(lambda: daemon.metric(group) == "1.0", "the group")
        until(lambda: daemon.metric(group) == "0.0", "shown once more, empty")
        until(lambda: daemon.metric(group) is None, "gone")


BECOMES_NOBODY = """
def become():
    sys.stdin.readline()
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    print('nobody', flush=True)
    threading.Event().wait(600)
import os
threading.Thread(target=become, name='becomes-nobody', daemon=True).start()
def busy():
    while True:
        time.sleep(0.02)
threading.Thread(target=busy, name='busy', daemon=True).start()
"""


def test_the_user_that_a_service_becomes(tmp_path: Path) -> None:
    """A service that gives up root after it was seen is in the group of the user that it is now."""
    text = """
unmatched: ignore
groups:
- {name: of-nobody, match: {cmdline: 'shop\\.py', user: '^nobody$'}}
- {name: of-root, match: {cmdline: 'shop\\.py', user: '^root$', exe: python}}
"""
    with (
        application(code=BECOMES_NOBODY) as target,
        serving(tmp_path, configured(tmp_path, text)) as daemon,
    ):
        until(
            lambda: daemon.metric('threadwatch_group_processes{group="of-root"}') == "1.0", "root"
        )
        assert target.stdin is not None
        assert target.stdout is not None
        target.stdin.write("\n")
        target.stdin.flush()
        assert target.stdout.readline() == "nobody\n"
        until(
            lambda: daemon.metric('threadwatch_group_processes{group="of-nobody"}') == "1.0",
            "nobody",
        )
        assert "busy" in threads_of(daemon, "of-nobody")
        until(lambda: daemon.get("/api/v1/view")[0] == 200, "a view")
        view = json.loads(daemon.get("/api/v1/view")[1])
        (process,) = (one for one in view["processes"] if one["pid"] == target.pid)
        assert (process["uid"], process["group"]) == (65534, "of-nobody")


ANOTHERS_TABLE = """
import os
for fd in os.listdir('/proc/self/fd'):
    try:
        if os.readlink('/proc/self/fd/' + fd).startswith('/memfd:threadwatch'):
            os.fchown(int(fd), 4711, -1)
    except OSError:
        pass
"""


def test_the_process_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Log line and doctor say which process it is whose table they do not believe, and why."""
    why = "belongs to uid 4711, not 0"
    with application(code=ANOTHERS_TABLE) as target:
        with serving(tmp_path) as daemon:
            until(lambda: why in daemon.text(), "the line")
            (line,) = (line for line in daemon.text().splitlines() if why in line)
            assert f" source=table reason=malformed pid={target.pid} " in line
        command = threadwatch("doctor", str(target.pid))
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        assert f"PID {target.pid} (shop): not everything can be read: table: malformed: {why}." in (
            " ".join(said.stdout.split())
        )
