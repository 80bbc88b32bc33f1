"""Completion for bash, zsh and fish, from the parser of the command line, by shtab."""

from __future__ import annotations

import argparse
import re

import shtab

from manual.commands import subparsers

FILES = {
    "bash": "bash-completion/completions/threadwatch",
    "zsh": "zsh/site-functions/_threadwatch",
    "fish": "fish/vendor_completions.d/threadwatch.fish",
}
"""Where each shell looks for its own, below ``share``."""

_PROCESS = {
    "bash": "_threadwatch_processes",
    "zsh": "_threadwatch_processes",
    "fish": "(pgrep -l python)",
}
_COMMAND = {"bash": "_threadwatch_command", "zsh": "_threadwatch_command", "fish": ""}
_BY_DEST = {
    "config": shtab.FILE,
    "files": shtab.FILE,
    "web_config": shtab.FILE,
    "procfs": shtab.DIRECTORY,
    "what": _PROCESS,
    "argv": _COMMAND,
}
_PREAMBLE = {
    "bash": """\
_threadwatch_processes() {
  compgen -W "$(pgrep python)" -- "$1"
}
_threadwatch_command() {
  compgen -c -- "$1"
}
""",
    "zsh": """\
_threadwatch_processes() {
  compadd -- ${(f)"$(pgrep python)"}
}
_threadwatch_command() {
  if [[ $words[1] == -- ]]; then
    shift words
    (( CURRENT -= 1 ))
  fi
  _normal
}
""",
}
_EQUALS = """\
# bash splits --option=value into three words: leave out the one between
_threadwatch() {
  local i cword=$COMP_CWORD words=()
  for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
    if ((i > 0)) && [[ ${COMP_WORDS[i]} == "=" && ${COMP_WORDS[i-1]} == --* ]]; then
      if ((i < COMP_CWORD)); then
        ((cword--))
        continue
      fi
      words+=("")
    else
      words+=("${COMP_WORDS[i]}")
    fi
  done
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$cword
  _shtab_threadwatch
}

complete -o bashdefault -F _threadwatch threadwatch
"""
_SUBCOMMAND = """
complete -c threadwatch -n '_shtab_threadwatch_using run' -x -a '(__fish_complete_subcommand --fcs-skip=3)'
"""


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script for one shell."""
    for command in subparsers(parser).values():
        for action in command._actions:  # noqa: SLF001  # argparse has no other way to walk a parser
            if action.dest in _BY_DEST:
                action.complete = _BY_DEST[action.dest]  # type: ignore[attr-defined]  # shtab's own attribute
    script = str(shtab.complete(parser, shell=shell, preamble=_PREAMBLE))  # type: ignore[arg-type]  # it takes a text for each shell, whatever it says
    if shell == "bash":
        script = script[: script.rindex("complete ")] + _EQUALS
    elif shell == "fish":
        # of --option=value only the value is a path
        script = script.replace(
            "(commandline -ct)", "(commandline -ct | string replace -r '^--[^=]*=' '')"
        )
        script += _SUBCOMMAND
    elif shell == "zsh":
        # --option=value as well as --option value; and every argument like the first
        script = re.sub(r"(--[\w.-]+)(\[[^\n]*?[^\\]\]:)", r"\1=\2", script)
        script = script.replace('"(*)::', '"*:').replace('"(*):', '"*:')
    # without the lines that tell where to put it: it is installed where it belongs
    lines = script.splitlines(keepends=True)
    head = [line for line in lines if line.startswith("#compdef")]
    body = "".join(lines).split("\n\n", 1)[1]
    return "".join(head) + "# Made by: python -m manual\n\n" + body
