"""Programs that write a title over their arguments, by the real setproctitle: what they are called."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import harness, programs
from tests.harness import until
from tests.serving import Serving, serving
from tests.testbed import CHECKOUT, Interpreter, require

SETPROCTITLE = "setproctitle==1.3.8"
GROUPS = {
    **dict.fromkeys(("asked", "appended", "salt", "state", "brackets"), "titles"),
    **dict.fromkeys(("path", "bracketed"), "ubshop"),
    **dict.fromkeys(("relative", "script"), "ubapp"),
    **dict.fromkeys(("uuid", "numbered", "counted"), "ubjob"),
    **dict.fromkeys(("empty", "blanks"), "python"),
    **{kind: kind for kind in ("rq", "ray", "dask", "airflow")},
    "celery": "orders",
    "circus": "circusd",
    "gunicorn": "shop",
    "postgres": "ubpostgres",
    "url": "https",
    "long": "x" * 100,
}
SECRETS = ("--token=SECRET1", "--db", "postgres://me:SECRET2@db/shop", "--password", "SECRET3")


@contextmanager
def _titles(interpreter: Interpreter) -> Iterator[subprocess.Popen[str]]:
    """Yield the program with its first titles, started by its interpreter's path as console scripts are."""
    environment = programs.environment(interpreter, SETPROCTITLE)
    command = [*programs.python(interpreter, environment), str(harness.TARGETS / "titles.py")]
    with subprocess.Popen(
        [*harness.threadwatch("run", "--"), *command, *SECRETS],
        cwd=CHECKOUT,
        env=harness.environ("run", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    found: dict[str, int] = json.loads(process.stdout.readline())
    return found


def _next(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _await_poll(daemon: Serving) -> None:
    before = daemon.metric("threadwatch_polls_total")
    until(lambda: daemon.metric("threadwatch_polls_total") != before, "a poll")


def _view(daemon: Serving) -> dict[str, Any]:
    """Return the view; empty: there is none yet."""
    status, text = daemon.get("/api/v1/view")
    view: dict[str, Any] = json.loads(text) if status == 200 else {}
    return view


def _ps(*arguments: str) -> str:
    return harness.run("ps", "--interval=0", *arguments, check=True).stdout


def test_a_process_is_called_after_its_application_whatever_its_title(
    interpreter: Interpreter,
) -> None:
    """Each kind of title gives the application's name, also while the title changes, and no secret."""
    with _titles(interpreter) as process:
        kinds = _said(process)
        for last in (False, True):
            text = _ps("--json", str(process.pid))
            groups = {entry["pid"]: entry["group"] for entry in json.loads(text)}
            assert {kind: groups.get(pid) for kind, pid in kinds.items()} == GROUPS
            assert groups[process.pid] == "titles"
            assert "SECRET" not in text
            if not last:
                _next(process)
                _said(process)
        assert "SECRET" not in _ps(str(process.pid))


def test_a_title_that_changes_makes_no_more_groups(tmp_path: Path) -> None:
    """A daemon that watches for many titles has one group for each application, and tells no secret."""
    with _titles(require(3, 12)) as process, serving(tmp_path) as daemon:
        pids = {process.pid, *_said(process).values()}
        wanted = set(GROUPS.values())

        def groups() -> set[str]:
            """Return the groups of these processes; others may run on this machine."""
            # 503 until the poll after the first question of late
            shown = until(lambda: _view(daemon), "a view")["processes"]
            return {entry["group"] for entry in shown if entry["pid"] in pids}

        until(lambda: wanted <= groups(), "a group for each kind")
        for _ in range(4):
            _next(process)
            _said(process)
            _await_poll(daemon)
            assert groups() == wanted
        metrics, view = daemon.get("/metrics")[1], until(lambda: _view(daemon), "a view")
        assert "SECRET" not in metrics + json.dumps(view)
        assert wanted <= set(re.findall('group="([^"]*)"', metrics))
