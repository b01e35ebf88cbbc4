from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of tiny files: what a power cut would leave is not the question here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
