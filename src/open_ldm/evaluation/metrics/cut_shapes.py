"""Cut shapes: whether a drawing's shapes lie whole in the picture, or touch its border as those that a crop cuts do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.evaluation.shape_attributes import shape_regions


@dataclass(frozen=True)
class AtBorder:
    """Of each of n pictures 0 or 1, float64 [n].

    Attributes:
        cut: A shape has a pixel in the outermost ring of the picture.
        whole: There is a shape, and none is cut. A picture without shapes is neither.
    """

    cut: Tensor
    whole: Tensor


def at_border(pixels: Tensor) -> AtBorder:
    """Tell which pictures, uint8 [n, 3, H, W], show a shape that touches the border.

    Shapes are regions of at least half colour, as `read_shapes` finds them; what is left of a shape that is cut down to a speck
    does not count as one.
    """
    touching = [[_touches(torch.from_numpy(region)) for region in shape_regions(one)] for one in pixels.cpu()]
    cut = torch.tensor([any(each) for each in touching], dtype=torch.float64)
    return AtBorder(cut, torch.tensor([bool(each) for each in touching], dtype=torch.float64) - cut)


def _touches(region: Tensor) -> bool:
    ring = torch.ones_like(region)
    ring[1:-1, 1:-1] = False
    return bool((region & ring).any())
