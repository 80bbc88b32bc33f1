"""Set-up for all tests: the testbed is entered before anything else runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run, no deadline and no check of how fast they are made: the machine may be busy.
settings.load_profile("ci")
settings.register_profile("search", settings.get_profile("ci"), derandomize=False)

_HERE = Path(__file__).parent
# So that what is checked outside of test modules says as well what it has found.
pytest.register_assert_rewrite(
    *(
        f"tests.{path.stem}"
        for path in _HERE.glob("*.py")
        if path.stem not in ("__init__", "conftest")
    )
)

from tests import testbed  # noqa: E402  # what is imported before is not rewritten
from tests.deadline import Deadline  # noqa: E402  # the same
from tests.harness import DEADLINE  # noqa: E402  # the same


def pytest_configure(config: pytest.Config) -> None:
    """Enter the testbed first of all: a mount namespace is taken on before there are threads."""
    try:
        testbed.enter()
    except testbed.TestbedError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Deadline(), "deadline")


def pytest_report_header() -> str:
    """Say which interpreters the tests run on."""
    return testbed.matrix()


@pytest.fixture(params=testbed.MATRIX, ids=lambda version: f"{version[0]}.{version[1]}")
def interpreter(request: pytest.FixtureRequest) -> testbed.Interpreter:
    """Return each supported CPython in turn; fail, not skip, where one is missing."""
    return testbed.require(*request.param)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel as it would be released, built from this checkout by way of its sdist."""
    out = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out))
    done = subprocess.run(
        [*command, str(testbed.CHECKOUT)],
        capture_output=True,
        text=True,
        timeout=5 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built
