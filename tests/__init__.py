"""The tests. A package, so that tests can share ``tests.testbed`` and its neighbours by name."""
