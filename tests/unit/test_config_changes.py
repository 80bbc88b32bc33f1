"""When a configuration's file counts as changed."""

from __future__ import annotations

from pathlib import Path

from threadwatch.config.changes import Changes


def test_a_file_is_read_when_it_stands_still(tmp_path: Path) -> None:
    """A file that was written between two looks is left alone until a look finds it as it was."""
    path = tmp_path / "file"
    path.write_text("a")
    changes = Changes(str(path))
    assert not changes.settled()
    path.write_text("ab")
    assert not changes.settled()
    path.write_text("abc")
    assert not changes.settled()
    assert changes.settled()
    changes.reading()
    assert not changes.settled()


def test_a_write_behind_the_reading_is_a_change(tmp_path: Path) -> None:
    """What is written after the reading has begun is seen, though the look at it is the first one."""
    path = tmp_path / "file"
    path.write_text("a")
    changes = Changes(str(path))
    changes.reading()
    path.write_text("ab")
    assert [changes.settled() for _ in range(2)] == [False, True]


def test_a_file_that_goes_and_comes_is_a_change(tmp_path: Path) -> None:
    """A file that is gone differs from one that was read, and so does its successor."""
    path = tmp_path / "file"
    path.write_text("a")
    changes = Changes(str(path))
    path.unlink()
    assert [changes.settled() for _ in range(2)] == [False, True]
    changes.reading()
    path.write_text("a")
    assert [changes.settled() for _ in range(2)] == [False, True]
    assert not Changes("\0").settled()
