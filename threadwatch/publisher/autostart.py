"""Publishes the process if the environment has ``THREADWATCH=1``, for the installed start-up file."""

_OFF = ("", "0", "false", "no", "off")  # as the start-up file itself has them


def main() -> None:
    """Publish this process's threads. Never raises, and imports nothing unless the variable is set."""
    try:
        import os  # noqa: PLC0415 - the interpreter is starting: only needed imports

        if os.environ.get("THREADWATCH", "").strip().lower() not in _OFF:
            from threadwatch.publisher.publisher import publish  # noqa: PLC0415 - as above

            publish()
    except Exception:  # noqa: BLE001, S110 - our fault must never keep a program from starting
        pass
