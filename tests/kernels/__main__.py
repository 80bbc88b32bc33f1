"""``./dev kernels [NAME…]``: boots each kernel in QEMU, runs the checks in it, and prints what held where.

Names are those of :data:`tests.kernels.kernels.KERNELS`; without one, all of them. Exits with 1 if something
did not hold.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.kernels import images
from tests.kernels.guest.checks import CHECKS
from tests.kernels.kernels import KERNELS, Kernel
from tests.kernels.qemu import Died, Machine
from tests.kernels.table import Outcome, from_line, has_failed, table
from tests.testbed import CHECKOUT

CONSOLES = CHECKOUT / "build" / "kernels"
"""Where the consoles of the machines are left."""


def run(kernel: Kernel, directory: Path) -> dict[str, Outcome]:
    """Boot it, twice; return what the checks came to."""
    began = time.monotonic()
    console = CONSOLES / f"{kernel.name}.log"
    console.unlink(missing_ok=True)
    machine = Machine(kernel, directory / "initramfs", directory / "disk", console)
    _say(kernel, "makes its disk")
    images.initramfs(kernel, machine.initramfs)
    images.disk(kernel, machine.disk)
    outcomes = {}
    try:
        for boot in ("first", "second"):
            _say(kernel, f"boots for the {boot} time, after {time.monotonic() - began:.0f} s")
            for line in machine.boot(directory / "lines"):
                outcome = from_line(line)
                outcomes[outcome.check] = outcome
                _say(kernel, f"{outcome.check}: {outcome.verdict}, {outcome.seconds:.0f} s")
                if outcome.detail:
                    print(outcome.detail, file=sys.stderr)
    except Died as died:
        print(died, file=sys.stderr)
    _say(kernel, f"is done after {time.monotonic() - began:.0f} s")
    machine.disk.unlink()
    return outcomes


def _say(kernel: Kernel, text: str) -> None:
    print(f"… {kernel.name}: {text}", file=sys.stderr, flush=True)


def main(names: list[str]) -> int:
    """Print the table; return 1 if a check did not hold, 2 for a name that is none."""
    if unknown := [name for name in names if name not in KERNELS]:
        print(
            f"no such kernel: {', '.join(unknown)}; there are {', '.join(KERNELS)}", file=sys.stderr
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no machine stays
    CONSOLES.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name in names or KERNELS:
        with tempfile.TemporaryDirectory() as directory:
            columns[name] = run(KERNELS[name], Path(directory))
    checks = [check.name for check in CHECKS]
    for line in table(checks, columns):
        print(line)
    return 1 if has_failed(checks, columns) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
