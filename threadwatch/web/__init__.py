"""Serves the daemon over HTTP: metrics, health, JSON and a status page.

``server`` owns sockets and decides which connection gives way; ``connection`` is one client's requests
and deadlines, ``stream`` its bytes, with or without TLS; ``app`` maps a request to a response and does
no I/O; ``pages`` is the HTML. ``listen`` and ``unix`` read and bind addresses. ``settings`` reads the web
configuration, ``tls`` and ``passwords`` do what it says, ``access`` keeps it up to date.
"""
