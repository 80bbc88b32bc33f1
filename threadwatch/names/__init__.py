"""Where the Python names of threads come from: the tables that processes publish."""
