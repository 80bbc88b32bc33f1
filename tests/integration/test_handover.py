"""Tables that processes hand over to a daemon without any capability, which cannot look into them.

The daemon is a real one, of a user of its own. The targets belong to others. So each name that it shows has
come through its socket.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import testbed
from tests.integration import comparison
from tests.integration.comparison import Shown
from tests.integration.conftest import Fleet
from tests.integration.rights import as_nobody, as_root, in_user_namespace
from tests.serving import Serving, serving, until
from tests.testbed import Interpreter

USER = 4001
"""The daemon's."""
POWERLESS = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
)


class Receiving:
    """A daemon without capabilities, at whose socket tables are handed over."""

    def __init__(self, directory: Path, daemon: Serving) -> None:
        self.socket = directory / "publish.socket"
        self.environment = {"THREADWATCH_SOCKET": str(self.socket)}
        self.daemon = daemon

    def count(self, result: str) -> int:
        """Return how many tables have had this result."""
        name = f'threadwatch_tables_handed_over_total{{result="{result}"}}'
        return int(float(self.daemon.metric(name) or 0))

    def shown(self, pids: list[int]) -> dict[int, dict[int, Shown]]:
        """Return what the daemon's last poll shows of these processes."""
        found: dict[int, dict[int, Shown]] = {}
        status, body = self.daemon.get("/api/v1/view")
        for process in json.loads(body)["processes"] if status == 200 else ():
            if process["pid"] in pids:
                found[process["pid"]] = {
                    t["tid"]: Shown(*(t[key] for key in Shown.__slots__))
                    for t in process["threads"]
                }
        return found

    def names(self, pid: int) -> dict[str, str]:
        """Return the names of a process's threads, with their sources."""
        return {t.name: t.source for t in self.shown([pid]).get(pid, {}).values()}


@contextmanager
def place() -> Iterator[Path]:
    """Give a directory that all users can see, and the daemon's can change."""
    directory = Path(tempfile.mkdtemp(prefix="handover-"))
    os.chmod(directory, 0o755)  # noqa: S103  # who connects has to find the socket
    os.chown(directory, USER, USER)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def receiving(directory: Path) -> Iterator[Receiving]:
    """Run a daemon that has its socket in this directory."""
    config = directory / "config.yml"
    config.write_text(
        f"poll_interval: 100ms\nexpire_after: 1s\npublish_socket: {directory}/publish.socket\n"
        "groups: [{name: by exec, match: {comm: ^(cat|sleep)$}}]\n"
    )
    with serving(directory, f"--config.file={config}", prefix=POWERLESS) as daemon:
        yield Receiving(directory, daemon)


@pytest.fixture
def receiver() -> Iterator[Receiving]:
    """Give a daemon that receives tables."""
    with place() as directory, receiving(directory) as found:
        yield found


@pytest.mark.parametrize(
    ("program", "where"),
    [
        (("lifecycle.py",), as_nobody),
        (("forks.py",), as_nobody),
        (("exec.py",), as_nobody),
        (("users.py", "worker"), as_root),
        (("users.py", "worker"), in_user_namespace),
    ],
    ids=lambda value: value.__name__ if callable(value) else "-".join(value),
)
def test_names_of_all_users(
    program: tuple[str, ...],
    where: Callable[[Interpreter], Interpreter],
    receiver: Receiving,
    fleet: Fleet,
) -> None:
    """Names are right at each step: births, ends, renames, forks, exec, another user, subinterpreters."""
    comparison.drive(
        (
            fleet.start(where(interpreter), *program, environment=receiver.environment)
            for interpreter in testbed.interpreters()
        ),
        eyes=receiver.shown,
    )
    until(lambda: receiver.count("believed") >= len(testbed.interpreters()), "they are counted")
