"""What docs/systemd.md tells root to type, typed in a booted systemd, from its first line to its last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import until
from tests.service.systemd.machine import SOURCE, Machine, Service
from tests.service.systemd.steps import steps

URL = "http://127.0.0.1:9749/-/ready"


STEPS = steps()


@pytest.fixture
def bare(service: Service, machine: Machine) -> Iterator[Service]:
    """Yield a machine with the package installed, and no unit of it; in the end it is as it was."""
    units = ("threadwatch.service", "threadwatch.socket")
    machine.run("sh", "-c", f"cd /etc/systemd/system && rm {' '.join(units)}")
    machine.run("systemctl", "daemon-reload")
    yield service
    everything = (*units, "threadwatch@shop.service")
    machine.run("systemctl", "disable", "--now", *everything, check=False)
    machine.run(
        "rm", "-f", "/etc/systemd/system/threadwatch@.service", "/etc/default/threadwatch@shop"
    )
    for unit in units:
        machine.run("install", "-m", "644", f"{SOURCE}/systemd/{unit}", "/etc/systemd/system/")
    service.reset()


def test_documented_steps_lead_where_they_say(bare: Service, machine: Machine) -> None:
    """Installed, upgraded, several of them, with a socket: each works where the one before has led."""

    def take(heading: str) -> None:
        for command in STEPS.pop(heading):
            if "venv" in command or "pip" in command:
                continue  # there is no network, and this is what the machine has
            machine.run("sh", "-c", f"cd {SOURCE} && {command}")

    take("Install it, in a minute")
    assert "ready" in machine.get(URL)
    first = bare.pid()

    machine.write("/etc/threadwatch.yml", "poll_interval: 500ms\n")
    take("To upgrade")
    assert "ready" in machine.get(URL)
    assert bare.pid() != first

    take("Several of them")
    assert "ready" in machine.get(URL.replace("9749", "9750"))

    take("Socket activation")
    assert bare.show("ActiveState") == "active"
    assert bare.show("NRestarts") == "0"
    for unit in ("threadwatch.socket", "threadwatch.service"):
        assert machine.run("systemctl", "is-enabled", unit) == "enabled"
        assert machine.run("systemctl", "is-active", unit) == "active"
    assert "ready" in machine.get(URL)
    own, others = (machine.run("readlink", f"/proc/{pid}/ns/net") for pid in (bare.pid(), 1))
    assert own != others
    machine.run("systemctl", "restart", "--no-block", "threadwatch")
    until(lambda: "ready" in machine.get(URL, "--max-time", "50"), "a scrape through a restart")
    assert STEPS == {}, "steps that are not tried"
