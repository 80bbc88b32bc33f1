"""Makes what follows from the states of threads and is not Python: ``./dev states``."""
