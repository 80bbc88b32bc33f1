"""``./dev fuzz [TARGET] [SECONDS]``: look for bytes that break a promise, guided by what code they reach.

Without a target, each in turn. Begins with the committed corpus; what reaches more goes to
``.fuzz/TARGET`` and is begun with the next time. Bytes that break something are left in ``.fuzz``, and
the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import atheris

CHECKOUT = Path(__file__).resolve().parents[2]
CORPUS = CHECKOUT / "tests" / "fuzz" / "corpus"
FOUND = CHECKOUT / ".fuzz"

with atheris.instrument_imports(include=["threadwatch"]):
    from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("seconds", nargs="?", type=int, default=60, help="for each target")
    arguments = parser.parse_args()
    if arguments.target != "all":
        fuzz(arguments.target, arguments.seconds)
    failed = [name for name in TARGETS if not run(name, arguments.seconds)]
    print("fuzzing:", f"found something: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


def run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether nothing was found."""
    print(f"fuzzing {name} for {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", name, str(seconds)]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; does not return."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
        "-print_final_stats=1",
        f"-artifact_prefix={FOUND}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
