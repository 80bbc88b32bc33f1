"""threadwatch(1), from the parser of the command line and the prose in ``threadwatch.1.md``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from manual import roff


def page(parser: argparse.ArgumentParser, version: str, prose: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the page; ``prose`` are those of the sections that come after the commands."""
    commands = subparsers(parser)
    yield from roff.title(parser.prog, 1, version)
    yield roff.section("name")
    yield f"{parser.prog} \\- {roff.escape(_sentence(parser.description))}"
    yield roff.section("synopsis")
    for name, command in commands.items():
        yield f"{roff.bold(f'{parser.prog} {name}')} {' '.join(_synopsis(command))}"
        yield ".br"
    yield f"{roff.bold(parser.prog)} {roff.bold('--version')} | {roff.bold('--help')}"
    yield roff.section("commands")
    for name, command in commands.items():
        yield roff.subsection(f"{parser.prog} {name}")
        yield roff.escape(command.description or "")
        for action in _actions(command):
            yield from roff.tagged(_tag(action), roff.escape(_help(action, command)))
        yield from _examples(command)
    yield from prose


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands of a parser, by name, in its order."""
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to walk a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            return dict(action.choices)
    return {}


def _actions(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in command._actions if a.dest != "help"]  # noqa: SLF001  # as above


def _synopsis(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _actions(command):
        if not action.option_strings:
            yield _values(action)
        else:
            long = action.option_strings[-1]
            yield f"[{roff.bold(long)}{_argument(action)}]"


def _tag(action: argparse.Action) -> str:
    if not action.option_strings:
        return _values(action)
    return ", ".join(roff.bold(o) for o in action.option_strings) + _argument(action)


def _argument(action: argparse.Action) -> str:
    return "" if action.nargs == 0 else "\\ " + _values(action)


def _values(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(roff.bold(str(c)) for c in action.choices) + "}"
    name = str(action.metavar or action.dest.upper())
    if action.nargs == argparse.REMAINDER:
        return roff.italic(name)
    shown = roff.italic(name)
    return {"*": f"[{shown} ...]", "+": f"{shown} ...", "?": f"[{shown}]"}.get(
        str(action.nargs), shown
    )


def _help(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    text = (action.help or "") % (vars(action) | {"prog": command.prog})
    return text[:1].upper() + text[1:] + "." if text else ""


def _examples(command: argparse.ArgumentParser) -> Iterator[str]:
    lines = (command.epilog or "").splitlines()
    shown = False
    for line in lines:
        if line == "examples:":
            yield from (".PP", "Examples:")
        elif line.startswith("  ") or not line:
            if line and not shown:
                shown = True
                yield from roff.verbatim(
                    "\n".join(one[2:] for one in lines if one.startswith("  "))
                )
        else:
            yield from (".PP", roff.escape(line))


def _sentence(text: str | None) -> str:
    text = (text or "").rstrip(".")
    return text[:1].lower() + text[1:]
