"""What a bad configuration is answered with: one line each, kept in ``messages.txt`` for reading.

``python -m tests.unit.test_config_errors`` writes the messages anew, after a change that is meant.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from threadwatch.config.parse import load_config, parse_config
from threadwatch.errors import ConfigError

FIXTURES = Path(__file__).parent.parent / "fixtures/config"
BAD = sorted((FIXTURES / "bad").iterdir())
MESSAGES = FIXTURES / "messages.txt"


def message(path: Path) -> str:
    """Return what the file is answered with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(path.read_bytes(), path.name)
    assert caught.value.path == path.name
    return str(caught.value)


def expected() -> dict[str, str]:
    """Return the kept messages by the names of their files."""
    lines = MESSAGES.read_text("utf-8").splitlines()
    return {line.partition(":")[0]: line for line in lines}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_mistake_is_answered_with_its_line(path: Path) -> None:
    """A bad file gives one printable line with file, line, key and what would be right."""
    text = message(path)
    assert text.isprintable()
    assert text == expected()[path.name]


def test_no_message_is_without_its_file() -> None:
    """Every message that is kept belongs to a file that is there."""
    assert sorted(expected()) == [path.name for path in BAD]


def load_error(path: Path) -> str:
    """Return what loading the file is answered with, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said to be so."""
    text = load_error(tmp_path / "none.yml")
    assert text == "is not there: give the path of a YAML file, or leave out --config.file"


def test_a_directory(tmp_path: Path) -> None:
    """A directory is said to be one."""
    assert load_error(tmp_path) == "is a directory: give the path of a YAML file"


def test_a_file_behind_a_file(tmp_path: Path) -> None:
    """An unforeseen error of the system is passed on in its words."""
    (tmp_path / "file").touch()
    assert load_error(tmp_path / "file/inside") == "cannot be read: Not a directory"


def test_a_path_with_a_nul() -> None:
    """A path that no file can have is an error like any other."""
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        load_config("a\0b")


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file that the user may not read says that permission is missing."""
    path = tmp_path / "secret.yml"
    path.write_text("{}")
    path.chmod(0)
    tmp_path.chmod(stat.S_IRWXU | stat.S_IROTH | stat.S_IXOTH)
    if os.geteuid():
        text = load_error(path)
    else:
        text = as_nobody(path)
    assert text == (
        "cannot be read: permission denied: let the user that threadwatch runs as read it"
    )


def as_nobody(path: Path) -> str:
    """Return the same, from a child that is not root: root may read everything."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            # the directory stays reachable for a process that is in it already
            os.chdir(path.parent)
            os.setgid(65534)
            os.setuid(65534)
            text = load_error(Path(path.name))
            os.write(write_end, text.encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def test_a_file_without_end() -> None:
    """No more is read of a file than a configuration may have."""
    assert load_error(Path("/dev/zero")) == "is larger than 1 MiB: is it the right file?"


@pytest.mark.parametrize(
    "text",
    [
        "- a\n" * 260_000,
        "[" * 1_000_000,
        "- " * 500_000,
        "? " * 500_000,
        "a: '" + "x " * 500_000 + "'",
        'a: "' + "x\n " * 300_000 + '"',
        "a: " + "x\n  " * 250_000,
        "%FOO bar\n" * 100_000 + "---\na: 1",
        "\n" * 1_000_000,
        "a: !<" + "x" * 500_000 + "> b",
        "".join(f"key{i}: {{}}\n" for i in range(70_000)),
        "threads: {" + "".join(f"key{i}: 1, " for i in range(10_000)) + "}",
        "p" * 1_000_000 + ": 1",
        "? " + "poll_interva" * 80_000 + "\n: 1",
    ],
    ids=lambda text: text[:6].strip(),
)
def test_reading_is_cheap_whatever_the_file_is(text: str) -> None:
    """A megabyte of anything costs a few seconds at the very most, on a slow machine too."""
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "c.yml")
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 1000


if __name__ == "__main__":
    MESSAGES.write_text("".join(f"{message(path)}\n" for path in BAD), "utf-8")
