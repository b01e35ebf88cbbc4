"""One thread per process: the tests use tiny networks, and threads that wait for each other on a busy machine are slow."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.without_browser import pytest_collection_modifyitems, pytest_unconfigure  # noqa: F401
