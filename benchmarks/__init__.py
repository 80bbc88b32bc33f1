"""What threadwatch costs: the applications that publish, and the host that it runs on."""
