"""Encoding a batch: pictures as raw latents, captions as tokens, transform records as control numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Autoencoder, Posterior
from open_ldm.controls.base import Control
from open_ldm.core.device import moved
from open_ldm.core.pictures import to_images
from open_ldm.data.sample import BadSample, Batch
from open_ldm.text import TextEncoder, TextTokens


@dataclass(frozen=True)
class EncodedBatch:
    """All that training reads of B views.

    Attributes:
        positions: Position of each view in the sample order.
        posterior: Posterior over the raw latents.
        labels: The model's class labels [B], int64; None without classes.
        text: Tokens of the captions; None when the model reads none.
        controls: Numbers [B, n] of each control, by its key.
        bad: Samples that had to be replaced while the views were read; a cache reports them when it is opened instead.
    """

    positions: tuple[int, ...]
    posterior: Posterior
    labels: Tensor | None
    text: TextTokens | None
    controls: Mapping[str, Tensor]
    bad: tuple[BadSample, ...] = ()


class LiveEncoder:
    """Encodes each batch when it is read.

    Args:
        autoencoder: The autoencoder.
        controls: The model's controls, fitted to its data.
        device: Where to encode.
        text_encoder: The encoder of captions; None when the model reads none.
        label_order: The model's label of each class of the source [classes], int64; None when they are the same.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        controls: Sequence[Control],
        device: torch.device,
        text_encoder: TextEncoder | None = None,
        label_order: Tensor | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.controls = tuple(controls)
        self.device = device
        self.text_encoder = text_encoder
        self.label_order = label_order

    def encode(self, batch: Batch) -> EncodedBatch:
        """Encode everything that the model may read of a batch, on the encoder's device."""
        text = None
        if self.text_encoder is not None and batch.captions is not None:
            text = self.text_encoder.encode(batch.captions)
        labels = batch.labels
        if labels is not None and self.label_order is not None:
            labels = self.label_order[labels]
        return EncodedBatch(
            positions=batch.positions,
            posterior=self.autoencoder.encode(to_images(moved(batch.pixels, self.device))),
            labels=labels,
            text=text,
            controls={control.key: control.numbers_of(batch.records) for control in self.controls},
            bad=batch.bad,
        )
