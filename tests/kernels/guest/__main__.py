"""Runs the checks of this start of the machine, and writes what each came to to its virtio port.

Arguments choose checks (:func:`tests.kernels.guest.checks.chosen`). After the first start it restarts the
machine, if there are checks for the second one; else it switches it off.
"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from tests.kernels.guest.checks import Check, chosen
from tests.kernels.guest.here import CannotRun
from tests.kernels.table import Outcome, to_line

_STARTED: Final = Path("/var/lib/kernels-started")
"""There from the first start on."""


def outcome(check: Check) -> Outcome:
    """Run a check."""
    began = time.monotonic()
    try:
        detail = check.run() or ""
    except CannotRun as why:
        return Outcome(check.name, "cannot run", str(why), time.monotonic() - began)
    except Exception:  # noqa: BLE001 - whatever goes wrong is what this check has come to; the next one runs
        return Outcome(check.name, "failed", traceback.format_exc(), time.monotonic() - began)
    return Outcome(check.name, "held", detail, time.monotonic() - began)


def main(words: str) -> None:
    """Run them."""
    checks = chosen(words)
    boot = 2 if _STARTED.exists() else 1
    _STARTED.touch()
    (path,) = Path("/dev").glob("vport*p1")
    with path.open("w", buffering=1) as port:
        for check in checks:
            if check.boot == boot:
                port.write(to_line(outcome(check)) + "\n")
    goes_on = any(check.boot > boot for check in checks)
    subprocess.run(["systemctl", "reboot" if goes_on else "poweroff"], check=True)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
