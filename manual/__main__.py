"""``python -m manual``: write what is installed beside the commands."""

from __future__ import annotations

from pathlib import Path

from manual import commands, roff
from manual.completions import FILES, completion
from manual.markdown import to_man
from threadwatch import __version__
from threadwatch.commands.arguments import parser

CHECKOUT = Path(__file__).resolve().parent.parent
SHARE = CHECKOUT / "packaging" / "share"


def everything() -> dict[Path, str]:
    """Return what is to be in each file."""
    prose = (CHECKOUT / "manual" / "threadwatch.1.md").read_text(encoding="utf-8")
    settings = (CHECKOUT / "docs" / "configuration.md").read_text(encoding="utf-8")
    configuration = [
        *roff.title("threadwatch.yml", 5, __version__),
        roff.section("name"),
        "threadwatch.yml \\- configuration of threadwatch",
        roff.section("description"),
        *to_man(settings),
        roff.section("see also"),
        f"{roff.bold('threadwatch')}(1)",
    ]
    files = {
        SHARE / "man" / "man1" / "threadwatch.1": commands.page(
            parser(), __version__, tuple(to_man(prose))
        ),
        SHARE / "man" / "man5" / "threadwatch.yml.5": configuration,
    }
    written = {path: "\n".join(lines) + "\n" for path, lines in files.items()}
    for shell, name in FILES.items():
        written[SHARE / name] = completion(parser(), shell)
    return written


def main() -> None:
    """Write all files."""
    for path, text in everything().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
