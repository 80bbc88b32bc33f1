"""Asks the daemon of this container whether it is healthy, for the image's HEALTHCHECK and for exec probes.

A program of its own, ``python3 -I -S healthcheck.py``: it imports nothing of threadwatch and no
site-packages, so it is over in a hundredth of a second. The daemon is the process with our root
directory that was started as ``threadwatch serve``. The daemon is asked at every address that its command
line names, or else its environment (``THREADWATCH_LISTEN_ADDRESS``).

With TLS the answer to plain HTTP is 400, with passwords 401: then the answer shows that the daemon
serves, and not whether it polls. Exit status 0: healthy. 1: not, with one line that says why.
"""

import os
import socket
import sys

_REQUEST = b"GET /-/healthy HTTP/1.0\r\n\r\n"
_DEFAULT = "127.0.0.1:9749"
_OPTION = "--web.listen-address"
_TIMEOUT_S = 3.0


def main() -> int:
    """Ask, and return the exit status."""
    try:
        arguments = _daemon()
        if arguments is None:
            raise OSError("no threadwatch serve runs in this container")
        default = os.environ.get("THREADWATCH_LISTEN_ADDRESS") or _DEFAULT
        for address in addresses(arguments) or [default]:
            ask(address)
    except OSError as error:
        sys.stderr.write(f"not healthy: {error}\n")
        return 1
    return 0


def addresses(arguments: "list[str]") -> "list[str]":
    """Return the listen addresses that the daemon's command line names."""
    found = []
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == _OPTION:
            found += [value] if equals else arguments[index + 1 : index + 2]
    return found


def is_daemon(arguments: "list[str]") -> bool:
    """Return whether a command line is ``threadwatch serve``, by whatever interpreter it is run."""
    names = [argument.rpartition("/")[2] for argument in arguments[:5]]
    return "threadwatch" in names and names[names.index("threadwatch") + 1 :][:1] == ["serve"]


def peer(address: str) -> "tuple[socket.AddressFamily, str | tuple[str, int]]":
    """Return where to connect to for a listen address; for all interfaces, the loopback.

    :raises OSError: it is no address.
    """
    if address.startswith("unix:"):
        path = address[len("unix:") :].partition(",")[0]
        return socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise OSError(f"{address!r} is no listen address")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - what the daemon may be told
    bare = host.strip("[]")
    return (socket.AF_INET6 if ":" in bare else socket.AF_INET), (bare, int(port))


def _daemon() -> "list[str] | None":
    """Return the command line of the daemon in our container; None if there is none."""
    root = os.stat("/")
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = os.fsdecode(file.read()).split("\0")
            if is_daemon(arguments) and os.path.samestat(os.stat(f"/proc/{name}/root"), root):
                return arguments
        except OSError:
            continue
    return None


def ask(address: str) -> None:
    """Ask the daemon at an address. Raises OSError if the daemon is not healthy, or does not answer."""
    family, where = peer(address)
    with socket.socket(family) as client:
        client.settimeout(_TIMEOUT_S)
        client.connect(where)
        client.sendall(_REQUEST)
        answer = b""
        while data := client.recv(4096):
            answer += data
    if answer[9:12] not in (b"200", b"400", b"401"):
        lines = answer.decode("utf-8", "replace").splitlines() or ["no answer"]
        raise OSError(f"{address}: {lines[-1]}")


if __name__ == "__main__":
    sys.exit(main())
