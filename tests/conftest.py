"""What all tests share: services from outside, and the marker ``needs``."""

import gc

import hypothesis
import pytest
import structlog

from tests.services.needs import is_available, require

pytest_plugins = ["tests.services.postgres", "tests.services.s3", "tests.services.hot_path"]

# Two cores that others use too: how long one example takes says nothing.
hypothesis.settings.register_profile(
    "filestore",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("filestore")

# The default shows local variables in tracebacks, which takes seconds each.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_collection_finish() -> None:
    """Thousands of tests are collected and stay: Python need not look through them again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips, or fails, a test marked ``@pytest.mark.needs("minio")`` where that is missing."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            require(name, is_available(name))
