"""The pipeline of an exported open-ldm model, as diffusers loads it: pictures as `ldm sample` samples them.

Copyright: the open-ldm authors. Licence: Apache-2.0, see the file LICENSE.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput


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
        prompt: str | Sequence[str] = (),
        class_labels: str | int | Sequence[str | int] = (),
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
    ) -> Any:
        """Sample pictures.

        Args:
            prompt: Captions, for a model of captions.
            class_labels: Names or indices of classes, for a model of classes.
            controls: Values of controls as `ldm sample` takes them, such as {"size": "96x96", "flip": "0"}.
            negative_prompt: What guidance leads away from, instead of the empty caption.
            seed: Of the first picture of each prompt, the next has the next; or the seeds of all of them.
            num_images: Of each prompt or class, where one seed is given.
            num_inference_steps: Steps of the solver; None for the model's own, as for all that follow.
            guidance_scale: For what is shown; 1 is none.
            control_scale: For controls; 1 is none.
            solver: ddpm, ddim, euler, heun or dpmpp_2m.
            output_type: "pil" for pictures, "np" for float arrays [B, H, W, C] in [0, 1], "pt" for images [B, C, H, W] in about
                [-1, 1], as the model gives them.
            return_dict: Return an object with `images`, else a tuple.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        classes = [class_labels] if isinstance(class_labels, str | int) else list(class_labels)
        seeds = list(range(seed, seed + num_images)) if isinstance(seed, int) else list(seed)
        sampler: Any = self.network.sampler
        given = {
            "steps": num_inference_steps,
            "semantic_scale": guidance_scale,
            "control_scale": control_scale,
            "solver": solver,
        }
        own = {**dict.fromkeys(given), **self.scheduler.settings}
        images = sampler.sample(
            prompts,
            classes,
            seeds,
            dict(controls or {}),
            {name: own[name] if given.get(name) is None else given[name] for name in own},
            negative=negative_prompt,
            vae=self.vae,
            text=None if self.text_encoder is None else self.text_encoder.on(sampler),
            dtype=self.network.dtype_name,
        )
        if output_type == "pil":
            images = sampler.pictures(images)
        elif output_type == "np":
            images = (images.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
