"""Which processes are watched, and in which group."""
