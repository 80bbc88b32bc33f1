"""One boot of systemd for all tests that need it; it ends with the last of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.service.systemd.machine import Machine, Service, booted, environment

_running = contextlib.ExitStack()


@pytest.fixture(scope="session")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return the booted machine, with the wheel installed and targets of three users."""
    opt = environment(tmp_path_factory.mktemp("opt") / "threadwatch", wheel)
    return _running.enter_context(booted(tmp_path_factory.mktemp("machine"), opt))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Shut the machine down behind the last test of this directory: other tests would see its processes.

    A fixture's scope cannot say that: a directory is no package.
    """
    if nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent):
        _running.close()


@pytest.fixture
def service(machine: Machine) -> Service:
    """Return the unit as it is shipped, stopped, with nothing configured."""
    service = Service(machine)
    service.reset()
    return service
