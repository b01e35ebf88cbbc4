"""`ldm evaluate`: what a run draws and what lies in a folder, measured alike; and what cannot be measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from open_ldm.commands.choices import members_of
from open_ldm.commands.evaluate import evaluator
from open_ldm.commands.evaluate import pictures as evaluated_pictures
from open_ldm.commands.evaluate import reference as evaluate_reference
from open_ldm.commands.evaluate.collector import Collector
from open_ldm.commands.evaluate.config import AnyMetric, EvaluationConfig, InfluenceMetric, LPIPSMetric
from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.commands.evaluate.influence import measure_influence
from open_ldm.commands.evaluate.lpips import OTHER_NOISE, measure_lpips
from open_ldm.commands.evaluate.options import fit_config_from
from open_ldm.commands.evaluate.parts import PartCollected, Parts
from open_ldm.commands.evaluate.pictures import SampledPictures, open_evaluated
from open_ldm.commands.evaluate.reference import open_against
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.pictures import save_png, to_picture
from open_ldm.core.signals import StopRequest
from open_ldm.core.tasks import Task
from open_ldm.evaluation.features import RandomConfig, build_extractor
from open_ldm.evaluation.features.distance import distance
from open_ldm.evaluation.features.random import RandomExtractor
from open_ldm.evaluation.parts import PartFolder
from open_ldm.evaluation.stored import store
from open_ldm.runs.on_the_way import shown_as_in
from open_ldm.sources.shapes import ShapesConfig
from tests.cli.conftest import ldm
from tests.core.threads_world import in_threads
from tests.evaluation.sets import images

SMALL = "{kind: random, network: {size_px: 16, width: 8, dim: 6}}"
FIT = ["pictures=256", "batch_size=16", "network.size_px=8", "network.width=8", "network.dim=6", "held_out=0.3"]


def folder_of(pictures: torch.Tensor, root: Path) -> Path:
    for number, one in enumerate(pictures):
        save_png(root / f"{number:03d}.png", to_picture(one))
    return root


def noise(count: int, size_px: int = 16, seed: int = 0) -> torch.Tensor:
    return ((images(count, size_px, seed) + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """`ldm evaluate ... --json`, with everything it writes below the test's folder."""

    def run(given: Path, *arguments: object, extractor: str = SMALL, out: str = "out") -> dict[str, Any]:
        common = ["--extractor", extractor, "--cache", tmp_path / "cache", "--out", tmp_path / out, "--json"]
        code, said, _ = ldm(capsys, "evaluate", given, *common, *arguments)
        assert code == 0, said
        return dict(json.loads(said))

    return run


def values(found: dict[str, Any]) -> dict[str, float]:
    return {one["name"]: one["value"] for one in found["results"]}


def test_a_run_is_measured_by_all_metrics_in_one_pass(evaluate: Any, text_run: Path, tmp_path: Path) -> None:
    metrics = "fid,kid,inception_score,precision_recall,density_coverage,control_influence,neighbours,clip_score,held_out_loss"
    found = evaluate(text_run, "--n", 12, "--metrics", metrics, "metrics.control_influence.pictures=4")
    assert {"fid", "kid", "precision", "coverage", "control_influence", "control_influence_large", "copies"} <= set(
        values(found)
    )
    assert set(values(found)) <= {name for member in members_of(AnyMetric) for name in member.words}
    assert set(found["refused"]) == {"clip_score", "held_out_loss"}
    assert "no part of this data is held out" in found["refused"]["held_out_loss"]
    assert len(found["influence"]) == 10 and all(value >= 0 for value in found["influence"].values())
    assert (tmp_path / "out" / "neighbours.png").is_file()
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [one["value"] for one in kept["results"]] == [one["value"] for one in found["results"]]
    protocol = next(one for one in kept["results"] if one["name"] == "fid")["passport"]
    assert protocol["sampling.seeds"] == "0..11" and protocol["sampling.solver"] == '"euler"' and protocol["size_px"] == "16x16"


def test_lpips_compares_pictures_of_one_condition_that_differ_in_their_noise(evaluate: Any, text_run: Path) -> None:
    found = evaluate(text_run, "--n", 5, "--metrics", "lpips", "metrics.lpips.pictures=3")
    (result,) = found["results"]
    evaluated = open_evaluated(text_run, EvaluationConfig(metrics=("lpips",), n=3), None, "train", "cpu")
    assert isinstance(evaluated, SampledPictures)
    extractor = build_extractor(RandomConfig.model_validate(yaml.safe_load(SMALL)), torch.device("cpu"))
    requests = [evaluated.request(seed) for seed in range(3)]
    own, other = (
        evaluated.images([replace(request, seed=request.seed + more) for request in requests]) for more in (0, OTHER_NOISE)
    )
    apart = distance(extractor.extract(own), extractor.extract(other), "layers")
    assert result["value"] == pytest.approx(float(apart.mean()), rel=1e-5) and result["value"] > 0
    assert result["passport"]["sampling.seeds"] == "0..2, and each with 2^32 more"
    assert result["passport"]["metric"] == "lpips(one condition, two noises)"


def test_lpips_needs_layers_and_says_what_has_them(text_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = open_evaluated(text_run, EvaluationConfig(metrics=("lpips",), n=3), None, "train", "cpu")
    extractor = build_extractor(RandomConfig.model_validate(yaml.safe_load(SMALL)), torch.device("cpu"))
    monkeypatch.setattr(extractor, "id", replace(extractor.id, name="inception"))
    assert isinstance(evaluated, SampledPictures)
    with pytest.raises(ConfigError, match=r"inception gives none; needed: lpips, classifier or random; fix: --extractor"):
        measure_lpips(evaluated, LPIPSMetric(), [extractor], EvaluationConfig(metrics=("lpips",)).bootstrap)


def test_pictures_of_a_run_and_the_same_pictures_in_a_folder_get_the_same_values(
    evaluate: Any, text_run: Path, tmp_path: Path
) -> None:
    evaluated = open_evaluated(text_run, EvaluationConfig(metrics=("kid",), n=12), None, "train", "cpu")
    folder = folder_of(evaluated.pixels(range(12)), tmp_path / "drawn")
    drawn = evaluate(text_run, "--n", 12)
    given = evaluate(folder, "--against", text_run, out="out2")
    assert values(given) == pytest.approx(values(drawn), rel=1e-5)
    assert {one["protocol"] for one in given["results"]}.isdisjoint(one["protocol"] for one in drawn["results"])


def test_a_stop_signal_keeps_what_was_measured_before_it(
    evaluate: Any, text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = evaluator.measure_influence

    def signalled(*given: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return really(*given, **options)

    monkeypatch.setattr(evaluator, "measure_influence", signalled)
    options = ("--extractor", SMALL, "--n", 12, "--metrics", "kid,control_influence", "--out", tmp_path / "out")
    code, _, said = ldm(capsys, "evaluate", text_run, *options, "--cache", tmp_path / "cache")
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 75 and "stopped by SIGTERM; kept in " in line and ": kid; fix" in line, said
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [one["name"] for one in kept["results"]] == ["kid"] and kept["refused"] == {}


def test_a_stop_signal_during_the_last_metric_is_not_lost(
    evaluate: Any, text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = evaluator.measure

    def signalled(*given: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return really(*given, **options)

    monkeypatch.setattr(evaluator, "measure", signalled)
    extractor = RandomConfig.model_validate(yaml.safe_load(SMALL))
    with pytest.raises(StoppedError, match=r"stopped by SIGTERM; kept in .*: kid; fix"):  # or a study would go on
        evaluate_run(text_run, None, ["kid"], extractors=[extractor], n=12, out=tmp_path / "out", cache=tmp_path / "cache")


@pytest.mark.parametrize("stopping", [True, False])
def test_parts_of_tasks_are_measured_as_one_command_measures(
    evaluate: Any, text_run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, stopping: bool
) -> None:
    common = ["--n", 20, "--metrics", "fid,kid", "sampling.batch_size=4"]
    settings = ["metrics.kid.subset_size=10", "bootstrap.replicates=20"]
    wanted = values(evaluate(text_run, *common, *settings, out="one"))
    assert not (tmp_path / "one" / "evaluation-parts").exists() or not list((tmp_path / "one").rglob("part.json"))
    with_extractor = ["--extractor", SMALL, "--out", tmp_path / "parts", "--json"]
    code, said, _ = ldm(capsys, "evaluate", text_run, "--task", "2/2", *common[:2], *common[4:], *with_extractor)
    assert code == 0 and json.loads(said)["pictures"] == 8
    code, said, _ = ldm(capsys, "evaluate", text_run, "--join", *common, *settings, *with_extractor)
    assert code == 65 and "parts 1/2 are not there" in said
    if not stopping:  # a kill leaves what was kept on the way
        monkeypatch.setattr("open_ldm.evaluation.parts.KEPT_EVERY_SECONDS", 0.0)
    stopped = SampledPictures.images
    calls = []

    def killed(self: SampledPictures, requests: Any) -> Any:
        calls.append(len(requests))
        if len(calls) == 3:
            raise StoppedError("a signal came") if stopping else KeyboardInterrupt
        return stopped(self, requests)

    monkeypatch.setattr(SampledPictures, "images", killed)
    task = ["evaluate", text_run, "--task", "1/2", *common[:2], *common[4:], *with_extractor]
    assert ldm(capsys, *task)[0] == (75 if stopping else 130)
    assert ldm(capsys, *task)[0] == 0 and len(calls) == 4, "two batches of three were kept, and are not sampled again"
    assert values(evaluate(text_run, "--join", *common, *settings, out="parts")) == pytest.approx(wanted, rel=1e-9)
    code, said, _ = ldm(capsys, "evaluate", text_run, "--task", "1/6", *common[:2], *common[4:], *with_extractor)
    assert code == 64 or (code == 2 and "at most 5" in said)


def test_a_part_that_a_task_collected_is_counted_once_without_join_too(evaluate: Any, tmp_path: Path, capsys: Any) -> None:
    given, against = folder_of(noise(12), tmp_path / "given"), folder_of(noise(12, seed=1), tmp_path / "against")
    code, said, _ = ldm(capsys, "evaluate", given, "--task", "1/1", "--extractor", SMALL, "--out", tmp_path / "parts", "--json")
    assert code == 0 and json.loads(said)["pictures"] == 12
    plain = ["--against", against, "--metrics", "fid", "bootstrap.replicates=20"]
    for more in ([], ["--join"]):  # which is still there after the first
        found = evaluate(given, *plain, *more, out="parts")["results"][0]
        assert found["count"] == 12, found


def test_a_process_whose_part_is_whole_waits_for_the_batches_of_the_others(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_ldm.core.meetings.MEET_EVERY_SECONDS", 0.0)
    given = folder_of(noise(130, 8), tmp_path / "given")  # three batches
    pictures = open_evaluated(given, EvaluationConfig(metrics=("kid",), n=130), None, "train", "cpu")
    extractor = build_extractor(RandomConfig.model_validate(yaml.safe_load(SMALL)), torch.device("cpu"))
    parts = Parts(tmp_path, Task(1, 1))

    def collect(world: World) -> PartCollected:
        collector = Collector(pictures, parts, world, lambda progress: progress.update, StopRequest(), not world.leads)
        return collector.part([extractor])

    first, _ = in_threads(2, collect)
    assert first.pictures == 130 and "waits for" not in capsys.readouterr().err
    shutil.rmtree(first.folder / "2-of-2")
    again, _ = in_threads(2, collect)
    assert again.pictures == 130 and "note: this process has done its share, and waits for rank 1" in capsys.readouterr().err


def test_parts_that_stay_are_told_with_their_size(
    text_run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--extractor", SMALL, "--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    measured = [
        "evaluate",
        text_run,
        "--n",
        12,
        "--metrics",
        "kid",
        "sampling.batch_size=4",
        "metrics.kid.subset_size=10",
        *out,
    ]
    code, _, said = ldm(capsys, *measured)
    assert code == 0 and "evaluation-parts" not in said and not (tmp_path / "out" / "evaluation-parts").exists()

    assert ldm(capsys, "evaluate", text_run, "--n", 12, "--task", "1/1", *out)[0] == 0
    with monkeypatch.context() as patched:  # a kill, after a batch was kept

        def killed(self: PartFolder, *given: Any, **more: Any) -> None:
            kept(self, *given, **more)
            raise KeyboardInterrupt

        kept = PartFolder.keep
        patched.setattr(PartFolder, "keep", killed)
        patched.setattr("open_ldm.evaluation.parts.KEPT_EVERY_SECONDS", 0.0)
        assert ldm(capsys, *measured, "--seed", 5)[0] == 130
    files = [path.stat().st_size for path in (tmp_path / "out" / "evaluation-parts").rglob("*") if path.is_file()]
    code, _, said = ldm(capsys, *measured)
    (note,) = [line for line in said.splitlines() if "evaluation-parts" in line]
    assert code == 0 and f"{sum(files) / 1e6:.1f} MB of parts lie in {tmp_path / 'out' / 'evaluation-parts'}" in note
    assert "1 that --join reads, 1 of evaluations that were not finished; delete that folder" in note
    assert ldm(capsys, *measured, "--seed", 5)[0] == 0  # goes on from it, and removes it
    code, _, said = ldm(capsys, *measured)
    assert code == 0 and "1 that --join reads; delete" in said


def test_a_picture_depends_on_its_seed_alone(text_run: Path) -> None:
    def drawn(n: int, seed: int, batch_size: int, rank: int = 0, size: int = 1) -> dict[int, torch.Tensor]:
        config = EvaluationConfig(metrics=("kid",), n=n, seed=seed, sampling={"batch_size": batch_size})
        evaluated = open_evaluated(text_run, config, None, "train", "cpu")
        batches = list(evaluated.batches(World(rank, size)))
        return {number: one for batch in batches for number, one in zip(batch.numbers, batch.images, strict=True)}

    whole = drawn(7, 3, 7)
    one, other = (drawn(7, 3, 2, rank, size=2) for rank in (0, 1))
    assert not set(one) & set(other)
    parts = one | other
    assert sorted(whole) == sorted(parts) == list(range(3, 10))
    for number, picture in whole.items():
        torch.testing.assert_close(parts[number], picture, rtol=0, atol=1e-4)


def test_conditions_are_those_of_the_reference_pictures(text_run: Path, class_run: Path) -> None:
    config = EvaluationConfig(metrics=("kid",), n=50)
    for run in (text_run, class_run):
        evaluated = open_evaluated(run, config, None, "train", "cpu")
        source = evaluated.data  # type: ignore[union-attr]
        said = [evaluated.request(seed).shows for seed in range(50)]  # type: ignore[union-attr]
        truth = [
            source.class_names[source.label_of(i) or 0] if run == class_run else source.captions_of(i)[0] for i in range(50)
        ]
        assert sorted(map(str, said)) == sorted(truth)


def test_labels_are_drawn_at_random_or_in_equal_counts(text_run: Path, class_run: Path) -> None:
    def opened(run: Path, labels: str) -> Any:
        config = EvaluationConfig.model_validate({"metrics": ["kid"], "n": 48, "labels": labels})
        return open_evaluated(run, config, None, "train", "cpu")

    random, equal = opened(class_run, "random"), opened(class_run, "equal")
    names = [equal.request(seed).shows for seed in range(48)]
    assert {names.count(name) for name in equal.data.class_names} == {2}  # 24 classes
    counts = [[random.request(seed).shows for seed in range(48)].count(name) for name in random.data.class_names]
    assert len(set(counts)) > 1
    assert (random.sampling["labels"], equal.sampling["labels"]) == ("at random", "equal counts")
    assert random.sampling["latents"] == "pixels" and "labels" not in opened(text_run, "random").sampling
    with pytest.raises(ConfigError, match="labels=equal has no effect on a run of text"):
        opened(text_run, "equal")


def test_influence_is_of_the_control_alone_and_the_second_number_leaves_small_sizes_out(
    text_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the model paints small sizes dark and all others alike: only pairs with a small size can differ."""
    config = EvaluationConfig(metrics=("control_influence",), n=6, sampling={"batch_size": 4})
    evaluated = open_evaluated(text_run, config, None, "train", "cpu")
    seen: list[tuple[int, ...]] = []

    def painted(inputs: Any, seeds: Any, settings: Any) -> torch.Tensor:
        seen.append(tuple(seeds))
        height = inputs.controls["original_size"][:, 0]
        return images(len(seeds)) * torch.where(height < 16, 0.2, 0.8).view(-1, 1, 1, 1)

    monkeypatch.setattr(evaluated.run.generator, "images", painted)  # type: ignore[union-attr]
    (metric,) = config.metrics
    extractor = build_extractor(RandomConfig(), torch.device("cpu"))
    found = measure_influence(evaluated, metric, [extractor], config.bootstrap)  # type: ignore[arg-type]
    whole, large = found.results
    assert whole.estimate.value > 1e-4 and large.estimate.value == 0
    assert {pair for pair, value in found.table.items() if value > 0} == {
        f"{small}|{other}" for small in ("4x4", "8x8") for other in ("16x16", "32x32", "64x64")
    }
    assert seen == [(0, 1, 2, 3)] * 5 + [(4, 5)] * 5
    with pytest.raises(ConfigError, match=r"no control 'sise'; needed: .*did you mean 'size'"):
        measure_influence(evaluated, InfluenceMetric(control="sise"), [extractor], config.bootstrap)  # type: ignore[arg-type]


def test_a_value_of_the_same_protocol_is_replaced_and_others_are_kept(evaluate: Any, tmp_path: Path) -> None:
    given = folder_of(noise(14), tmp_path / "given")
    against = folder_of(noise(20, seed=1), tmp_path / "against")
    for n in (14, 12, 14):
        evaluate(given, "--against", against, "--metrics", "kid", "--n", n)
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())["results"]
    assert sorted(one["passport"]["n"] for one in kept) == ["12", "14"]


def test_given_pictures_are_all_read_unless_a_number_is_given(
    evaluate: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, against = folder_of(noise(14), tmp_path / "given"), folder_of(noise(20, seed=1), tmp_path / "against")
    monkeypatch.setattr(evaluated_pictures, "_SAMPLED", 12)  # how many of a run
    common = ["--against", against, "--metrics", "kid"]
    assert evaluate(given, *common)["results"][0]["count"] == 14
    monkeypatch.setattr(evaluated_pictures, "_READ", 13)
    arguments = [given, *common, "--extractor", SMALL, "--cache", tmp_path / "cache"]
    code, _, error = ldm(capsys, "evaluate", *arguments)
    assert code == 0 and "note: the first 13 of 14 pictures are read; --n 14 reads all" in error
    code, _, error = ldm(capsys, "evaluate", *arguments, "--n", 12)
    assert code == 0 and "note" not in error


def test_what_was_kept_of_an_earlier_evaluation_stays(evaluate: Any, tmp_path: Path) -> None:
    against = folder_of(noise(40), tmp_path / "against")
    common = [folder_of(noise(12, seed=2), tmp_path / "given"), "--against", against, "--metrics"]
    near = evaluate(*common, "neighbours")["neighbours"]
    evaluate(*common, "kid")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["neighbours"] == near
    for control in ("size", "flip"):
        store(tmp_path, [], None, {}, {"control_effect": {control: 1}, "held_out": {control: 1}})
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["control_effect"] == {"size": 1, "flip": 1} and content["held_out"] == {"flip": 1}


def test_the_reference_is_measured_once_and_again_when_it_is_damaged_or_changed(
    evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, against = folder_of(noise(12), tmp_path / "given"), folder_of(noise(20, seed=1), tmp_path / "against")
    first = evaluate(given, "--against", against)
    read = []
    really = evaluate_reference.pictures_of
    monkeypatch.setattr(evaluate_reference, "pictures_of", lambda *a, **k: read.append(1) or really(*a, **k))
    assert values(evaluate(given, "--against", against)) == values(first) and not read
    (kept,) = (tmp_path / "cache").glob("*/statistics.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert values(evaluate(given, "--against", against)) == values(first) and len(read) == 1
    folder_of(noise(21, seed=1)[20:], against)  # another picture takes the place of the first
    assert values(evaluate(given, "--against", against)) != values(first) and len(read) == 2


def test_copies_of_training_pictures_are_found(evaluate: Any, tmp_path: Path) -> None:
    against = folder_of(noise(40), tmp_path / "against")
    copies = folder_of(noise(40)[:10], tmp_path / "copies")
    found = evaluate(copies, "--against", against, "--metrics", "neighbours", "metrics.neighbours.shown=4")
    assert values(found)["copies"] == 1
    assert [pair["distance"] for pair in found["neighbours"]["nearest"]] == pytest.approx([0] * 10, abs=1e-6)
    fresh = evaluate(folder_of(noise(10, seed=9), tmp_path / "fresh"), "--against", against, "--metrics", "neighbours")
    assert values(fresh)["copies"] < 0.3 and fresh["neighbours"]["median_distance"] > 0


def test_a_folder_of_ldm_sample_is_read_without_its_grid(evaluate: Any, text_run: Path, tmp_path: Path, capsys: Any) -> None:
    code, _, _ = ldm(
        capsys, "sample", text_run, "--prompt", "a large red circle on the left", "--count", 10, "--out", tmp_path / "s"
    )
    assert code == 0
    found = evaluate(tmp_path / "s", "--against", text_run, "--metrics", "kid")
    assert found["results"][0]["count"] == 10
    assert len(open_against(tmp_path / "s")) == 10  # nor are others compared with it
    code, _, error = ldm(capsys, "evaluate", "fit-features", tmp_path / "s", *FIT, "--out", tmp_path / "f")
    assert code == 2 and "holds samples of a model; needed: real pictures" in error  # a reader must not learn from samples


def test_fitted_features_measure_and_are_found_by_their_folder(
    evaluate: Any, capsys: Any, tmp_path: Path, text_run: Path
) -> None:
    code, out, _ = ldm(capsys, "evaluate", "fit-features", text_run, *FIT, "--out", tmp_path / "features", "--json")
    assert code == 0 and json.loads(out)["tested"] >= 10
    found = evaluate(text_run, "--n", 12, "--metrics", "kid,inception_score", extractor=str(tmp_path / "features"))
    assert {one["passport"]["extractor.name"] for one in found["results"]} == {"classifier"}
    assert {one["passport"]["extractor.weights"] for one in found["results"]} == {json.loads(out)["sha256"]}


def test_options_may_stand_first_and_help_names_both_commands(capsys: Any, tmp_path: Path) -> None:
    given, against = folder_of(noise(12), tmp_path / "given"), folder_of(noise(20, seed=1), tmp_path / "against")
    arguments = ["--metrics", "kid", "--extractor", SMALL, "--cache", tmp_path / "c", "--against", against, given]
    code, out, _ = ldm(capsys, "evaluate", *arguments)
    assert code == 0 and "kid" in out and "protocol" in out
    code, out, _ = ldm(capsys, "evaluate", "--help")
    assert code == 0 and "--against" in out and "fit-features" in out
    code, out, _ = ldm(capsys, "evaluate")
    assert code == 0 and "--against" in out
    code, out, _ = ldm(capsys, "evaluate", "fit-features", "--help")
    assert code == 0 and "--against" not in out


def nothing(root: Path) -> list[object]:
    (root / "given").mkdir()
    return [root / "given"]


def one_picture(root: Path) -> list[object]:
    return [folder_of(noise(1), root / "given")]


def mixed_sizes(root: Path) -> list[object]:
    folder_of(noise(3), root / "given")
    save_png(root / "given" / "large.png", to_picture(noise(1, 32)[0]))
    return [root / "given"]


def wrong_weights(root: Path) -> list[object]:
    save_file({"a": torch.zeros(1)}, root / "weights.safetensors")
    return [folder_of(noise(12), root / "given"), "--extractor", root / "weights.safetensors"]


def nowhere(root: Path) -> list[object]:
    return [folder_of(noise(12), root / "given"), "--extractor", root / "gone"]


def unknown_metric(root: Path) -> list[object]:
    return [folder_of(noise(12), root / "given"), "--metrics", "fidd"]


def unknown_setting(root: Path) -> list[object]:
    return [folder_of(noise(12), root / "given"), "metrics.kid.subsetsize=3"]


def absent_metric(root: Path) -> list[object]:
    return [folder_of(noise(12), root / "given"), "--metrics", "fid", "metrics.kid.subset_size=30"]


def seed_of_pictures(root: Path) -> list[object]:
    return [folder_of(noise(12), root / "given"), "--seed", 5]


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        (nothing, 65, "no pictures"),
        (one_picture, 65, r"no metric could be computed \(and 3 more\): fid: 1 pictures"),
        (
            mixed_sizes,
            65,
            "the pictures differ in size: 000.png has 16x16 px, large.png has 32x32 px; needed: pictures of one size",
        ),
        (wrong_weights, 2, "weights file weights.safetensors lacks"),
        (nowhere, 2, "is no file and no folder; needed: a folder of `ldm evaluate fit-features`"),
        (unknown_metric, 2, "metrics.0.kind='fidd' is unknown; needed: one of "),
        (unknown_setting, 2, "unknown key 'metrics.1.subsetsize'"),
        (absent_metric, 2, "the list has no item 'kid'"),
        (seed_of_pictures, 2, "holds pictures, not a run"),
    ],
)
def test_bad_input_is_told_in_one_line(case: Any, code: int, said: str, capsys: Any, tmp_path: Path) -> None:
    given, *more = case(tmp_path)
    against = folder_of(noise(20, seed=1), tmp_path / "against")
    extractor = [] if "--extractor" in more else ["--extractor", SMALL]
    found, _, error = ldm(capsys, "evaluate", given, "--against", against, "--cache", tmp_path / "c", *extractor, *more)
    assert found == code
    last = error.strip().splitlines()[-1]
    assert last.startswith("error: ") and re.search(said, last), error
    assert all("pictures (" in line for line in error.strip().splitlines()[:-1])  # progress


def test_a_run_without_an_extractor_is_measured_by_features_of_its_own_data(
    capsys: Any, class_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = fit_config_from([*FIT, "batch_size=8"])
    monkeypatch.setattr("open_ldm.commands.evaluate.evaluator.FIT", quick)
    common = ("--n", 12, "--cache", tmp_path / "cache", "--out", tmp_path / "out", "--metrics", "fid,kid")
    run = shutil.copytree(class_run, tmp_path / "run")
    for _ in range(2):
        code, out, error = ldm(capsys, "evaluate", run, *common)
        assert code == 0 and "no --extractor was given: features of a small classifier" in error and "kid" in out
        written = (run / "features" / "classifier.safetensors").stat().st_mtime_ns
    assert (run / "features" / "classifier.safetensors").stat().st_mtime_ns == written
    few = fit_config_from(["batch_size=999"])
    monkeypatch.setattr("open_ldm.commands.evaluate.evaluator.FIT", few)
    shutil.rmtree(run / "features")
    code, out, error = ldm(capsys, "evaluate", run, "--metrics", "kid", *common[:-2])
    assert code == 0 and "untrained network" in error and "random" in out


def test_pictures_without_an_extractor_are_refused_with_how_to_make_one(capsys: Any, tmp_path: Path) -> None:
    given = folder_of(noise(12), tmp_path / "given")
    code, _, error = ldm(capsys, "evaluate", given, "--against", given)
    assert code == 2 and "ldm evaluate fit-features DATA" in error and len(error.strip().splitlines()) == 1


def test_features_that_are_not_finite_are_told(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, against = folder_of(noise(12), tmp_path / "given"), folder_of(noise(20, seed=1), tmp_path / "against")
    whole = RandomExtractor.extract

    def broken(self: RandomExtractor, pictures: torch.Tensor) -> Any:
        found = whole(self, pictures)
        found.vectors[1, 0] = float("nan")
        return found

    monkeypatch.setattr(RandomExtractor, "extract", broken)
    code, _, error = ldm(capsys, "evaluate", given, "--against", against, "--extractor", SMALL, "--cache", tmp_path / "c")
    assert code == 65 and "hold NaN or infinity" in error
    assert not list((tmp_path / "c").glob("*"))


def test_weights_that_are_not_finite_are_told(capsys: Any, tmp_path: Path, text_run: Path) -> None:
    assert ldm(capsys, "evaluate", "fit-features", text_run, *FIT, "--out", tmp_path / "f")[0] == 0
    weights = load_file(tmp_path / "f" / "classifier.safetensors")
    save_file({**weights, "head.bias": weights["head.bias"] * float("nan")}, tmp_path / "f" / "classifier.safetensors")
    code, _, error = ldm(capsys, "evaluate", text_run, "--extractor", tmp_path / "f")
    assert code == 2 and "is not the file that classifier.json describes" in error


def test_data_that_the_run_cannot_be_asked_for_is_refused_at_once(
    capsys: Any, class_run: Path, text_run: Path, tmp_path: Path
) -> None:
    plain = folder_of(noise(20), tmp_path / "plain")
    for run, word in ((class_run, "classes"), (text_run, "captions")):
        code, _, error = ldm(capsys, "evaluate", run, "--against", plain, "--extractor", SMALL)
        assert code == 2 and f"the run needs {word}, but the data has none" in error
    for name in ("cat", "dog"):
        folder_of(noise(5), tmp_path / "animals" / name)
    code, _, error = ldm(capsys, "evaluate", class_run, "--against", tmp_path / "animals", "--extractor", SMALL)
    assert code == 2 and "the data has classes the run does not know: cat, dog" in error
    (plain / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "{file.name}", "text": "a red zebra"}}\n' for file in sorted(plain.iterdir()))
    )
    code, _, error = ldm(capsys, "evaluate", text_run, "--against", plain, "--extractor", SMALL, "--n", "4")
    assert code == 2 and "the model never saw zebra" in error and "fix: captions=readable, or pictures whose" in error


def test_captions_that_the_run_cannot_read_give_way_to_others(
    capsys: Any, text_run: Path, class_run: Path, tmp_path: Path
) -> None:
    folder = folder_of(noise(6), tmp_path / "mixed")
    said = ("a red zebra", "a large red circle", "two lions", "a small blue square", "a zebra", "zebras")
    rows = zip(sorted(folder.iterdir()), said, strict=True)
    (folder / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "{file.name}", "text": "{text}"}}\n' for file, text in rows)
    )
    evaluated = open_evaluated(
        text_run, EvaluationConfig(metrics=["fid"], n=12, captions="readable"), open_against(folder), "all", "cpu"
    )
    assert isinstance(evaluated, SampledPictures)
    asked = [evaluated.request(seed).shows for seed in range(12)]
    assert set(asked) == {"a large red circle", "a small blue square"}
    own = [shown_as_in(evaluated.data, evaluated.run.recipe.conditioning.semantic, seed) for seed in range(12)]
    assert all(shown == mine for shown, mine in zip(asked, own, strict=True) if mine in asked)
    assert evaluated.sampling["captions"] == "the 2 that the run can read, of 6"
    code, _, error = ldm(capsys, "evaluate", class_run, "--extractor", SMALL, "captions=readable")
    assert code == 2 and "captions=readable has no effect on a run of class" in error
    (folder / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "{file.name}", "text": "zebra"}}\n' for file in folder.glob("*.png"))
    )
    code, _, error = ldm(capsys, "evaluate", text_run, "--against", folder, "--extractor", SMALL, "captions=readable")
    assert code == 2 and "the run can read none of 6 captions" in error


def test_data_is_opened_by_recipe_run_or_path(text_run: Path, tmp_path: Path) -> None:
    wanted = ShapesConfig(length=50, two_shapes=0).open()
    assert open_against(str(text_run)).fingerprint == wanted.fingerprint
    assert len(open_against(folder_of(noise(3), tmp_path / "p"))) == 3
    assert open_against("demo").class_names == wanted.class_names


def test_pictures_are_also_given_by_a_recipe_file(evaluate: Any, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": str(folder_of(noise(12), tmp_path / "p"))}
    recipe = {"extends": "photos-dit", "data": {"source": source, "transform": {"size_px": 16}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert evaluate(tmp_path / "r.yaml", "--against", tmp_path / "p", "--metrics", "kid")["results"][0]["count"] == 12


def test_fit_features_takes_changes_of_a_recipe_and_refuses_them_for_pictures(
    capsys: Any, tmp_path: Path, class_run: Path
) -> None:
    given = ["evaluate", "fit-features", class_run, *FIT, "--out", tmp_path / "f"]
    code, out, _ = ldm(capsys, *given, "data.source.length=90", "--json")
    assert code == 0 and json.loads(out)["tested"] < 45
    code, _, error = ldm(capsys, *given, "data.source.lenth=90")
    assert code == 2 and "did you mean 'length'" in error
    pictures = folder_of(noise(12), tmp_path / "pictures")
    code, _, error = ldm(capsys, "evaluate", "fit-features", pictures, "data.source.length=90")
    assert code == 2 and "data.source.length=90 changes a recipe" in error
