"""The fixtures of the tests of the whole; see :mod:`tests.e2e.stage`."""

from tests.e2e.stage import backend, stage

__all__ = ["backend", "stage"]
