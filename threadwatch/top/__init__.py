"""Shows the threads, live, in a terminal: ``threadwatch top``.

From the values to the screen, each knows only those before it:

* ``history``: the last polls' findings about each thread; ``bars``: shares of time as cells of text.
* ``rows``, ``order``: a view → rows, in order and filtered; ``columns``: a row → cells, as many as fit.
* ``model``: what the user has chosen (order, filter, what is folded, pause) and the rows that follow.
* ``source``: where views come from: this host's procfs, or a daemon.
* ``batch``: rows as plain text. ``app`` and the widgets: rows in a terminal, by textual, which nothing
  else imports.
"""
