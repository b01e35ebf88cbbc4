"""Reading batches from a finished cache, as live encoding would give them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.controls.base import Control
from open_ldm.core.device import moved
from open_ldm.core.hashes import hash_content
from open_ldm.data.measures import with_measures
from open_ldm.data.order import view_at
from open_ldm.data.sample import BadSample, TransformRecord
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.encoded.cache.columns import read_columns
from open_ldm.encoded.cache.mapped import Array, MappedSection, as_array
from open_ldm.encoded.cache.records import read_record
from open_ldm.encoded.cache.samples import NO_LABEL
from open_ldm.sources.loader import draw_caption_number
from open_ldm.text.tokens import TextTokens

_BATCHES_AHEAD_PER_THREAD = 2


@dataclass(frozen=True)
class CachedData:
    """The open sections of a cache: `latents` has one for each fixed view; `text` is None when the model reads no captions.

    `measures` is None when no control reads whole pictures, `columns` when none reads columns of metadata.
    """

    latents: Sequence[MappedSection]
    text: MappedSection | None
    samples: MappedSection
    length: int
    measures: MappedSection | None = None
    columns: MappedSection | None = None

    @property
    def content_hash(self) -> str:
        """Hash of all bytes that training reads."""
        sections = [*self.latents, self.text, self.samples, self.measures, self.columns]
        return hash_content([section.content_hash for section in sections if section is not None])

    @property
    def bad(self) -> tuple[BadSample, ...]:
        """All bad samples that were replaced."""
        return tuple(bad for section in self.latents for bad in section.bad)


class CacheReader:
    """Reads batches from a cache.

    Args:
        data: The open cache.
        seed: The run's seed, the key of the order and of the choice of captions.
        controls: The model's controls, fitted to its data.
        label_order: As in `LiveEncoder`.
    """

    def __init__(self, data: CachedData, seed: int, controls: Sequence[Control], label_order: Tensor | None = None) -> None:
        self.data, self.seed, self.controls, self.label_order = data, seed, tuple(controls), label_order

    def read(self, positions: Sequence[int]) -> EncodedBatch:
        """Read the batch of these positions, on the CPU, in the stored number formats."""
        views = [view_at(self.seed, position, self.data.length, len(self.data.latents)) for position in positions]
        first = self.data.latents[0].first
        mean = torch.empty((len(positions), *first["mean"].shape[1:]), dtype=first["mean"].dtype)
        std = torch.empty_like(mean) if "std" in first else None
        means, stds = as_array(mean), None if std is None else as_array(std)
        indices, records = [], []
        for row, view in enumerate(views):
            arrays, at = self.data.latents[view.view or 0].at(view.index)
            means[row] = arrays["mean"][at]
            if stds is not None:
                stds[row] = arrays["std"][at]
            indices.append(int(arrays["index"][at]))
            records.append(self._measured(read_record(arrays, at), indices[-1]))
        return EncodedBatch(
            positions=tuple(positions),
            posterior=Posterior(mean, std),
            labels=self._labels(indices),
            text=None if self.data.text is None else self._text(self.data.text, indices, positions),
            controls={control.key: control.numbers_of(records) for control in self.controls},
        )

    def _measured(self, record: TransformRecord, index: int) -> TransformRecord:
        """Return the record with the measures and the metadata of the picture that it was made of."""
        if self.data.measures is not None:
            arrays, at = self.data.measures.at(index)
            record = with_measures(record, {name: float(column[at]) for name, column in arrays.items()})
        if self.data.columns is not None:
            arrays, at = self.data.columns.at(index)
            record = replace(record, columns=read_columns(arrays, at, self.data.columns.made_from))
        return record

    def _labels(self, indices: Sequence[int]) -> Tensor | None:
        stored = [int(arrays["label"][at]) for arrays, at in map(self.data.samples.at, indices)]
        if NO_LABEL in stored:
            return None
        labels = torch.tensor(stored, dtype=torch.long)
        return labels if self.label_order is None else self.label_order[labels]

    def _text(self, text: MappedSection, indices: Sequence[int], positions: Sequence[int]) -> TextTokens:
        """Read the drawn caption of each sample, with its tokens at their positions and zeros elsewhere."""
        first = text.first
        shape = (len(indices), *first["mask"].shape[1:], *first["tokens"].shape[1:])
        ids = first["tokens"].dtype == torch.int32
        tokens = torch.empty(shape, dtype=torch.long if ids else first["tokens"].dtype)
        mask = torch.empty(shape[:2], dtype=torch.bool)
        pooled = (
            torch.empty((len(indices), *first["pooled"].shape[1:]), dtype=first["pooled"].dtype) if "pooled" in first else None
        )
        token_rows, mask_rows, pooled_rows = as_array(tokens), mask.numpy(), None if pooled is None else as_array(pooled)
        for row, (index, position) in enumerate(zip(indices, positions, strict=True)):
            arrays, at = text.at(index)
            start, stop = arrays["first"][at : at + 2].tolist()
            drawn = start + draw_caption_number(stop - start, self.seed, position)
            caption = int(arrays["captions"][drawn])
            begin, end = arrays["begin"][caption : caption + 2].tolist()
            mask_rows[row] = arrays["mask"][caption]
            _unpack(arrays["tokens"][begin:end], mask_rows[row], token_rows[row])
            if pooled_rows is not None:
                pooled_rows[row] = arrays["pooled"][caption]
        return TextTokens(tokens, mask, pooled)

    def batches(self, position_ranges: Iterable[Sequence[int]], threads: int) -> Iterator[EncodedBatch]:
        """Read one EncodedBatch per item of `position_ranges`, in order, ahead of time by threads; with 0, when it is used."""
        if threads == 0:
            yield from map(self.read, position_ranges)
            return
        ranges = iter(position_ranges)
        with ThreadPoolExecutor(threads, thread_name_prefix="cache-reader") as pool:
            ahead: deque[Future[EncodedBatch]] = deque()
            try:
                for positions in islice(ranges, threads * _BATCHES_AHEAD_PER_THREAD):
                    ahead.append(pool.submit(self.read, positions))
                while ahead:
                    batch = ahead.popleft().result()
                    for positions in islice(ranges, 1):
                        ahead.append(pool.submit(self.read, positions))
                    yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _unpack(packed: Array, mask: Array, tokens: Array) -> None:
    """Write a caption's tokens where its mask is True, or at all positions when all were stored; zeros elsewhere."""
    count = len(packed)
    if count == len(tokens):
        tokens[:] = packed
    elif mask[:count].all():
        tokens[:count] = packed
        tokens[count:] = 0
    else:
        tokens[mask] = packed
        tokens[~mask] = 0


class ToDevice:
    """Moves cached batches to the device of training, in float32."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode(self, batch: EncodedBatch) -> EncodedBatch:
        """Return the batch as live encoding gives it."""
        std, text = batch.posterior.std, batch.text
        posterior = Posterior(self._moved(batch.posterior.mean), None if std is None else self._moved(std))
        if text is not None and text.tokens.is_floating_point():
            pooled = None if text.pooled is None else self._moved(text.pooled)
            text = TextTokens(self._moved(text.tokens), moved(text.mask, self.device), pooled)
        return replace(batch, posterior=posterior, text=text)

    def _moved(self, tensor: Tensor) -> Tensor:
        return moved(tensor, self.device).float()
