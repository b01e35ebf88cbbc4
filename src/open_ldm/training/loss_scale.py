"""Loss scaling for fp16, whose smallest numbers would lose small gradients (Micikevicius et al. 2018, section 3.2).

The loss is multiplied before the backward pass, and gradients are divided behind it, in float32. Scales are powers of two, so
that neither rounds. An update whose gradient overflows is skipped, and the scale halved; after 2,000 updates without one it is
doubled (as torch.amp.GradScaler). Scale and count are counters of the run: a checkpoint holds them, and a resumed run keeps its
bits.
"""

from __future__ import annotations

from open_ldm.training.state import Counters

FIRST = 2**16
MOST = 2**24
GROWS_AFTER = 2000


def scale_of(counters: Counters) -> int:
    """Return the scale of the next update; a run that had none begins with 2^16."""
    return counters.loss_scale or FIRST


def overflowed(counters: Counters) -> bool:
    """Halve the scale after an update whose gradient was not finite; False where it was 1, and so not to blame."""
    scale = scale_of(counters)
    counters.loss_scale, counters.updates_at_scale = max(1, scale // 2), 0
    return scale > 1


def applied(counters: Counters) -> None:
    """Count an update that was applied, and double the scale when it is time."""
    counters.loss_scale, counters.updates_at_scale = scale_of(counters), counters.updates_at_scale + 1
    if counters.updates_at_scale == GROWS_AFTER:
        counters.loss_scale, counters.updates_at_scale = min(MOST, 2 * counters.loss_scale), 0
