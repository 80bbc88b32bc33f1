"""Thread names of processes that do not publish, read from their memory: none is changed or stopped."""
