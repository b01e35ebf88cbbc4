"""How many samples show the class that was asked for, as a classifier reads them, beside real pictures that it never saw.

    ldm evaluate fit-features cifar10-dit pictures=60000 seed=5 --out reader
    python benchmarks/classes_read.py RUN [RUN ...] --reader reader --real 'shards of other pictures' --json classes.json

All runs draw the same seeds with the same classes in turn, by their recipe's sampler, or as KEY=VALUE of `--sampling` says. The
share has a 95 % interval by Wilson's formula. Beside it stands the mean probability that the classifier gives to the class.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from figures import processor
from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.commands.sample import sample_pixels
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import apply_overrides
from open_ldm.core.pictures import to_images
from open_ldm.data.order import sample_at
from open_ldm.evaluation.features.classifier import ClassifierConfig, ClassifierExtractor
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest

BATCH = 50


@dataclass(frozen=True)
class Share:
    """Pictures that are read as their class: share of `pictures`, its interval, and the mean probability of that class."""

    what: str
    pictures: int
    share: float
    low: float
    high: float
    probability: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.what}: {self.share:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.pictures:,} read as their class, "
            f"probability {self.probability:.3f}"
        )


def share_of(what: str, read: Sequence[tuple[bool, float]]) -> Share:
    """Summarise pairs of whether a picture was read right and the probability of its class."""
    count, z = len(read), 1.959964
    share = sum(right for right, _ in read) / count
    middle, spread = share + z**2 / (2 * count), z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = (min(1.0, max(0.0, (middle + sign * spread) / (1 + z**2 / count))) for sign in (-1, 1))
    return Share(what, count, share, low, high, sum(probability for _, probability in read) / count)


def readings(reader: ClassifierExtractor, pixels: Tensor, names: Sequence[str]) -> list[tuple[bool, float]]:
    """Read pictures uint8 [B, C, H, W] of the classes `names` [B]."""
    probabilities = reader.extract(to_images(pixels)).probabilities
    assert probabilities is not None
    wanted = torch.tensor([reader.class_names.index(name) for name in names])
    right = probabilities.argmax(dim=1) == wanted
    return list(zip(right.tolist(), probabilities.gather(1, wanted[:, None])[:, 0].tolist(), strict=True))


def sampled(run: LoadedRun, settings: SamplingConfig, count: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Draw pictures of all classes in turn, with the seeds 0 to `count` - 1: pixels and the names of their classes."""
    classes = run.known.facts.class_names
    if not classes:
        raise ConfigError(f"{run.path} knows no classes", needed="a class-conditional run")
    for start in range(0, count, BATCH):
        seeds = range(start, min(start + BATCH, count))
        names = [classes[seed % len(classes)] for seed in seeds]
        requests = [SampleRequest(seed, name, {}) for seed, name in zip(seeds, names, strict=True)]
        yield sample_pixels(run, requests, settings), names


def real(path: Path, count: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Read labelled pictures, at most `count` of all classes, one by one since their sizes may differ."""
    source = open_pictures(path)
    for position in range(min(count, len(source))):
        sample = source[sample_at(0, position, len(source))]
        if sample.label is None:
            raise ConfigError(f"picture {sample.id} of {path} has no class", needed="labelled pictures")
        yield torch.from_numpy(sample.pixels).movedim(2, 0)[None], [source.class_names[sample.label]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print run by run, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or checkpoints in them")
    parser.add_argument("--reader", type=Path, required=True, help="a folder of `ldm evaluate fit-features`")
    parser.add_argument("--real", type=Path, help="labelled pictures that took part in nothing")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--sampling", nargs="+", default=[], metavar="KEY=VALUE", help="changes such as steps=10")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    reader = ClassifierConfig(path=args.reader).build(torch.device("cpu"))
    found: list[Share] = []

    def tell(what: str, drawn: Iterator[tuple[Tensor, list[str]]]) -> None:
        found.append(share_of(what, [pair for pixels, names in drawn for pair in readings(reader, pixels, names)]))
        print(found[-1].text(), flush=True)
        if args.json:
            content = {"date": date.today().isoformat(), "processor": processor(), "shares": [asdict(each) for each in found]}
            args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    for path in args.runs:
        run = load_run(path)
        if args.real and not found:
            tell("real pictures", real(args.real, args.pictures))
        settings = SamplingConfig.model_validate(apply_overrides(run.recipe.sampling.model_dump(mode="json"), args.sampling))
        tell(str(path), sampled(run, settings, args.pictures))


if __name__ == "__main__":
    main()
