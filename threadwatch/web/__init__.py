"""The daemon over HTTP: metrics, health and a landing page.

``server`` owns sockets, connections and deadlines; ``app`` maps a request to a response and does
no I/O; ``listen`` and ``unix`` read and bind addresses; ``pages`` is the HTML.
"""
