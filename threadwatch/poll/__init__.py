"""One poll from end to end; gives a View."""
