"""A machine in QEMU: boots a kernel and a disk, and yields what the checks in it write.

Nothing of this machine is in it: the CPU is emulated (TCG), and there is no network. What is written to its
virtio port goes to a file, line by line.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernels.kernels import Kernel
from tests.kernels.trees import kernel_tree

SILENCE: Final = 1200.0
"""Seconds without a line after which the machine counts as hung."""


class Died(Exception):
    """The machine has hung, or has ended by itself; the message has the last lines of its console."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that can be started, more than once: its disk stays."""

    kernel: Kernel
    initramfs: Path
    disk: Path
    console: Path

    def boot(self, lines: Path) -> Iterator[str]:
        """Run it until it is switched off or restarts; yield the lines that are written to its port.

        :raises Died: it has hung.
        """
        tree, processor = kernel_tree(self.kernel), self.kernel.processor
        (image,) = (tree / "boot").glob("vmlinu[xz]-*")
        parameters = (
            f"console={processor.console} panic=-1 mitigations=off {self.kernel.parameters}"
        )
        lines.write_text("")
        with self.console.open("ab") as log:
            process = subprocess.Popen(
                [
                    *("nice", "-n", "10"),
                    *processor.qemu,
                    *("-accel", "tcg,thread=multi", "-m", "2048", "-smp", "2", "-nic", "none"),
                    *("-display", "none", "-no-reboot"),
                    *("-kernel", image, "-initrd", self.initramfs),
                    *("-append", parameters, "-serial", "chardev:console"),
                    *("-chardev", f"file,id=console,path={self.console},append=on"),
                    *("-drive", f"file={self.disk},if=virtio,format=raw,cache=unsafe"),
                    *("-device", "virtio-serial-pci", "-chardev", f"file,id=port,path={lines}"),
                    *("-device", "virtserialport,chardev=port,name=checks"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield from self._follow(process, lines)
        finally:
            process.kill()
            process.wait()

    def _follow(self, process: subprocess.Popen[bytes], lines: Path) -> Iterator[str]:
        """Yield each line once it is whole, until the process has ended."""
        heard, last = "", time.monotonic()
        with lines.open() as file:
            while True:
                ended = process.poll() is not None
                if text := file.read():
                    heard, last = heard + text, time.monotonic()
                    *whole, heard = heard.split("\n")
                    yield from whole
                elif ended:
                    return
                elif time.monotonic() - last > SILENCE:
                    raise Died(f"no word for {SILENCE:.0f} s: {self.last_words()}")
                else:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)

    def last_words(self) -> str:
        """Return the end of its console."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-30:])
