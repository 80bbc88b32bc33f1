"""One boot of systemd for all tests that need it; it ends with the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.systemd.machine import Machine, Service, booted, environment


@pytest.fixture(scope="package")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The booted machine, with the wheel installed and targets of three users."""
    opt = environment(tmp_path_factory.mktemp("opt") / "threadwatch", wheel)
    with booted(tmp_path_factory.mktemp("machine"), opt) as running:
        yield running


@pytest.fixture
def service(machine: Machine) -> Service:
    """The unit as it is shipped, stopped, with nothing configured."""
    service = Service(machine)
    service.reset()
    return service
