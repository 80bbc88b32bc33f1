"""threadwatch: which Python thread, by name, uses the CPU, and what it waits for.

In an application, :func:`publish` makes the names of its threads readable from outside. The daemon
and the commands are in ``threadwatch.cli``; importing this package imports none of that.
"""

__version__ = "0.1.0"
__all__ = ["__version__", "publish", "unpublish"]


def publish() -> bool:
    """Publish the names of this process's threads, from now on and in every forked child.

    May be called any number of times. Starts no thread, and never raises: where it cannot publish
    (no memfd, no file descriptor left, no ``/proc``) it returns False, and says why on standard
    error if the environment has ``THREADWATCH_DEBUG=1``.
    """
    from threadwatch import publisher  # noqa: PLC0415 - importing the package must cost nothing

    return publisher.publish()


def unpublish() -> None:
    """Withdraw what :func:`publish` published, and take its hooks out of :mod:`threading`."""
    from threadwatch import publisher  # noqa: PLC0415 - as above

    publisher.unpublish()
