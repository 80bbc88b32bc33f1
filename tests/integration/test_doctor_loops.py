"""What ``threadwatch doctor`` says of the loops of real processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import environ, run
from tests.loops_outside import GEVENTS, TRIOS
from tests.programs import environment, python
from tests.serving import ready
from tests.testbed import require

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NONE = "print('ready', flush=True); input()"
ASYNCIO = """
import asyncio
async def main():
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
TRIO = ASYNCIO.replace("asyncio.run(main())", "trio.run(main)").replace("asyncio", "trio")
GEVENT = "import gevent; gevent.spawn(print, 'ready', flush=True); gevent.sleep(600)"
"""A loop begins with the first wait."""
OTHER_TRIO = (
    """
import sys, types
def run(): pass
other = types.ModuleType("trio._core._run")
other.run = other.unrolled_run = run
other.Task = other.SystemClock = other.Runner = other.GLOBAL_RUN_CONTEXT = object
sys.modules[other.__name__] = other
"""
    + NONE
)
OFF = {"tasks": {"rate": 0}}
PROGRAMS = {
    "none": ("", NONE, {}, (), ([], None, "")),
    "asyncio": ("", ASYNCIO, {}, (), (["asyncio"], None, "")),
    "trio": ("trio", TRIO, {}, (), (["trio"], None, "")),
    "gevent": ("gevent", GEVENT, {}, (), (["gevent"], None, "")),
    "off": ("", ASYNCIO, OFF, (), ([], "off", "")),
    "hidden": ("", ASYNCIO, {}, NOBODY, ([], "hidden", "")),
    "failed": ("", OTHER_TRIO, {}, (), ([], "failed", "trio's run is run of <string>")),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_loops(name: str, tmp_path: Path) -> None:
    """The kinds of loops that threads run are told, or why none is seen; a note says more."""
    library, code, config, prefix, told = PROGRAMS[name]
    command: Sequence[str] = (sys.executable,)
    if library:
        interpreter = require(3, 14)
        release = dict(TRIOS if library == "trio" else GEVENTS)["3.14"]
        command = python(interpreter, environment(interpreter, release))
    path = tmp_path / "threadwatch.yml"
    path.write_text(json.dumps(config))
    with ready(*command, "-c", code, env=environ("plain", {})) as process:
        arguments = ("doctor", str(process.pid), *([f"--config.file={path}"] if config else []))
        said = json.loads(run(*arguments, "--json", prefix=prefix).stdout)
    (found,) = said["processes"]
    assert (found["loops"], found["no_loops_because"], found["no_loops_detail"]) == told
    assert (f"the daemon sees no tasks: {told[2]}." in " ".join(said["notes"])) == bool(told[2])
    assert ("has no loops looked at" in " ".join(said["notes"])) == (name == "off")
