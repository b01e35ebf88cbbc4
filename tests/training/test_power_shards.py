"""Two averages of a model in shards are those of one process, and so are their snapshots."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from open_ldm.checkpoints.checkpoint import load_checkpoint
from open_ldm.runs.averages import keep_averages
from tests.processes import finish, start_processes
from tests.training.power_shards import NORMED, UPDATES, config
from tests.training.small_run import BATCH_SIZE, all_tensors, run_updates, small_trainer


def test_shards_keep_what_one_process_keeps(tmp_path: Path) -> None:
    finish(start_processes("tests.training.power_shards", [str(tmp_path)], 2))
    one = small_trainer(config(), denoiser=NORMED)
    for _ in range(UPDATES):
        run_updates(one, 1, micro=2)
        keep_averages(tmp_path / "one", one)
    found = load_file(tmp_path / "whole.safetensors")
    wanted = all_tensors(one)
    assert found.keys() == wanted.keys() and any(name.startswith("ema_0.1.") and "norm_q" in name for name in found)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor.detach(), rtol=1e-4, atol=1e-5)
    names = [f"samples-{BATCH_SIZE * n:012d}" for n in range(1, UPDATES + 1)]
    for folder in ("averages", "one"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    for name in names:
        both = [load_checkpoint(tmp_path / folder / name, required=("updates",)).files for folder in ("averages", "one")]
        assert both[0].keys() == both[1].keys() == {"ema_0.05", "ema_0.1"}
        for group, tensors in both[1].items():
            for key, tensor in tensors.items():
                torch.testing.assert_close(both[0][group][key], tensor, rtol=1e-4, atol=1e-5)
