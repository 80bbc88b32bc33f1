"""threadwatch: which Python thread, by name, uses the CPU, and what it waits for.

In an application, :func:`publish` makes the names of its threads readable from outside. Importing this
package imports nothing else.

General layout: ``publisher`` and ``inject`` run inside watched processes, on CPython 3.9 and later, with
the standard library alone. All the rest is the daemon and its commands, on 3.11 and later: ``commands``
begins there; ``poll`` reads (``discovery``, ``threads``, ``names``, ``waits``, by ``procfs`` and ``reading``)
and charges (``accounting``), and its result, a ``model.view.View``, is all that the outputs see (``metrics``,
``web``, ``top``, ``words``). docs/architecture.md has the picture.

Public are :func:`publish`, :func:`unpublish`, ``__version__``, the command line with its exit codes, the
metrics, ``/api/v1``, the configuration, and the table's layout as a versioned format. The modules are not:
they move and change without a word.
"""

__version__ = "0.1.0"
__all__ = ["__version__", "publish", "unpublish"]


def publish() -> bool:
    """Publish the names of this process's threads, from now on and in every forked child.

    May be called any number of times. Starts no thread, and never raises: where it cannot publish
    (no memfd, no file descriptor left, no ``/proc``) it returns False, and says why on standard
    error if the environment has ``THREADWATCH_DEBUG=1``.
    """
    try:
        from threadwatch.publisher import publisher  # noqa: PLC0415 - the package must cost nothing
    except Exception as error:  # a fault of ours must not reach the application
        if not is_ours(error):
            raise
        complain(error)
        return False
    return publisher.publish()


def unpublish() -> None:
    """Withdraw what :func:`publish` published, and take its hooks out of :mod:`threading`."""
    import sys  # noqa: PLC0415 - as above

    publisher = sys.modules.get("threadwatch.publisher.publisher")
    if publisher is not None:
        publisher.unpublish()


def is_ours(error: Exception) -> bool:
    """Return whether an exception is a fault of ours, which must not reach the application.

    While our code runs in its thread, the application's own signal handlers can interrupt it. An
    exception that they raise is the application's, and has to reach it. The place where an
    exception was raised tells the two apart.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return True
    module = traceback.tb_frame.f_globals.get("__name__") or ""
    return module.partition(".")[0] in _OUR_MODULES


def complain(error: Exception) -> None:
    """Print once why nothing is published, if the environment asks for that."""
    global _complained  # noqa: PLW0603 - once for the process
    try:
        import os  # noqa: PLC0415 - as above
        import sys  # noqa: PLC0415 - as above

        if not _complained and os.environ.get("THREADWATCH_DEBUG") == "1":
            _complained = True
            sys.stderr.write(f"threadwatch: not publishing: {error}\n")
    except Exception as another:  # there is no standard error
        if not is_ours(another):
            raise


_complained = False
# Our modules, and the import system that loads them.
_OUR_MODULES = ("threadwatch", "importlib", "_frozen_importlib", "_frozen_importlib_external")
