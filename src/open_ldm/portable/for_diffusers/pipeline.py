"""The pipeline of an exported open-ldm model, as diffusers loads it: pictures as `ldm sample` samples them.

Copyright: the open-ldm authors. Licence: Apache-2.0, see the file LICENSE.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

_OUTPUT_TYPES = ("pil", "np", "pt")


class OpenLdmPipeline(DiffusionPipeline):
    """Prompts or classes, controls and seeds in, pictures out. Two guidance scales: for what is shown, and for controls."""

    model_cpu_offload_seq = "network->vae"
    _optional_components = ["vae", "text_encoder"]

    def __init__(self, network: torch.nn.Module, scheduler: object, vae: Any = None, text_encoder: Any = None) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler, vae=vae, text_encoder=text_encoder)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        class_labels: str | int | Sequence[str | int] | None = None,
        controls: Mapping[str, str] | None = None,
        negative_prompt: str | None = None,
        seed: int | Sequence[int] = 0,
        num_images: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        control_scale: float | None = None,
        solver: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        height: int | None = None,
        width: int | None = None,
    ) -> Any:
        """Sample pictures.

        Args:
            prompt: One caption or several, for a model of captions; None is none.
            class_labels: Names or indices of classes, one or several, for a model of classes; None is none.
            controls: Values of controls as `ldm sample` takes them, such as {"size": "96x96", "flip": "0"}.
            negative_prompt: What guidance leads away from, instead of the empty caption.
            seed: Of the first picture of each prompt, the next has the next; or the seeds of all of them.
            num_images: Of each prompt or class. Beside several seeds it may be left out, and is their number otherwise.
            num_inference_steps: Steps of the solver; None for the model's own, as for all that follow.
            guidance_scale: For what is shown; 1 is none.
            control_scale: For controls; 1 is none.
            solver: ddpm, ddim, euler, heun or dpmpp_2m.
            output_type: "pil" for pictures, "np" for float arrays [B, H, W, C] in [0, 1], "pt" for images [B, C, H, W] in about
                [-1, 1], as the model gives them.
            return_dict: Return an object with `images`, else a tuple.
            height, width: Of the pictures, in pixels: a shape that the model was trained on; None for the usual one.

        Returns:
            The pictures of the first prompt or class, then those of the next.

        Raises:
            ValueError: An argument is of another kind, or an empty list, or there are more pictures than seeds.
            Exception: The model does not know what is asked for, or it would have no effect, as in `ldm sample`.
        """
        _check(output_type, controls)
        sampler: Any = self.network.sampler
        images = sampler.sample(
            [] if prompt is None else [_text("prompt", one) for one in _several("prompt", prompt)],
            [] if class_labels is None else [_label(one) for one in _several("class_labels", class_labels)],
            _seeds(seed, num_images),
            dict(controls or {}),
            self._settings(num_inference_steps, guidance_scale, control_scale, solver),
            **_sides(height=height, width=width),
            negative=None if negative_prompt is None else _text("negative_prompt", negative_prompt),
            vae=self.vae,
            text=None if self.text_encoder is None else self.text_encoder.on(sampler),
            dtype=self.network.dtype_name,
        )
        images = _as_type(output_type, images, sampler)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _settings(self, steps: Any, guidance_scale: Any, control_scale: Any, solver: Any) -> dict[str, Any]:
        """The changed settings of sampling; what is not given is the scheduler's."""
        numbers = {"num_inference_steps": steps, "guidance_scale": guidance_scale, "control_scale": control_scale}
        for name, number in numbers.items():
            if isinstance(number, bool):
                raise ValueError(f"{name}={number} cannot be used; needed: a number")
        given = {
            "steps": steps,
            "semantic_scale": guidance_scale,
            "control_scale": control_scale,
            "solver": None if solver is None else _text("solver", solver),
        }
        own = {**dict.fromkeys(given), **self.scheduler.settings}
        return {name: own[name] if given.get(name) is None else given[name] for name in own}


def _check(output_type: Any, controls: Any) -> None:
    if output_type not in _OUTPUT_TYPES:
        raise ValueError(f"output_type={output_type!r} is unknown; needed: one of {', '.join(_OUTPUT_TYPES)}")
    if not isinstance(controls, Mapping | None):
        raise ValueError(f"controls={controls!r} cannot be used; needed: a mapping, such as {{'size': '96x96'}}")


def _as_type(output_type: str, images: Any, sampler: Any) -> Any:
    if output_type == "pil":
        return sampler.pictures(images)
    return images if output_type == "pt" else (images.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy()


def _sides(**given: Any) -> dict[str, int | None]:
    return {name: None if number is None else _whole(name, number, 1) for name, number in given.items()}


def _is_several(given: Any) -> bool:
    """Whether an argument is a list or an array, not one text or number."""
    return isinstance(given, Iterable) and not isinstance(given, str | bytes) and getattr(given, "ndim", 1) > 0


def _several(name: str, given: Any) -> list[Any]:
    """One or several as a list. Raises ValueError for an empty one, which would be taken for nothing said."""
    found = list(given) if _is_several(given) else [given]
    if not found:
        raise ValueError(f"{name}={given!r} is empty; needed: one or more; fix: leave it out")
    return found


def _seeds(seed: Any, num_images: Any) -> list[int]:
    """The seeds of each prompt's pictures: those that are given, or as many as pictures from the first one on."""
    count = _whole("num_images", num_images, 1)
    seeds = [_whole("seed", one, 0) for one in _several("seed", seed)]
    if not _is_several(seed):
        return list(range(seeds[0], seeds[0] + count))
    if count not in (1, len(seeds)):
        raise ValueError(f"num_images={count} beside {len(seeds)} seeds; needed: a seed for each; fix: leave num_images out")
    return seeds


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{name}={given!r} cannot be used; needed: text")
    return given


def _label(given: Any) -> str | int:
    return str(given) if isinstance(given, str) else _whole("class_labels", given, 0)


def _whole(name: str, given: Any, least: int) -> int:
    """A whole number of Python, numpy or torch as one of Python. Raises ValueError for anything else, also for True."""
    try:
        number = least - 1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}={given!r} cannot be used; needed: a whole number, {least} or more")
    return number
