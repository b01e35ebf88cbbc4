"""The samples section: labels and ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from open_ldm.data.sample import IndexHashes, Source
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent

ROWS_PER_SHARD = 1 << 16
NO_LABEL = -1


def samples_plan(hashes: IndexHashes, length: int, class_names: Sequence[str]) -> SectionPlan:
    """Describe the section of the labels and ids of all samples."""
    made_from = {"pictures": hashes.pictures, "labels": hashes.labels, "class_names": list(class_names)}
    return SectionPlan("samples", made_from, length)


class SamplesMaker:
    """Makes the shards of a samples section."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Make shards from the source's index; no picture is read."""
        for shard in shards:
            rows = section.rows_of(shard)
            with work.during("labels and ids"):
                content = ShardContent(self.encode(rows))
            work.progressed(len(rows))
            yield shard, content

    def encode(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Encode samples as they are stored.

        Returns:
            `label` int64 [rows], -1 for none; `ids` uint8, the ids in UTF-8 one after the other; `begin` int64 [rows + 1],
            where each id begins.
        """
        labels = [self.source.label_of(row) for row in rows]
        ids = [self.source.sample_id(row).encode() for row in rows]
        lengths = torch.tensor([0, *map(len, ids)], dtype=torch.int64)
        return {
            "label": torch.tensor([NO_LABEL if label is None else label for label in labels], dtype=torch.int64),
            "ids": torch.frombuffer(bytearray(b"".join(ids)), dtype=torch.uint8),
            "begin": lengths.cumsum(0),
        }
