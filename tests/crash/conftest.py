"""The fixtures of the tests of the whole, with servers that start quickly."""

import pytest

from tests.e2e.stage import Stage, backend
from tests.e2e.stage import stage as plain_stage
from tests.services.forked import ForkedServer

__all__ = ["backend", "plain_stage", "stage"]


@pytest.fixture
def stage(plain_stage: Stage) -> Stage:
    """See :mod:`tests.e2e.stage`."""
    plain_stage.kind = ForkedServer
    return plain_stage
