"""One process that measures its share of pictures: python -m tests.evaluation.worker OUT."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed

from open_ldm.core.distributed import join_world
from open_ldm.evaluation.pictures import pictures_of
from open_ldm.evaluation.reference import save_statistics
from open_ldm.evaluation.statistics import collect
from open_ldm.sources.shapes import ShapesConfig
from tests.evaluation.sets import CPU, small_extractor


def main(out: Path) -> None:
    torch.set_num_threads(1)
    world = join_world(CPU)
    source = ShapesConfig(length=21).open()
    (found,) = collect(pictures_of(source, 16, batch_size=4, world=world), [small_extractor()], world=world)
    save_statistics(out / str(world.rank), found)
    world.barrier()
    if world.size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
