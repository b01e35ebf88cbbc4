"""Text section: the tokens of every caption before padding, so that padding and its noise stay the training's own."""

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
"""A shard is at most so many times as large as asked for, unless a single sample is."""


def text_plan(captions: str, length: int, encoder: TextEncoder, config: CacheConfig, *, all_places: bool) -> SectionPlan:
    """The captions of all samples. `captions`: the source's hash of them; `length`: number of samples; `all_places`: also
    what the encoder put where a caption has no token."""
    made_from = {
        "captions": captions,
        "encoder": encoder.fingerprint,
        "computed_in": encoder.computed_in,
        "places": "all" if all_places else "tokens",
        "dtype": config.tokens,
    }
    return SectionPlan("text", made_from, length)


class TextMaker:
    """Makes the shards of a text section. A caption that occurs again within a shard is stored once."""

    def __init__(self, source: Source, encoder: TextEncoder, config: CacheConfig, *, all_places: bool) -> None:
        self.source, self.encoder, self.config, self.all_places = source, encoder, config, all_places

    def rows_per_shard(self, shard_bytes: int) -> int:
        """As many samples as fill so many bytes by a few drawn from all over the data.

        Halved until no shard could have more than four times as many bytes, were every caption of its samples as long as can be
        and said once: captions that grow longer or more numerous towards the end of the data make no giant file.
        """
        probed = self.encode(spread(len(self.source), _PROBED_SAMPLES), Work())
        rows = max(1, shard_bytes * (len(probed["first"]) - 1) // sum(tensor.nbytes for tensor in probed.values()))
        largest = np.array([len(self._captions(row)) for row in range(len(self.source))]) * self._largest_caption(probed)
        limit = max(_MOST_ABOVE * shard_bytes, int(largest.max()))
        while rows > 1 and np.add.reduceat(largest, np.arange(0, len(largest), rows)).max() > limit:
            rows //= 2
        return rows

    def _largest_caption(self, probed: Mapping[str, Tensor]) -> int:
        """Bytes of a caption with a token at every place."""
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
        """Captions of samples as they are stored. With U different captions that have N tokens in all:

        `first` int64 [rows + 1] and `captions` int32: captions first[i] .. first[i + 1] are those of row i, as numbers below
        U; `mask` bool [U, L]; `begin` int64 [U + 1]: where a caption's tokens begin in `tokens` [N, D] or ids [N];
        `pooled` [U, P] where the encoder gives it.
        """
        with work.during("captions"):
            said = [self._captions(row) for row in rows]
        number = {caption: place for place, caption in enumerate(dict.fromkeys(one for row in said for one in row))}
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
            "first": _running(torch.tensor([len(row) for row in said], dtype=torch.int64)),
            "captions": torch.tensor([number[one] for row in said for one in row], dtype=torch.int32),
        }

    def _captions(self, row: int) -> tuple[str, ...]:
        """As live reading gives them: a picture without a caption has the empty one."""
        return self.source.captions_of(row) or ("",)

    def _packed(self, text: TextTokens) -> dict[str, Tensor]:
        tokens, mask = text.tokens.cpu(), text.mask.cpu()
        kept = torch.ones_like(mask) if self.all_places else mask
        dtype = DTYPES[self.config.tokens] if tokens.is_floating_point() else torch.int32
        packed = {"mask": mask, "tokens": tokens[kept].to(dtype), "count": kept.sum(dim=1)}
        return packed if text.pooled is None else {**packed, "pooled": text.pooled.to("cpu", DTYPES[self.config.tokens])}


def _running(counts: Tensor) -> Tensor:
    """[n] -> [n + 1]: 0 and the running sums."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
