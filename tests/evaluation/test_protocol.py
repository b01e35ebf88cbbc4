from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_share
from open_ldm.evaluation.measure import measure
from open_ldm.evaluation.metrics import (
    CLIPScoreConfig,
    DensityCoverageConfig,
    FIDConfig,
    InceptionScoreConfig,
    KIDConfig,
    PrecisionRecallConfig,
)
from open_ldm.evaluation.protocol import MeasurementProtocol, Result, compare, sampling_of, seeds_in_words
from open_ldm.evaluation.statistics import Statistics, collect
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.guidance import GuidanceConfig
from tests.evaluation.sets import batches, images, normal_statistics, small_extractor

QUICK = BootstrapConfig(replicates=20)
SAMPLING = SamplingConfig(solver="ddim", steps=50, guidance=GuidanceConfig(semantic_scale=3.0))


def statistics(count: int = 40, seed: int = 0, extractor_seed: int = 0, size_px: int = 16) -> Statistics:
    (found,) = collect(batches(images(count, size_px, seed), 16), [small_extractor(extractor_seed)])
    return found


def one_result(
    samples: Statistics | None = None,
    reference: Statistics | None = None,
    sampling: SamplingConfig = SAMPLING,
    bootstrap: BootstrapConfig = QUICK,
    metric: FIDConfig | KIDConfig | None = None,
) -> Result:
    found = measure(
        [metric or KIDConfig()],
        samples or statistics(seed=1),
        reference or statistics(),
        sampling=sampling_of(sampling, range(40)),
        bootstrap=bootstrap,
    )
    assert not found.refused
    return found.results[0]


def test_a_protocol_says_all_that_decides_the_number() -> None:
    reference = statistics()
    entries = one_result(reference=reference).protocol.entries
    assert entries["metric"] == "kid(subset_size=1000, subsets=100, seed=0)"
    assert entries["extractor.name"] == "random"
    assert len(entries["extractor.weights"]) == 64
    assert "bilinear to 16x16 px" in entries["extractor.resize"]
    assert "8 bits" in entries["extractor.rounding"]
    assert (entries["n"], entries["reference_n"], entries["size_px"]) == ("40", "40", "16x16")
    assert entries["reference"] == reference.pictures.hash
    assert entries["sampling.seeds"] == "0..39"
    assert (entries["sampling.solver"], entries["sampling.steps"]) == ('"ddim"', "50")
    assert entries["sampling.guidance.semantic_scale"] == "3.0"
    assert entries["sampling.guidance.control_scale"] == "1.0"
    assert "sampling.batch_size" not in entries  # memory only: it changes no picture
    assert entries["interval"].startswith("95% by 20 bootstrap replicates")


def test_the_difference_of_shares_takes_the_side_of_each_interval_that_faces_the_other() -> None:
    protocol = MeasurementProtocol({"metric": "precision_recall(neighbours=3)"})
    all_of_ten, nine = torch.ones(10), torch.tensor([1.0] * 9 + [0.0])
    one, other = (Result(estimate_share("precision", hits, QUICK), protocol) for hits in (all_of_ten, nine))
    found, back = compare(one, other), compare(other, one)
    assert found.low == pytest.approx(-0.1 - (0.9 - other.estimate.low))
    assert found.high == pytest.approx(-0.1 + math.hypot(other.estimate.high - 0.9, 1 - one.estimate.low))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    assert not found.clear, "nine and ten of ten are no difference"


def test_equal_protocols_are_compared() -> None:
    one, other = one_result(statistics(seed=1)), one_result(statistics(seed=2))
    assert one.protocol.id == other.protocol.id
    found = compare(one, other)
    assert found.value == pytest.approx(other.estimate.value - one.estimate.value)
    reach = [each.estimate.high - each.estimate.value for each in (one, other)]
    assert found.high - found.value == pytest.approx((reach[0] ** 2 + reach[1] ** 2) ** 0.5)
    assert found.clear == (not found.low <= 0 <= found.high)
    same = one_result(sampling=SAMPLING.model_copy(update={"batch_size": 3}))
    assert same.protocol.id == one.protocol.id


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: one_result(statistics(count=30, seed=1)), "n: 40 against 30"),
        (lambda: one_result(reference=statistics(seed=9)), "reference: "),
        (lambda: one_result(statistics(40, 1, 5), statistics(40, 0, 5)), "extractor.weights: "),
        (lambda: one_result(statistics(40, 1, 0, 8), statistics(40, 0, 0, 8)), "size_px: 16x16 against 8x8"),
        (lambda: one_result(metric=KIDConfig(subsets=7)), "metric: kid(subset_size=1000, subsets=100, seed=0) against kid("),
        (lambda: one_result(metric=FIDConfig()), "kid against fid"),
        (lambda: one_result(bootstrap=BootstrapConfig(replicates=30)), "interval: "),
        (
            lambda: one_result(sampling=SamplingConfig(solver="ddim", steps=50)),
            "sampling.guidance.semantic_scale: 3.0 against 1.0",
        ),
        (lambda: one_result(sampling=SAMPLING.model_copy(update={"steps": 10})), "sampling.steps: 50 against 10"),
    ],
)
def test_different_protocols_are_refused_and_the_difference_named(other: object, named: str) -> None:
    one = one_result()
    with pytest.raises(ConfigError) as caught:
        compare(one, other())  # type: ignore[operator]
    assert named in caught.value.one_line()
    assert "\n" not in caught.value.one_line()


def test_what_is_varied_on_purpose_may_differ() -> None:
    one, other = one_result(), one_result(sampling=SAMPLING.model_copy(update={"steps": 10}))
    assert compare(one, other, varied={"sampling.steps"}).name == "kid"
    assert compare(one, other, varied={"sampling"}).name == "kid"
    with pytest.raises(ConfigError, match=r"sampling\.steps"):
        compare(one, other, varied={"sampling.seeds"})


def test_results_survive_json_and_changed_protocols_do_not() -> None:
    one = one_result()
    content = json.loads(json.dumps(one.to_json()))
    assert Result.from_json(content) == one
    content["passport"]["n"] = "50000"
    with pytest.raises(ConfigError, match="do not hash to its protocol id"):
        Result.from_json(content)
    with pytest.raises(ConfigError, match="not a stored result"):
        Result.from_json({"name": "fid"})


def test_seeds_in_words() -> None:
    assert seeds_in_words([3, 1, 2]) == "1..3"
    assert seeds_in_words([]) == "none"
    assert seeds_in_words([1, 5]) == seeds_in_words([5, 1]) != seeds_in_words([1, 6])


def test_one_metric_that_refuses_does_not_cost_the_others() -> None:
    few, many = normal_statistics(12, 20, 1), normal_statistics(300, 20, 2)
    metrics = [FIDConfig(), KIDConfig(), InceptionScoreConfig(), PrecisionRecallConfig(), CLIPScoreConfig()]
    found = measure(metrics, few, many, bootstrap=QUICK)
    assert [each.estimate.name for each in found.results] == ["kid", "precision", "recall"]
    assert set(found.refused) == {"fid", "inception_score", "clip_score"}
    assert "use kid" in found.refused["fid"]


def test_one_picture_is_refused_by_every_metric() -> None:
    metrics = [FIDConfig(), KIDConfig(), InceptionScoreConfig(), PrecisionRecallConfig(), DensityCoverageConfig()]
    found = measure(metrics, normal_statistics(1, 4, 1), normal_statistics(50, 4, 2), bootstrap=QUICK)
    assert not found.results
    assert len(found.refused) == 5
    assert all("\n" not in reason for reason in found.refused.values())


def test_without_a_reference_only_what_needs_none_is_measured() -> None:
    found = measure([FIDConfig(), InceptionScoreConfig()], statistics(), bootstrap=QUICK)
    (score,) = found.results
    assert (score.estimate.name, score.protocol.entries["reference"]) == ("inception_score", "none")
    assert "needs a reference" in found.refused["fid"]
    with_one = measure([InceptionScoreConfig()], statistics(), statistics(seed=3), bootstrap=QUICK)
    assert with_one.results[0].protocol == score.protocol


def test_every_entry_counts_for_the_id() -> None:
    protocol = one_result().protocol
    for name in protocol.entries:
        changed = MeasurementProtocol({**protocol.entries, name: "else"})
        assert changed.id != protocol.id
        assert [line.split(":")[0] for line in changed.differences(protocol)] == [name]


def test_the_bank_is_named_where_it_could_not_hold_all() -> None:
    (small,) = collect(batches(images(40, seed=1), 16), [small_extractor()], capacity=25)
    found = measure([KIDConfig()], small, statistics(), bootstrap=QUICK)
    assert found.results[0].protocol.entries["n"] == "40 (25 singly)"
    assert replace(small, rows=small.rows).moments.count == 40


def protocol_with(**sampling: str) -> MeasurementProtocol:
    plain = one_result().protocol.entries
    return MeasurementProtocol({**plain, **{f"sampling.{name}": value for name, value in sampling.items()}})


def test_an_old_protocol_is_read_and_means_labels_at_random() -> None:
    """Stored before protocols said how labels were drawn: the id is a hash of all of its entries, none left out."""
    old = protocol_with()
    plain = json.dumps(dict(sorted(old.entries.items())))
    assert old.id == hashlib.blake2b(plain.encode(), digest_size=6).hexdigest()
    content = {**one_result().to_json(), "passport": dict(old.entries), "protocol": old.id}
    read = Result.from_json(content).protocol
    random, equal = protocol_with(labels="at random"), protocol_with(labels="equal counts")
    assert read.id == random.id != equal.id and not read.differences(random)
    assert read.differences(equal) == ["sampling.labels: at random against equal counts"]


def test_what_a_model_was_trained_on_is_told_but_not_compared() -> None:
    pixels, latents = protocol_with(latents="pixels"), protocol_with(latents="the mean")
    assert pixels.id == latents.id and not pixels.differences(latents)
    content = {**one_result().to_json(), "passport": dict(pixels.entries), "protocol": pixels.id}
    assert Result.from_json(content).to_json()["passport"]["sampling.latents"] == "pixels"
