from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.distance import DistanceName, distance
from open_ldm.evaluation.metrics.control_influence import (
    SIZES_PX,
    ControlInfluenceConfig,
    ControlledPictures,
    pair_distances,
)
from open_ldm.evaluation.protocol import compare, sampling_of
from open_ldm.sampling.generate import SamplingConfig
from tests.evaluation.sets import Process, images, small_extractor

QUICK = BootstrapConfig(replicates=20)
EXTRACTOR = small_extractor()
BASE = images(9, seed=1)
CHANGE = images(9, seed=2)


def under(value: str, strength: float) -> Tensor:
    """Samples that change with the control in proportion to `strength`, small values more."""
    return BASE + strength * (64 / int(value)) * (CHANGE - BASE)


def controlled(strength: float, places: range, sizes: tuple[str, ...] = SIZES_PX) -> ControlledPictures:
    rows = list(places)
    return ControlledPictures({value: under(value, strength)[rows] for value in sizes}, tuple(rows))


@pytest.mark.parametrize("over", ["layers", "vectors"])
def test_it_is_the_mean_over_samples_and_pairs(over: DistanceName) -> None:
    config = ControlInfluenceConfig(over=over)
    found = pair_distances([controlled(1, range(4)), controlled(1, range(4, 9))], EXTRACTOR, config)
    features = {value: EXTRACTOR.extract(under(value, 1)) for value in SIZES_PX}

    def mean(values: tuple[str, ...]) -> float:
        pairs = [distance(features[a], features[b], over) for a, b in itertools.combinations(values, 2)]
        return float(torch.stack(pairs).mean())

    whole, large = found.results(QUICK)
    assert (whole.estimate.name, large.estimate.name) == ("control_influence", "control_influence_large")
    assert whole.estimate.value == pytest.approx(mean(SIZES_PX), rel=1e-5)
    assert large.estimate.value == pytest.approx(mean(("256", "512", "1024")), rel=1e-5)
    assert large.estimate.value < whole.estimate.value
    assert whole.estimate.low < whole.estimate.value < whole.estimate.high
    expected = float(distance(features["64"], features["512"], over).mean())
    assert found.table()["64", "512"] == pytest.approx(expected, rel=1e-5)
    assert len(found.table()) == 10
    none_small = pair_distances([controlled(1, range(4))], EXTRACTOR, config.model_copy(update={"small": ()}))
    assert [one.estimate.name for one in none_small.results(QUICK)] == ["control_influence"]


def test_a_control_without_influence_is_at_zero_and_more_is_more() -> None:
    values = [pair_distances([controlled(s, range(9))], EXTRACTOR).results(QUICK)[0].estimate.value for s in (0, 0.3, 1)]
    assert values[0] == 0
    assert values == sorted(set(values))


def test_order_batches_and_processes_change_nothing() -> None:
    one = pair_distances([controlled(1, range(9))], EXTRACTOR)
    first = Process()
    pair_distances([controlled(1, range(5, 9)), controlled(1, range(2))], EXTRACTOR, world=first)
    both = pair_distances([controlled(1, range(2, 5))], EXTRACTOR, world=Process(first.values))
    assert both.numbers == one.numbers == tuple(range(9))
    torch.testing.assert_close(both.distances, one.distances, rtol=1e-4, atol=1e-8)


def test_its_protocol_names_control_values_and_distance() -> None:
    sampling = sampling_of(SamplingConfig(), range(9))
    layers = pair_distances([controlled(1, range(9))], EXTRACTOR).results(QUICK, sampling)
    vectors = pair_distances([controlled(1, range(9))], EXTRACTOR, ControlInfluenceConfig(over="vectors")).results(
        QUICK, sampling
    )
    assert layers[0].protocol.entries["metric"] == "control_influence(size=64|128|256|512|1024, over=layers)"
    assert layers[0].protocol.entries["n"] == "9"
    assert layers[0].protocol.entries["sampling.seeds"] == "0..8"
    with pytest.raises(ConfigError, match=r"over=layers.* against .*over=vectors"):
        compare(layers[0], vectors[0])
    weaker = pair_distances([controlled(0.2, range(9))], EXTRACTOR).results(QUICK, sampling)
    assert compare(layers[0], weaker[0]).value < 0


def test_other_controls_have_values_of_their_own() -> None:
    config = ControlInfluenceConfig(control="flip", values=("no", "yes"), small=())
    batch = ControlledPictures({"no": BASE, "yes": BASE.flip(-1)}, tuple(range(9)))
    (whole,) = pair_distances([batch], EXTRACTOR, config).results(QUICK)
    assert whole.estimate.value > 0
    only_small = ControlInfluenceConfig(values=("64", "128", "256"))
    (alone,) = pair_distances([controlled(1, range(9))], EXTRACTOR, only_small).results(QUICK)
    assert alone.estimate.name == "control_influence"


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="no pictures for size=1024"):
        pair_distances([controlled(1, range(9), SIZES_PX[:4])], EXTRACTOR)
    with pytest.raises(DataError, match="0 samples"):
        pair_distances([], EXTRACTOR)
    mixed = ControlledPictures({**controlled(1, range(9)).images, "64": images(9, 24)}, tuple(range(9)))
    with pytest.raises(DataError, match="different sizes"):
        pair_distances([mixed], EXTRACTOR)
