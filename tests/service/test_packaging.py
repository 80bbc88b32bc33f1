"""The wheel, installed for real into a fresh environment of every supported CPython."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests import testbed
from tests.harness import DEADLINE
from tests.testbed import Interpreter
from threadwatch.shipped import shipped

# What an application sees: which of our modules and whether threading have been imported by the
# time that its first line runs, and the memfds that the process has.
_LOOK = """
import json, os, sys
links = []
for fd in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink("/proc/self/fd/" + fd))
    except OSError:
        pass
print(json.dumps({
    "ours": sorted(m for m in sys.modules if m.split(".")[0] == "threadwatch"),
    "threading": "threading" in sys.modules,
    "memfds": [link for link in links if link.startswith("/memfd:threadwatch")],
}))
"""


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it."""

    interpreter: Interpreter
    directory: Path

    @property
    def site_packages(self) -> Path:
        """Return where the package is."""
        return self.directory / "lib" / f"python{self.interpreter}" / "site-packages"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what a program of the environment is started by: chroot, or nothing."""
        return self.interpreter.command[:-1]

    def run(
        self, *arguments: str, program: str = "python", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, with those environment variables and no others of ours."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("THREADWATCH", "PYTHON"))
        }
        return subprocess.run(
            [*self.prefix, str(self.directory / "bin" / program), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment | variables,
        )


def _pip(interpreter: Interpreter) -> str:
    """Return the pip that comes with an interpreter, as a wheel, which Python can run as it is."""
    where = subprocess.run(
        [*interpreter.command, "-c", "import os, sysconfig; print(sysconfig.get_path('stdlib'))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()
    for directory in (Path(where, "ensurepip/_bundled"), Path("/usr/share/python-wheels")):
        inside = interpreter.root / directory.relative_to("/")
        for found in sorted(inside.glob("pip-*.whl")):
            return f"{directory / found.name}/pip"
    raise testbed.TestbedError(f"CPython {interpreter} has no pip of its own")


@pytest.fixture(scope="module")
def environments(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], Installed]:
    """Return the wheel in a fresh environment of each interpreter; they are made side by side."""
    interpreters = testbed.interpreters()
    directories = [tmp_path_factory.mktemp("venv") / f"python{i}" for i in interpreters]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(_install, [wheel] * len(interpreters), interpreters, directories)
        return {installed.interpreter.version: installed for installed in made}


def _install(wheel: Path, interpreter: Interpreter, directory: Path) -> Installed:
    for command in (
        (*interpreter.command, "-m", "venv", "--without-pip", str(directory)),
        (
            *(*interpreter.command[:-1], str(directory / "bin/python"), _pip(interpreter)),
            *("install", "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)),
        ),
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=5 * DEADLINE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return Installed(interpreter, directory)


@pytest.fixture
def installed(
    interpreter: Interpreter, environments: dict[tuple[int, int], Installed]
) -> Installed:
    """Return the environment of each interpreter in turn."""
    return environments[interpreter.version]


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_wheel_holds_the_package_and_its_start_up_file_only(wheel: Path) -> None:
    """The wheel has the package, one .pth file at its root, manual pages, completions, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.split("/")[0] for name in names}
    version = _metadata(wheel)["Version"]
    assert roots == {
        "threadwatch",
        "prometheus-threadwatch.pth",
        f"prometheus_threadwatch-{version}.dist-info",
        f"prometheus_threadwatch-{version}.data",
    }
    # beside the package: manual pages and completions. No settings, so no upgrade can overwrite any
    data = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    share = testbed.CHECKOUT / "packaging/share"
    assert data == {
        str(path.relative_to(share.parent)) for path in share.rglob("*") if path.is_file()
    }
    package = {n for n in names if n.startswith("threadwatch/")}
    checkout = testbed.CHECKOUT / "threadwatch"
    along = {f"threadwatch/shipped/{name}": path for name, path in shipped().items()}
    assert package == along.keys() | {
        str(path.relative_to(testbed.CHECKOUT))
        for path in checkout.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert all(archive.read(name) == path.read_bytes() for name, path in along.items())


def test_installed_files_are_found(environments: dict[tuple[int, int], Installed]) -> None:
    """Where the wheel is installed, without its dependencies, all files that come along are listed."""
    done = environments[3, 12].run("files", program="threadwatch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*shipped()]


def test_base_install_depends_on_nothing(wheel: Path) -> None:
    """Without an extra the package requires no other, and the daemon's needs ask for Python 3.11."""
    metadata = _metadata(wheel)
    assert metadata["Name"] == "prometheus-threadwatch"
    assert metadata["Requires-Python"] == ">=3.9"
    requirements = metadata.get_all("Requires-Dist") or []
    assert requirements, "the daemon extra has gone"
    for requirement in requirements:
        _, _, marker = requirement.partition(";")
        assert "extra ==" in marker, requirement
        assert "python_version >= '3.11'" in marker, requirement


def test_start_up_file_is_one_line_that_tests_the_variable_first() -> None:
    """The .pth file is a single line that names nothing of ours before it has tested THREADWATCH."""
    (line,) = (testbed.CHECKOUT / "packaging/prometheus-threadwatch.pth").read_text().splitlines()
    assert line.startswith("import os; os.environ.get("), (
        "site.py takes other lines for directories"
    )
    before, _, _ = line.partition(" and exec(")
    assert '"THREADWATCH"' in before
    assert "threadwatch" not in before


@pytest.mark.parametrize("value", ["1", "yes"])
def test_switched_on_by_the_environment(installed: Installed, value: str) -> None:
    """With THREADWATCH set the process publishes before the application's first line, silently."""
    done = installed.run("-c", _LOOK, THREADWATCH=value)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert "threadwatch.publisher.publisher" in seen["ours"]
    assert len(seen["memfds"]) == 1
    assert not seen["threading"], (
        "threading must stay unimported until gevent has had its chance to patch it"
    )


@pytest.mark.parametrize("variables", [{}, {"THREADWATCH": ""}, {"THREADWATCH": "0"}], ids=str)
def test_does_nothing_unless_switched_on(installed: Installed, variables: dict[str, str]) -> None:
    """Without THREADWATCH, or with it empty or 0, nothing of ours is imported and nothing is said."""
    done = installed.run("-c", _LOOK, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"ours": [], "threading": False, "memfds": []}


@pytest.mark.parametrize(
    "lost", ["", "publisher/publisher.py", "publisher/autostart.py", "publisher", "__init__.py"]
)
def test_half_removed_package_is_silent(installed: Installed, lost: str, tmp_path: Path) -> None:
    """A start-up file whose package is gone, or lacks a part, says nothing and stops nothing."""
    package = installed.site_packages / "threadwatch"
    away = tmp_path / "away"
    shutil.move(package / lost, away)
    try:
        done = installed.run("-c", "print('up')", THREADWATCH="1")
    finally:
        shutil.move(away, package / lost)
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")


def test_command_says_its_version(installed: Installed, wheel: Path) -> None:
    """The installed command runs on every CPython, and says the version of the wheel."""
    done = installed.run("--version", program="threadwatch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[-1] == _metadata(wheel)["Version"]


def test_extras_are_what_the_checkout_says(wheel: Path) -> None:
    """The wheel offers the extras of pyproject.toml, no more and no fewer."""
    project = tomllib.loads((testbed.CHECKOUT / "pyproject.toml").read_text())["project"]
    assert _metadata(wheel).get_all("Provides-Extra") == sorted(project["optional-dependencies"])


def test_pipx_installs_it_with_its_manual(wheel: Path, tmp_path: Path) -> None:
    """pipx installs the daemon from the wheel: the command runs, and man finds its page."""
    environment = os.environ | {
        "PIPX_HOME": str(tmp_path / "home"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipx", "install", "--quiet", f"{wheel}[daemon]"],
        capture_output=True,
        text=True,
        timeout=5 * DEADLINE,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    command = str(tmp_path / "bin/threadwatch")
    settings = tmp_path / "threadwatch.yml"
    settings.write_text("poll_interval: 2s\n")
    for arguments in (["--version"], ["check-config", str(settings)]):
        done = subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert (done.returncode, done.stderr) == (0, "")
    found = subprocess.run(
        ["man", "--path", "threadwatch"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment | {"MANPATH": str(tmp_path / "man")},
    )
    page = tmp_path / "man/man1/threadwatch.1"
    assert found.stdout.strip() in (str(page), str(page.resolve()))
