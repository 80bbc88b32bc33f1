"""``threadwatch doctor``: what can be seen, what is hidden, and how to grant it."""
