"""Compiled blocks: shared graphs, one shape, a check that finds a wrong compiler, and training without one.

A backend that makes no code of a graph stands for torch's own, which takes half a minute of the C++ compiler for a network.
That one is used where LDM_COMPILE is set, and in benchmarks/modes.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.recipe import load_recipe
from open_ldm.training import compiled
from open_ldm.training.compile_check import record_calls
from open_ldm.training.compiled import CompiledForward, Compiler, wants_compiled
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import DENOISERS
from tests.training.small_run import CPU, all_tensors, micro_batches, run_updates, same_bits, settings, small_trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def as_written(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Any:
    return graph.forward


def wrong(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Any:
    """A compiler that takes every addition of a product for half of it."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is torch.addcmul:
            node.kwargs = {**node.kwargs, "value": 0.9}
    graph.recompile()
    return as_written(graph, inputs)


def none_here(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Any:
    raise RuntimeError("no C++ compiler was found\nand a long list of places")


def compiling(monkeypatch: pytest.MonkeyPatch, backend: Any, **arguments: Any) -> tuple[DiffusionTrainer, str]:
    monkeypatch.setattr("open_ldm.training.trainer.Compiler", lambda: Compiler(backend))
    trainer = small_trainer(**arguments)
    return trainer, trainer.compile(micro_batches(trainer, 4)[0], check=True)


@pytest.mark.parametrize(("name", "graphs"), [("mdtv2", 2)])
def test_equal_blocks_share_a_graph_and_nothing_is_compiled_twice(
    name: str, graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, problem = compiling(monkeypatch, as_written, denoiser=DENOISERS[name], dtype=torch.bfloat16)
    assert problem == "" and trainer.compiler is not None
    assert trainer.compiler.graphs == graphs
    plain = small_trainer(denoiser=DENOISERS[name], dtype=torch.bfloat16)
    found, wanted = run_updates(trainer, 2, micro=4), run_updates(plain, 2, micro=4)
    assert [update.loss for update in found] == pytest.approx([update.loss for update in wanted], rel=1e-2)
    assert trainer.compiler.graphs == graphs and trainer.compiler.recompilations == 0
    assert list(trainer.state.model.state_dict()) == list(plain.state.model.state_dict())
    run_updates(trainer, 1, micro=2)  # another shape, which is computed as written
    assert trainer.compiler.recompilations == 0


def test_blocks_computed_again_are_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, problem = compiling(monkeypatch, as_written, config=settings(recompute="blocks"))
    assert problem == "" and trainer.compiler is not None
    calls: list[int] = []
    counted = CompiledForward.__call__
    monkeypatch.setattr(CompiledForward, "__call__", lambda *given: calls.append(1) or counted(*given))
    run_updates(trainer, 1, micro=4)
    assert len(calls) == 8 and trainer.compiler.graphs == 1


def test_a_wrong_compiler_is_refused_and_a_missing_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, problem = compiling(monkeypatch, wrong, dtype=torch.bfloat16)
    assert problem.startswith("compiled, DiTBlock is wrong: output 0 is off by 0.") and trainer.compiler is None
    missing, reason = compiling(monkeypatch, none_here, dtype=torch.bfloat16)
    assert "torch cannot compile DiTBlock here (" in reason and "no C++ compiler" in reason and "\n" not in reason
    plain = small_trainer(dtype=torch.bfloat16)
    wanted = run_updates(plain, 1)
    for each in (trainer, missing):  # nothing of the attempt is left
        assert run_updates(each, 1) == wanted and same_bits(all_tensors(each), all_tensors(plain))


def test_a_recompilation_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = compiling(monkeypatch, as_written)
    run_updates(trainer, 1, micro=4)
    for parameter in trainer.blocks[0].parameters():
        parameter.requires_grad_(False)
    run_updates(trainer, 1, micro=4)
    assert trainer.compiler is not None and trainer.compiler.recompilations == 1


def test_the_calls_are_those_of_training() -> None:
    trainer = small_trainer(dtype=torch.bfloat16)
    batch = trainer.noising.draw(micro_batches(trainer, 4)[0])
    first, second = record_calls(lambda: trainer.objective(batch), trainer.blocks)
    x, vector, mask = first.given
    assert x.shape == (4, 16 + 6, 32) and x.requires_grad and x.is_leaf and x.dtype == torch.float32
    assert vector.dtype == torch.bfloat16 and vector.requires_grad and mask is None
    torch.testing.assert_close(second.given[0], trainer.blocks[0](*first.given))


def test_auto_goes_by_device_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(compiled.torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert [wants_compiled("auto", cuda, count) for count in (10**6, 10**8)] == [False, True]
    assert not wants_compiled("auto", CPU, 10**9) and wants_compiled("on", CPU, 1) and not wants_compiled("off", cuda, 10**9)
    monkeypatch.setattr(compiled.torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert not wants_compiled("auto", cuda, 10**9)


def test_the_setting_is_read_as_it_is_written() -> None:
    recipe = load_recipe("demo", ["training.compile=on"])
    assert (
        recipe.training.compile == "on"
        and load_recipe(
            "demo", ["training={samples: 9, batch_size: 4, checkpoint_every_samples: 9, compile: off}"]
        ).training.compile
        == "off"
    )
    assert recipe.numerics == load_recipe("demo").numerics
    assert "compile" not in load_recipe("demo").model_dump(mode="json")["training"]
    with pytest.raises(ConfigError, match=r"training\.compile has no effect on an autoencoder"):
        load_autoencoder_recipe("photos-autoencoder", ["training.compile=off"])


@pytest.mark.skipif("LDM_COMPILE" not in os.environ, reason="minutes of the C++ compiler; set LDM_COMPILE")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(DENOISERS))
def test_a_network_compiled_for_real_trains_as_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, problem = compiling(monkeypatch, None, denoiser=DENOISERS[name])
    assert problem == ""
    plain = small_trainer(denoiser=DENOISERS[name])
    found, wanted = run_updates(trainer, 3, micro=4), run_updates(plain, 3, micro=4)
    assert [update.loss for update in found] == pytest.approx([update.loss for update in wanted], rel=1e-4)
    assert trainer.compiler is not None and trainer.compiler.recompilations == 0
