"""Activation checkpointing by block: what a block computed is not kept for the backward pass but computed again there.

Of such a block only the inputs are kept (Chen et al. 2016, arXiv 1604.06174). The second forward pass repeats the first on the
same numbers, since networks draw none, so that losses and gradients keep their bits on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError
from open_ldm.training.settings import EveryBlock, Recompute


def recomputed_blocks(blocks: Sequence[nn.Module], setting: Recompute) -> list[nn.Module]:
    """Choose the blocks that are computed again.

    Args:
        blocks: All, in the order of computation.
        setting: `none`, `blocks` (all of them), or the last of every so many.

    Raises:
        ConfigError: There are fewer blocks than that.
    """
    match setting:
        case "none":
            return []
        case "blocks":
            return list(blocks)
        case EveryBlock(every=every) if every > len(blocks):
            raise ConfigError(
                f"training.recompute.every={every} chooses none of {counted(len(blocks), 'block')}",
                needed=f"at most {len(blocks)}",
                fix="training.recompute=none, or a smaller number",
            )
        case EveryBlock(every=every):
            return list(blocks[every - 1 :: every])


def recompute(block: nn.Module) -> None:
    """Compute a block again in the backward pass. Its tensors keep their names; a copy of it made before stays as it was."""
    # Hooks on the block, such as those by which FSDP2 makes its weights whole, run around this and not again.
    again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    block.forward = again
