"""Table 4b-c and figure 8: from small pictures to large ones."""

from __future__ import annotations

from typing import Any

from open_ldm.studies.declared.data import SHAPES, SMALL_NET, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Source, Start, Study


def _start(source: str, positions: str, rescale_noise: bool) -> Arm:
    options: dict[str, Any] = {"positions": positions, "rescale_noise": rescale_noise}
    return Arm(start=Start(source, options))


ARMS = {
    "from scratch": Arm(),
    "extrapolated": _start("small", "extrapolate", False),
    "resampled": _start("small", "resample", False),
    "resampled, noise rescaled": _start("small", "resample", True),
    "local crops, resampled, noise rescaled": _start("local", "resample", True),
}


def _size(px: int, crop: str = "{kind: global}") -> tuple[str, str]:
    return f"data.transform.size_px={px}", f"data.transform.crop={crop}"


def _setting(
    low: int, high: int, pretrain: int, samples: int, batch: int = 16, net: tuple[str, ...] = (), seeds: int = 1
) -> Setting:
    """Arms at `high` px for `samples`, after `pretrain` at `low` px; one from scratch gets the compute of both.

    A small picture costs (low / high)^2 of a large one, as it has that share of the tokens.
    """
    rate = 2e-3 * (batch / 16)
    small = (*SHAPES, *net, *budget(pretrain, 2 * rate, batch))
    equal = round((samples + pretrain * (low / high) ** 2) / batch) * batch
    arms = {**ARMS, "from scratch, as much in all": Arm(budget(equal, rate, batch))}
    sources = {
        "small": Source("demo@1", (*small, *_size(low))),
        "local": Source("demo@1", (*small, *_size(low, f"{{kind: local, scale_px: {high}}}"))),
    }
    changes = (*SHAPES, *net, *budget(samples, rate, batch), *_size(high))
    return Setting("shapes", "demo@1", arms, protocol(agreement=80, pictures=160, points=4), changes, seeds, sources)


STUDY = Study(
    name="resolution-transfer",
    title="How to go on at a higher resolution?",
    shows="tables 4b and 4c, figure 8",
    question="Which positions, noise schedule and crops should a model take along from small pictures to large ones?",
    claim=(
        "Starting from the small resolution beats training from scratch; resampled positions beat extrapolated ones; rescaling"
        " the noise converges faster; the crops of pre-training matter."
    ),
    expectations=(
        Expectation("resampled, noise rescaled", "from scratch", "fid"),
        Expectation("resampled, noise rescaled", "from scratch, as much in all", "fid"),
        Expectation("resampled, noise rescaled", "from scratch, as much in all", "agreement", "higher"),
        Expectation("resampled", "extrapolated", "fid"),
        Expectation("resampled", "extrapolated", "agreement", "higher"),
        Expectation("resampled, noise rescaled", "resampled", "fid"),
        Expectation("resampled, noise rescaled", "local crops, resampled, noise rescaled", "fid"),
    ),
    scales={
        "tiny": [_setting(16, 32, 4000, 2400)],
        "small": [_setting(24, 48, 51_200, 12_800, 32, SMALL_NET, seeds=3)],
        "paper": [
            Setting(
                "imagenet 512 px",
                "imagenet256-mmdit-xl2-improved-ddpm",
                ARMS,
                paper_protocol(sampling={"solver": "ddim", "steps": 50}, points=5),
                (*_size(512), "training.samples=102400000", "training.optimizer.learning_rate=2.0e-4"),
                sources={
                    "small": Source("imagenet256-mmdit-xl2-improved-ddpm"),
                    "local": Source("imagenet256-mmdit-xl2-improved-ddpm", _size(256, "{kind: local, scale_px: 512}")),
                },
            )
        ],
    },
    notes="Losses of arms with different noise schedules answer different questions; compare FD, KID and agreement.",
)
