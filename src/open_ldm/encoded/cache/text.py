"""The text section: the tokens of every caption before padding, so that training still does the padding and its noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from open_ldm.data.sample import Source
from open_ldm.data.survey import spread
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.config import DTYPES, CacheConfig
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent
from open_ldm.text import TextEncoder, TextTokens

_CAPTIONS_AT_ONCE = 64
_PROBED_SAMPLES = 256
_MOST_ABOVE = 4
"""A shard is at most so many times as large as requested, unless a single sample is larger."""


def text_plan(captions: str, length: int, encoder: TextEncoder, config: CacheConfig, *, all_positions: bool) -> SectionPlan:
    """Describe the section of the captions of all samples.

    Args:
        captions: The source's hash of its captions.
        length: Number of samples.
        encoder: The text encoder.
        config: The number format.
        all_positions: Also store the encoder's output where a caption has no token.
    """
    made_from = {
        "captions": captions,
        "encoder": encoder.fingerprint,
        "computed_in": encoder.computed_in,
        "places": "all" if all_positions else "tokens",
        "dtype": config.tokens,
    }
    return SectionPlan("text", made_from, length)


class TextMaker:
    """Makes the shards of a text section. A caption that occurs again within a shard is stored once."""

    def __init__(self, source: Source, encoder: TextEncoder, config: CacheConfig, *, all_positions: bool) -> None:
        self.source, self.encoder, self.config, self.all_positions = source, encoder, config, all_positions

    def rows_per_shard(self, shard_bytes: int) -> int:
        """Estimate how many samples fill a shard of so many bytes, from a few drawn from all over the data.

        The number is halved until no shard can exceed four times the size even if every caption of its samples is different
        and as long as possible. Captions that become longer or more numerous towards the end then make no huge file.
        """
        probed = self.encode(spread(len(self.source), _PROBED_SAMPLES), Work())
        rows = max(1, shard_bytes * (len(probed["first"]) - 1) // sum(tensor.nbytes for tensor in probed.values()))
        largest = np.array([len(self._captions(row)) for row in range(len(self.source))]) * self._largest_caption(probed)
        limit = max(_MOST_ABOVE * shard_bytes, int(largest.max()))
        while rows > 1 and np.add.reduceat(largest, np.arange(0, len(largest), rows)).max() > limit:
            rows //= 2
        return rows

    def _largest_caption(self, probed: Mapping[str, Tensor]) -> int:
        """Compute the bytes of a caption with a token at every position."""
        row = {name: tensor.element_size() * math.prod(tensor.shape[1:]) for name, tensor in probed.items()}
        return sum(row.values()) + (probed["mask"].shape[1] - 1) * row["tokens"]

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Encode the captions of one shard after the other."""
        for shard in shards:
            rows = section.rows_of(shard)
            content = ShardContent(self.encode(rows, work))
            work.progressed(len(rows))
            yield shard, content

    def encode(self, rows: Sequence[int], work: Work) -> dict[str, Tensor]:
        """Encode the captions of samples as they are stored. With U different captions that have N tokens in all:

        `first` int64 [rows + 1] and `captions` int32: captions first[i] to first[i + 1] - 1 belong to row i, as numbers below
        U; `mask` bool [U, L]; `begin` int64 [U + 1]: where a caption's tokens begin in `tokens` [N, D] or ids [N];
        `pooled` [U, P] where the encoder gives it.
        """
        with work.during("captions"):
            by_row = [self._captions(row) for row in rows]
        unique = dict.fromkeys(caption for captions in by_row for caption in captions)
        number = {caption: index for index, caption in enumerate(unique)}
        different = list(number)
        parts = []
        for start in range(0, len(different), _CAPTIONS_AT_ONCE):
            work.check_stop()
            with work.during("text encoder"):
                parts.append(self._packed(self.encoder.encode(different[start : start + _CAPTIONS_AT_ONCE])))
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        counts = tensors.pop("count")
        return {
            **tensors,
            "begin": _running(counts),
            "first": _running(torch.tensor([len(captions) for captions in by_row], dtype=torch.int64)),
            "captions": torch.tensor([number[caption] for captions in by_row for caption in captions], dtype=torch.int32),
        }

    def _captions(self, row: int) -> tuple[str, ...]:
        """Return a sample's captions as live reading gives them: a picture without a caption has the empty one."""
        return self.source.captions_of(row) or ("",)

    def _packed(self, text: TextTokens) -> dict[str, Tensor]:
        tokens, mask = text.tokens.cpu(), text.mask.cpu()
        kept = torch.ones_like(mask) if self.all_positions else mask
        dtype = DTYPES[self.config.tokens] if tokens.is_floating_point() else torch.int32
        packed = {"mask": mask, "tokens": tokens[kept].to(dtype), "count": kept.sum(dim=1)}
        return packed if text.pooled is None else {**packed, "pooled": text.pooled.to("cpu", DTYPES[self.config.tokens])}


def _running(counts: Tensor) -> Tensor:
    """Return 0 and the running sums: [n] becomes [n + 1]."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
