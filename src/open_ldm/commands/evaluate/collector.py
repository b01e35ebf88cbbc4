"""The pass over the pictures of an evaluation: by one command, by several tasks, or joined from what tasks collected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.commands.evaluate.parts import PartCollected, Parts, capacity_of, require_enough
from open_ldm.commands.evaluate.pictures import GivenPictures, SampledPictures
from open_ldm.commands.evaluate.reference import counted
from open_ldm.core.distributed import World
from open_ldm.core.events import Progress
from open_ldm.core.meetings import Meetings
from open_ldm.core.signals import StopRequest
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.parts import PartFolder, join_parts
from open_ldm.evaluation.pictures import Pictures
from open_ldm.evaluation.statistics import Statistics, collect, nothing_of


@dataclass
class Collector:
    """Collects statistics of pictures.

    Attributes:
        pictures: The pictures.
        parts: How they are divided, and where what was collected is kept.
        world: The processes that share them.
        watched: Makes of a progress line what is told how many pictures are done, and raises StoppedError after a signal.
        stop: That signal, which also ends a wait for the other processes.
        silent: Show no progress.
    """

    pictures: SampledPictures | GivenPictures
    parts: Parts
    world: World
    watched: Callable[[Progress], Callable[[int], None]]
    stop: StopRequest
    silent: bool
    _own: PartFolder | None = None

    def samples(self, extractors: Sequence[FeatureExtractor]) -> tuple[Statistics, ...]:
        """Collect them, going on from what was kept in the last ten minutes before a kill, or join what tasks collected.

        Raises:
            DataError: A task's part is missing, or as `collect`.
            StoppedError: A stop signal came.
        """
        root, capacity = self._root(extractors), capacity_of(self.pictures)
        if self.parts.join and root is not None:
            found: list[Statistics] = []
            self.world.everyone(lambda: found.extend(join_parts(root, len(extractors), capacity)), "the parts")
            return tuple(found) or tuple(map(nothing_of, extractors))
        self._own = self.parts.own(root, self.world)
        meetings = self._meetings()

        def to_the_last(batches: Iterable[Pictures]) -> Iterator[Pictures]:
            """Give this process's pictures, and end once those of all processes are done."""
            yield from meetings.during(batches)
            meetings.wait()

        return self._collected(extractors, self._own, self.world, to_the_last)

    def part(self, extractors: Sequence[FeatureExtractor]) -> PartCollected:
        """Collect one task's share and keep it.

        Raises:
            ConfigError: There are more shares than batches.
            StoppedError: A stop signal came; the same task goes on from what was kept.
        """
        require_enough(self.pictures, self.parts.share(self.world).size)
        root, task = self._root(extractors), self.parts.task
        own = self.parts.own(root, self.world)
        assert root is not None and task is not None and own is not None
        meetings = self._meetings()
        if not own.whole:
            own.keep(self._collected(extractors, own, World(), meetings.during), whole=True)
        meetings.wait()
        return PartCollected(task, sum(self.world.gathered(own.pictures, "pictures of the part")), root)

    def forget(self) -> None:
        """Remove what was kept on the way, once the results are written down; whole parts of tasks stay, for `--join`."""
        if self._own is not None and not self._own.whole:
            self._own.remove()

    def _collected(
        self,
        extractors: Sequence[FeatureExtractor],
        own: PartFolder | None,
        world: World,
        meeting: Callable[[Iterable[Pictures]], Iterator[Pictures]],
    ) -> tuple[Statistics, ...]:
        label = "sample" if isinstance(self.pictures, SampledPictures) else "read"
        share, skip = self.parts.share(self.world), 0 if own is None else own.batches
        with Progress(-(-len(self.pictures) // share.size), label=label, unit="pictures", silent=self.silent) as progress:
            left = iter(()) if own is not None and own.whole else self.pictures.batches(share, skip)
            batches = meeting(counted(left, self.watched(progress)))
            return collect(batches, extractors, capacity=capacity_of(self.pictures), world=world, kept=own)

    def _meetings(self) -> Meetings:
        return Meetings(self.world, self._note, self.stop)

    def _note(self, text: str) -> None:
        if not self.silent:
            print(f"note: {text}", file=sys.stderr)

    def _root(self, extractors: Sequence[FeatureExtractor]) -> Path | None:
        return self.parts.root(self.pictures, [extractor.id.to_json() for extractor in extractors])
