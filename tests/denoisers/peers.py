"""The same weights in diffusers' DiT and SD3 transformers, to compare our denoisers with."""

from __future__ import annotations

import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel
from torch import nn

from open_ldm.conditioning import Conditioning, ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.core.config import validate
from open_ldm.denoisers.dit import DiT, DiTConfig
from open_ldm.denoisers.mmdit import MMDiT, MMDiTConfig
from open_ldm.interop.dit import DiTFamily
from open_ldm.interop.mmdit import POOLED, MMDiTFamily
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text import HuggingFaceConfig
from tests.helpers import VIEW


def dit_peer(ours: DiT, config: DiTConfig, conditioning: Conditioning, grid: tuple[int, int]) -> DiTTransformer2DModel:
    """diffusers' class-conditional DiT for a grid of patches, its class table that of `conditioning` (modulation)."""
    classes = tuple(map(str, range(len(conditioning.get_parameter("semantic.table.weight")) - 1)))
    facts = DataFacts(ours.slots.channels, VIEW, classes, latent_size=(grid[0] * ours.patch,) * 2)
    semantic = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    model = ModelSpec(ProcessConfig(learned_variance=ours.slots.learned_variance), semantic, config, facts)
    theirs = DiTFamily().peer(model).eval()
    state = {f"denoiser.{name}": tensor for name, tensor in ours.state_dict().items()}
    state |= {f"conditioning.{name}": tensor for name, tensor in conditioning.state_dict().items()}
    theirs.load_state_dict(DiTFamily().key_map(model, "diffusers").write(state))
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = config.time_frequency_shift
    embedding = theirs.pos_embed
    embedding.height, embedding.width = grid  # so that it takes the table as it is
    embedding.pos_embed = ours.positions(grid, torch.device("cpu")).unsqueeze(0)
    return theirs


def mmdit_peer(ours: MMDiT, config: MMDiTConfig, pooled: nn.Sequential, grid: tuple[int, int]) -> SD3Transformer2DModel:
    """diffusers' SD3 transformer for a grid of patches; `pooled`: Linear, SiLU, Linear of the pooled text vector."""
    context_dim, vector = ours.slots.context_dim, pooled[0].in_features
    models = [[{"path": "none", "length": 7, "width": context_dim, "pooled": "projected", "pooled_width": vector}]]
    encoder = validate(HuggingFaceConfig, {"models": models}, source="test")
    semantic = ConditioningConfig(semantic=TextSemantic(encoder=encoder, route="both"))
    facts = DataFacts(ours.slots.channels, VIEW, latent_size=(grid[0] * ours.patch, grid[1] * ours.patch))
    state = {f"denoiser.{name}": tensor for name, tensor in ours.state_dict().items()}
    state |= {f"{POOLED}.{name}": tensor for name, tensor in pooled.state_dict().items()}
    family = MMDiTFamily()
    spec = ModelSpec(ProcessConfig(learned_variance=ours.slots.learned_variance), semantic, config, facts)
    model, stored = family.for_export(spec, state)
    theirs = family.peer(model).eval()
    theirs.load_state_dict(family.key_map(model, "diffusers").write(stored))
    return theirs
