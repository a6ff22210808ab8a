"""The tests: a package, so that test modules may share `tests.random_networks`."""
