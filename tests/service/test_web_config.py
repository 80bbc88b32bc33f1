"""Web configurations, good and bad ones, in the eyes of promtool and in ours.

The files are in ``tests/fixtures/web``: ``good`` and ``bad`` are so to both, ``stricter`` to promtool
alone are good. What ours are answered with is kept in ``messages.txt``, for reading;
``python -m tests.service.test_web_config`` writes it anew, after a change that is meant.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import certificates
from tests.harness import threadwatch
from tests.testbed import CHECKOUT, TREE
from threadwatch.errors import ConfigError
from threadwatch.web.auth.access import load_rules

FIXTURES = CHECKOUT / "tests/fixtures/web"
MESSAGES = FIXTURES / "messages.txt"
GOOD, BAD, STRICTER = (sorted((FIXTURES / kind).iterdir()) for kind in ("good", "bad", "stricter"))

PROMTOOLS = {
    "2.42": ("promtool",),
    "3": ("chroot", str(TREE), "/usr/bin/promtool"),
}
TOO_NEW = {
    "2.42": {
        "good/inline.yml", "good/inline-key.yml", "good/inline-client-ca.yml", "good/client-sans.yml",
        "stricter/cert-twice.yml", "stricter/client-sans-unused.yml",
        "stricter/client-sans-if-given.yml", "stricter/client-sans-none.yml", "stricter/rate-limit.yml",
    },
    "3": set[str](),
}  # fmt: skip
"""Files with keys that this version does not know yet."""
TOO_OLD = {"2.42": {"bad/cipher-rsa.yml"}, "3": set[str]()}
"""Files with words that later versions know no more."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return all files, beside the certificates that they name."""
    return prepare(tmp_path_factory.mktemp("web"))


def prepare(directory: Path) -> Path:
    """Return all files, beside the certificates that they name."""
    for paths in (GOOD, BAD, STRICTER):
        kind = directory / paths[0].parent.name
        kind.mkdir()
        certificates.write_all(kind)
        for path in paths:
            (kind / path.name).write_bytes(certificates.fill_in(path.read_bytes(), kind))
    return directory


def message(directory: Path, path: Path) -> str:
    """Return what we answer to a bad file."""
    with pytest.raises(ConfigError) as caught:
        load_rules(str(directory / path.parent.name / path.name))
    return str(caught.value).replace(f"{directory}/", "")


@pytest.mark.parametrize("version", PROMTOOLS)
def test_promtool_agrees(directory: Path, version: str) -> None:
    """Each promtool finds every file as good or bad as its directory says, or is too old for it."""
    names = [f"{path.parent.name}/{path.name}" for path in (*GOOD, *BAD, *STRICTER)]
    done = subprocess.run(
        [*PROMTOOLS[version], "check", "web-config", *(str(directory / name) for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = re.findall(r"^(\S+\.yml) (SUCCESS|FAILED)", done.stdout + done.stderr, re.MULTILINE)
    found = {path.removeprefix(f"{directory}/"): word == "SUCCESS" for path, word in said}
    assert sorted(found) == sorted(names)
    expected = {name: not name.startswith("bad/") for name in names}
    expected |= dict.fromkeys(TOO_NEW[version], False) | dict.fromkeys(TOO_OLD[version], True)
    assert {name: found[name] for name in names} == expected


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_file_is_good(directory: Path, path: Path) -> None:
    """A file that promtool calls good can be used."""
    load_rules(str(directory / "good" / path.name))


@pytest.mark.parametrize(
    "path", [*BAD, *STRICTER], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_each_mistake_is_answered_with_its_line(directory: Path, path: Path) -> None:
    """A bad file gives one printable line with file, line, key and what would be right."""
    text = message(directory, path)
    assert text.isprintable()
    expected = {line.partition(".yml")[0]: line for line in MESSAGES.read_text().splitlines()}
    assert text == expected[f"{path.parent.name}/{path.stem}"]


def test_no_message_is_without_its_file() -> None:
    """Every message that is kept belongs to a file that is there."""
    kept = [line.partition(".yml")[0] for line in MESSAGES.read_text().splitlines()]
    assert kept == [f"{path.parent.name}/{path.stem}" for path in (*BAD, *STRICTER)]


def test_the_command(directory: Path) -> None:
    """check-web-config says for each file that it is good, or why not, and ends with 78 if one is not."""
    names = (
        "good/users-and-tls.yml",
        "good/tls-expired.yml",
        "bad/mismatch.yml",
        "good/braces.yml",
    )
    done = subprocess.run(
        threadwatch("check-web-config", *names),
        cwd=directory,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stdout.splitlines() == [
        "good/users-and-tls.yml: ok, TLS with a certificate valid until Jan  1 00:00:00 3000 GMT and 1 user",
        "good/tls-expired.yml: ok, TLS and no users",
        "good/braces.yml: ok, no TLS and no users",
    ]
    assert done.stderr.splitlines() == [
        "good/tls-expired.yml: clients will refuse good/expired.pem: certificate has expired",
        f"threadwatch: {message(directory, FIXTURES / 'bad/mismatch.yml')}",
    ]


def test_a_key_that_may_not_be_read_is_told(directory: Path) -> None:
    """An unreadable key is one line that names it, and says what to do."""
    key = directory / "good/key.pem"
    key.chmod(0)  # which keeps its owner out too, without capabilities
    powerless = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    done = subprocess.run(
        [*powerless, *threadwatch("check-web-config", str(directory / "good/tls.yml"))],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr == (
        f"threadwatch: {directory}/good/tls.yml:3: tls_server_config.key_file: {key} cannot be read:"
        " permission denied: let the user that threadwatch runs as read it\n"
    )


def _write_messages() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = prepare(Path(name))
        MESSAGES.write_text("".join(f"{message(directory, path)}\n" for path in (*BAD, *STRICTER)))


if __name__ == "__main__":
    _write_messages()
