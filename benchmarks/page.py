"""``docs/benchmarks.md``: written from results, so that no figure in it is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.report import Result, as_markdown

_PREAMBLE = """\
# Benchmarks

What threadwatch costs the applications that publish, and the host that it runs on. This page is
written by

```console
$ ./dev bench --full --docs
```

which takes about an hour; `./dev bench` is a quick version of under three minutes, `./dev bench
--help` says more, and `--json FILE` keeps every single value. Figures are CPU time unless they say
real time. What is compared takes turns in one run (A B A B …), and a ratio is the median of the
ratios of all pairs. A range in parentheses is the interval that holds the true median with 95 %
confidence, by the binomial distribution, whatever the values' own. Goals are the project's; one
that is missed is said to be.

![CPU time per cycle against the number of threads, and of active threads](benchmarks-poll.svg)
"""


def write_page(path: Path, results: Sequence[Result], conditions: Mapping[str, object]) -> None:
    """Write the page about these results, taken under these conditions."""
    before, after = conditions["load_average_before"], conditions["load_average_after"]
    facts = {
        **machine.facts(),
        "measured": f"{conditions['started']}, in {conditions['seconds']} s",
        "load average before and after (1, 5, 15 min)": f"{before}, {after}",
        "CPUs busy on average, load and daemon included": str(conditions["cpus_busy"]),
        "CPUs taken by the virtual machine's host": str(conditions["cpus_stolen"]),
    }
    path.write_text(as_markdown(results, facts, _PREAMBLE), encoding="utf-8")
