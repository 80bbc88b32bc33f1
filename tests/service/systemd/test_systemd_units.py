"""systemd's units as files: judged by systemd-analyze, this machine's and the testbed's newer one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import DEADLINE
from tests.service.systemd.machine import DROP_INS, UNITS
from tests.testbed import TREE

EXPOSURE = 2.1
"""What ``systemd-analyze security`` may say at most, of 10. Debian's exporters score 9.2."""

HERE: Sequence[str] = ()
"""Debian 12 has systemd 252."""
TESTBED: Sequence[str] = ("chroot", str(TREE))

UNIT = UNITS / "threadwatch.service"
USER_UNIT = UNITS / "user/threadwatch.service"


def _analyze(systemd: Sequence[str], *arguments: str) -> str:
    done = subprocess.run(
        [*systemd, "env", "XDG_RUNTIME_DIR=/tmp", "systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _install(directory: Path, unit: Path, *drop_ins: Path, name: str = "") -> Path:
    """Return a copy of the unit with drop-ins, whose program is there."""
    program = directory / "threadwatch"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = directory / (name or unit.name)
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", unit.read_text(), flags=re.MULTILINE)
    copy.write_text(text)
    for drop_in in drop_ins:
        beside = directory / f"{copy.name}.d"
        beside.mkdir(exist_ok=True)
        (beside / drop_in.name).write_text(
            drop_in.read_text().replace("=shop", "=www-data").replace("=proc", "=www-data")
        )
    return copy


@pytest.mark.parametrize("systemd", [HERE, TESTBED], ids=["here", "testbed"])
@pytest.mark.parametrize(
    ("name", "drop_ins"),
    [
        ("threadwatch.service", []),
        ("threadwatch@shop.service", []),
        ("threadwatch.service", ["no-capabilities"]),
        ("threadwatch.service", ["own-user"]),
        ("threadwatch.service", ["own-user", "hidepid"]),
        ("threadwatch.service", ["no-network"]),
        ("threadwatch.service", ["stacks"]),
    ],
)
def test_unit_is_accepted_without_a_word(
    systemd: Sequence[str], name: str, drop_ins: list[str], tmp_path: Path
) -> None:
    """systemd-analyze verify has nothing to say about the unit and its drop-ins, on both systemds."""
    shown = _install(tmp_path, UNIT, *(DROP_INS / f"{one}.conf" for one in drop_ins), name=name)
    if drop_ins == ["no-network"]:
        socket = tmp_path / "threadwatch.socket"
        socket.write_text((UNITS / socket.name).read_text())
        assert _analyze(systemd, "verify", str(socket)) == ""
    assert _analyze(systemd, "verify", str(shown)) == ""


@pytest.mark.parametrize("systemd", [HERE, TESTBED], ids=["here", "testbed"])
def test_user_unit_is_accepted_without_a_word(systemd: Sequence[str], tmp_path: Path) -> None:
    """systemd-analyze verify has nothing to say about the unit for a user's own service manager."""
    assert _analyze(systemd, "--user", "verify", str(_install(tmp_path, USER_UNIT))) == ""


def test_notify_reload_is_for_newer_systemds(tmp_path: Path) -> None:
    """The drop-in with Type=notify-reload is accepted where it is meant for: 253 and later."""
    shown = _install(tmp_path, UNIT, DROP_INS / "notify-reload.conf")
    assert _analyze(TESTBED, "verify", str(shown)) == ""


@pytest.mark.parametrize("systemd", [HERE, TESTBED], ids=["here", "testbed"])
def test_unit_is_hardly_exposed(systemd: Sequence[str], tmp_path: Path) -> None:
    """systemd-analyze security gives the unit no more exposure than its two capabilities cost."""
    unit = _install(tmp_path, UNIT)
    report = _analyze(systemd, "security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for threadwatch.service: ([0-9.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE


def test_every_drop_in_is_told_of() -> None:
    """docs/systemd.md names each drop-in that there is."""
    text = (UNITS.parent / "docs/systemd.md").read_text()
    assert [path.name for path in DROP_INS.iterdir() if path.name not in text] == []
