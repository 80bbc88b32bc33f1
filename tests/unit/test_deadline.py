"""The deadline that ends tests which hang (:mod:`tests.deadline`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.testbed import CHECKOUT

CONFTEST = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from tests.deadline import Deadline
def pytest_configure(config):
    config.pluginmanager.register(Deadline(0.5, 60))
"""
TESTS = """
import subprocess, threading
def test_that_waits():
    subprocess.run(["sleep", "1000"], check=True)
def test_that_does_not_mind():
    subprocess.run(["sleep", "1000"])
"""
LAST = """
import threading
def test_that_never_ends():
    threading.Event().wait()
"""


def _run(directory: Path, conftest: str, tests: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(conftest)
    (directory / "test_hangs.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_test_that_hangs_fails_and_says_where(tmp_path: Path) -> None:
    """A test whose program hangs fails with the place where it waited, and the next test runs."""
    done = _run(tmp_path, CONFTEST, TESTS)
    assert "2 failed" in done.stdout
    assert done.stdout.count("its programs were ended") >= 2
    assert "in test_that_waits" in done.stdout
    assert done.returncode == 1


def test_a_test_that_hangs_by_itself_ends_the_run(tmp_path: Path) -> None:
    """A test that goes on without its programs ends the whole run, and says where it was."""
    done = _run(tmp_path, CONFTEST.replace("60", "0.5"), LAST)
    assert "in test_that_never_ends" in done.stderr
    assert done.returncode == 1
