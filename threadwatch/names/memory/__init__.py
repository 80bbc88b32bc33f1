"""Thread names of processes that do not publish, read from their memory. Nothing in them is changed or stopped."""
