"""Runs the checks of this start of the machine, and writes what each came to to its virtio port.

After the first start it restarts the machine, after the second it switches it off.
"""

from __future__ import annotations

import subprocess
import time
import traceback
from pathlib import Path
from typing import Final

from tests.kernels.guest.checks import CHECKS, Check
from tests.kernels.guest.here import CannotRun
from tests.kernels.table import Outcome, to_line

_PORT: Final = Path("/dev/vport0p1")
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


def main() -> None:
    """Run them."""
    boot = 2 if _STARTED.exists() else 1
    _STARTED.touch()
    with _PORT.open("w", buffering=1) as port:
        for check in CHECKS:
            if check.boot == boot:
                port.write(to_line(outcome(check)) + "\n")
    subprocess.run(["systemctl", "reboot" if boot == 1 else "poweroff"], check=True)


if __name__ == "__main__":
    main()
