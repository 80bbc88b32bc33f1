"""Log lines: one event a line, whatever it contains; with their priority where they go to the journal."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

HOSTILE = "a\nlevel=error\x1b[2J<0>\x9b1m\u202e\r\udcff 'x' \"y\"=\\"

_PROGRAM = """
import logging, os, sys
from threadwatch.commands import log
error = os.fstat(2)
if sys.argv[2] == "journal":
    os.environ["JOURNAL_STREAM"] = f"{error.st_dev}:{error.st_ino}"
elif sys.argv[2] == "another":
    os.environ["JOURNAL_STREAM"] = f"{error.st_dev}:{error.st_ino + 1}"
log.set_up(level="debug", form=sys.argv[1])
hostile = os.environb[b"HOSTILE"].decode(errors="surrogateescape")
for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
    logging.getLogger("threadwatch.x").log(level, "%s", hostile, extra={"fields": {"detail": hostile}})
try:
    raise ValueError(hostile)
except ValueError:
    logging.getLogger("threadwatch").exception("failed")
"""


def _lines(form: str, stream: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, form, stream],
        env=os.environ | {"HOSTILE": os.fsdecode(HOSTILE.encode(errors="surrogateescape"))},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stderr.decode("ascii").splitlines()


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize("stream", ["journal", "another", "none"])
def test_each_event_is_one_line_of_printable_ascii(form: str, stream: str) -> None:
    """Newlines, escape codes and priorities within a message or a field cannot make a line or a priority."""
    lines = _lines(form, stream)
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    levels = ["debug", "info", "warn", "error", "error", "error"]
    for line, level, priority in zip(lines, levels, "764333", strict=True):
        body = line
        if stream == "journal":
            assert line.startswith(f"<{priority}>")
            body = line[3:]
        assert body.startswith("{" if form == "json" else "time=")
        if form == "json":
            event = json.loads(body)
            assert event["level"] == level
            assert event.get("detail", HOSTILE) == HOSTILE
            assert HOSTILE in (event["msg"], event["detail"]) if "detail" in event else True
        else:
            assert f" level={level} " in body
            assert body.count(" level=") == 1 or "\\nlevel=" in body
    assert json.dumps(HOSTILE) in lines[0]


def test_a_stream_that_is_no_file_is_not_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for standard error, logging works, without priorities."""
    from threadwatch.commands import log  # noqa: PLC0415 - its set-up is undone below

    class Stream:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

        def fileno(self) -> int:
            raise ValueError

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.getLogger("threadwatch")
    before = logger.handlers[:], logger.propagate, logger.level
    try:
        log.set_up(level="info", form="logfmt")
        logger.info("hello")
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
    assert stream.text.startswith("time=")
