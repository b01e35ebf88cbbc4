"""The quick demo, trained for real. It has a file of its own, so that another process of the suite takes the other demos."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.commands import devices
from open_ldm.commands.demo import QUICK, run_demo
from open_ldm.commands.demo.versions import BASELINE, IMPROVED
from tests.commands.test_demo import forked


@pytest.mark.timeout(1200)
def test_the_quick_demo_shows_that_the_colour_follows_the_size_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains for real, on one thread a model; what turns it red is in benchmarks/demo_seeds.py."""
    monkeypatch.setattr(devices, "_started", forked)
    shown = run_demo(tmp_path, ["training.device=cpu"], silent=True, version=QUICK)
    assert shown.code == 0
    baseline, improved = shown.findings[BASELINE], shown.findings[IMPROVED]
    assert baseline.content_change.low > 0.5 and improved.content_change.high < 0.3
    assert improved.control_effect.low > 0.25 * baseline.control_effect.value
    assert improved.place is None and "Left and right" not in shown.page.read_text()
