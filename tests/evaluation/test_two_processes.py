from __future__ import annotations

from pathlib import Path

import torch

from open_ldm.evaluation.reference import load_statistics
from tests.evaluation.test_statistics import assert_alike
from tests.evaluation.worker import main
from tests.processes import finish, start_processes


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    processes = start_processes("tests.evaluation.worker", [str(tmp_path / "two")], 2)
    main(tmp_path / "one")
    finish(processes)
    one = load_statistics(tmp_path / "one" / "0")
    lead, other = (load_statistics(tmp_path / "two" / str(rank)) for rank in range(2))
    assert_alike(one, lead)
    for name in ("mean", "scatter"):
        ours, theirs = getattr(lead.moments, name), getattr(other.moments, name)
        assert ours.equal(theirs), "every process has the same bits"
        torch.testing.assert_close(ours, getattr(one.moments, name), rtol=1e-9, atol=1e-9)
    assert len(other.rows) == 0, "single pictures go to one process alone"
    assert other.pictures == one.pictures
