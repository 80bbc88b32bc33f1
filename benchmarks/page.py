"""``docs/benchmarks.md``: written from results, so that no figure in it is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.report import Table, markdown_table

_PREAMBLE = """\
# Benchmarks

What threadwatch costs the applications that publish, and the host that it runs on. This page is
written by

```console
$ ./dev bench --full --docs
```

which takes about three hours; `./dev bench` is a quick version of about 25 minutes, `./dev bench
--help` says more, and `--json FILE` keeps every single value. Figures are CPU time unless they say
real time. The compared programs take turns in one run (A B A B …), and a ratio is the median of the
ratios of all pairs. A range in parentheses is the interval that holds the true median with 95 %
confidence, by the binomial distribution, whatever the values' own. Goals are the project's; one
that is missed is said to be.
"""


def updated(page: str, name: str, section: str, order: Sequence[str]) -> str:
    """Return the page with one benchmark's section put in or replaced; the others, in ``order``, stay."""
    sections = {
        _name(part): part.strip() for part in re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    }
    sections[name] = section.strip()
    facts = Table("", ("machine", ""), tuple(machine.facts().items()))
    kept = [sections[one] for one in order if one in sections]
    return "\n\n".join([_PREAMBLE.strip(), markdown_table(facts), *kept]) + "\n"


def _name(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ").strip()


def update(path: Path, name: str, section: str, order: Sequence[str]) -> None:
    """Write the page anew."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(updated(page, name, section, order), encoding="utf-8")
