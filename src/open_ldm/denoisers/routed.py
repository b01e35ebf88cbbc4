"""A transformer whose training passes may leave image tokens out of the middle blocks (blocks/routing.py)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.base import Denoiser, Prediction, TrainingPass
from open_ldm.denoisers.blocks.embeddings import grid_of
from open_ldm.denoisers.blocks.routing import Route, RoutingConfig


class RoutedDenoiser(Denoiser):
    """A transformer whose training passes may be routed; its `forward` takes the kept tokens as its last argument.

    Attributes:
        patch: Side of a token in latent pixels.
        routing: How; None runs every block on every token.
    """

    patch: int
    routing: RoutingConfig | None
    blocks: nn.ModuleList

    def route(self, kept: Tensor | None, image: int) -> Route:
        """Return the way through the blocks for a batch whose pictures have `image` tokens."""
        return Route(self.routing, kept, image, len(self.blocks))

    def training_passes(self, draws: Draws) -> Sequence[TrainingPass]:
        """See `Denoiser.training_passes`."""
        if (routing := self.routing) is None:
            return super().training_passes(draws)

        def routed(x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
            """Predict with a part of the tokens in the middle blocks."""
            rows, columns = grid_of(x_t, self.patch)
            prediction: Prediction = self(x_t, time, conditions, routing.kept(draws, rows * columns))
            return prediction

        return (TrainingPass(routed),)
