"""Autoguidance: a weaker model of the same data as the guide that estimates lead away from (Karras et al. 2024,
arXiv 2406.02507, equation 3).

    x_0 = x_0(guide) + w (x_0(model) - x_0(guide)),   both under the same conditions

The guide is an earlier checkpoint or a shorter average of the same run, or a smaller network. It is one more branch beside
those of guidance (sampling/guidance.py), so that both may act together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.process.prediction import Denoised
from open_ldm.sampling.guidance import Branch, DenoiseBranches


def with_guide(own: DenoiseBranches, guide: DenoiseBranches) -> DenoiseBranches:
    """Have the branch of the guide evaluated by another model, in a batch of its own; it is the last of the branches."""

    def denoise_branches(x_t: Tensor, t: float, branches: tuple[Branch, ...]) -> Denoised:
        """Estimate x_0 of every branch, the guide's by the other model."""
        kept = tuple(branch for branch in branches if not branch.guide)
        if len(kept) == len(branches):
            return own(x_t, t, branches)
        rows = len(x_t) // len(branches)
        parts = [own(x_t[: len(kept) * rows], t, kept)] if kept else []
        parts.append(guide(x_t[len(kept) * rows :], t, branches[len(kept) :]))
        fractions = [part.variance_fraction for part in parts if part.variance_fraction is not None]
        return Denoised(torch.cat([part.x_0 for part in parts]), torch.cat(fractions) if fractions else None)

    return denoise_branches
