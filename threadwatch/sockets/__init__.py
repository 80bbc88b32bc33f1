"""Makes sockets that listen, for the packages that serve: ``handover`` and ``web``."""
