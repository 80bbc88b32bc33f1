"""``./dev kernels [NAME…]``: boots each kernel in QEMU, runs the checks in it, and prints what held where.

Names are those of :data:`tests.kernels.kernels.KERNELS`; without one, all of them. ``--only WORDS`` runs the
checks that have the words in their name, and those that they need. Exits with 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.kernels import images
from tests.kernels.guest.checks import chosen
from tests.kernels.kernels import KERNELS, Kernel
from tests.kernels.qemu import Died, Machine
from tests.kernels.table import Outcome, from_line, has_failed, table
from tests.testbed import CHECKOUT

CONSOLES = CHECKOUT / "build" / "kernels"
"""Where the consoles of the machines are left."""


def run(kernel: Kernel, directory: Path, words: str, outcomes: dict[str, Outcome]) -> None:
    """Boot it, twice if there are checks for that; put what the checks came to into ``outcomes``."""
    began = time.monotonic()
    console = CONSOLES / f"{kernel.name}.log"
    console.unlink(missing_ok=True)
    machine = Machine(kernel, directory / "initramfs", directory / "disk", console)
    _say(kernel, "makes its disk")
    images.initramfs(kernel, machine.initramfs)
    images.disk(kernel, machine.disk, words)
    try:
        for boot in sorted({check.boot for check in chosen(words)}):
            _say(kernel, f"boot {boot}, after {time.monotonic() - began:.0f} s")
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


def _say(kernel: Kernel, text: str) -> None:
    print(f"… {kernel.name}: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Print the table, of what is answered where SIGTERM ends it; return 1 if a check did not hold."""
    parser = argparse.ArgumentParser("./dev kernels")
    # without a name it is the empty list that has to be a choice
    parser.add_argument("name", nargs="*", choices=[[], *KERNELS], metavar="NAME")
    parser.add_argument(
        "--only", metavar="WORDS", default="", help="checks with these in their name"
    )
    asked = parser.parse_args(arguments)
    checks = [check.name for check in chosen(asked.only)]
    if not checks:
        parser.error(f"no check has {asked.only!r} in its name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no machine stays
    CONSOLES.mkdir(parents=True, exist_ok=True)
    columns: dict[str, dict[str, Outcome]] = {}
    try:
        for name in asked.name or KERNELS:
            with tempfile.TemporaryDirectory() as directory:
                run(KERNELS[name], Path(directory), asked.only, columns.setdefault(name, {}))
    finally:
        for line in table(checks, columns):
            print(line, flush=True)
    return 1 if has_failed(checks, columns) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
