"""Does a model begin to memorise? Samples beside the training pictures, and beside pictures that were never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.evaluation.metrics.fid import Gaussian, frechet_distance
from open_ldm.evaluation.neighbours import nearest_training
from open_ldm.evaluation.statistics import Statistics


@dataclass(frozen=True)
class Memorised:
    """Two numbers of a set of samples.

    Attributes:
        frechet_distance: Between samples and training pictures, over the features of few samples: for one curve, and for no
            comparison with a number of `ldm evaluate`.
        nearer: Chance that a sample lies nearer to its nearest training picture than a picture that was never trained on does:
            about 0.5 for new pictures of the same kind, 1 where the training pictures are repeated.
    """

    frechet_distance: float
    nearer: float


def memorised(samples: Statistics, training: Statistics, held_out: Statistics | None) -> Memorised:
    """Compare samples with the pictures that a model was trained on.

    Args:
        samples: Of the model.
        training: All of its training pictures, or those among which the nearest is looked for.
        held_out: Pictures that it was not trained on; None takes the training pictures themselves, each beside the others.

    Raises:
        ConfigError: The sets were not seen by the same extractor at the same size.
        DataError: There are too few training pictures.
    """
    found = nearest_training(samples, training)
    usual = found.typical if held_out is None else nearest_training(held_out, training).distances[:, 0].sort().values
    one, other = (Gaussian(each.moments.mean, each.moments.covariance) for each in (samples, training))
    return Memorised(frechet_distance(one, other), share_nearer(found.distances[:, 0], usual))


def share_nearer(distances: Tensor, usual: Tensor) -> float:
    """Return the share of pairs in which a distance [n] is below a usual one [m, ascending]; equal ones count half."""
    below = torch.searchsorted(usual, distances.contiguous(), right=False)
    up_to = torch.searchsorted(usual, distances.contiguous(), right=True)
    above = len(usual) - (below + up_to) / 2
    return float((above / len(usual)).mean())
