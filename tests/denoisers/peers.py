"""The same weights in diffusers' DiT and SD3 transformers, to compare our denoisers with."""

from __future__ import annotations

import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from open_ldm.conditioning import Conditioning, ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.denoisers.blocks.modulation import RMSNorm
from open_ldm.denoisers.dit import DiT, DiTConfig
from open_ldm.denoisers.mmdit import MMDiT
from open_ldm.model.diffusion import ModelFacts
from open_ldm.model.published.dit import DiTFamily
from open_ldm.model.published.family import Model
from tests.helpers import VIEW

State = dict[str, Tensor]


def dit_peer(ours: DiT, config: DiTConfig, conditioning: Conditioning, grid: tuple[int, int]) -> DiTTransformer2DModel:
    """diffusers' class-conditional DiT for a grid of patches, its class table that of `conditioning` (modulation)."""
    classes = tuple(map(str, range(len(conditioning.get_parameter("semantic.table.weight")) - 1)))
    facts = ModelFacts(ours.slots.channels, VIEW, classes, latent_size=(grid[0] * ours.patch,) * 2)
    semantic = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    model = Model(config, semantic, facts, ours.slots.learned_variance)
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


def mmdit_peer(ours: MMDiT, pooled: nn.Sequential, grid: tuple[int, int]) -> SD3Transformer2DModel:
    """diffusers' SD3 transformer for a grid of patches; `pooled`: Linear, SiLU, Linear of the pooled text vector."""
    state, patch = ours.state_dict(), ours.patch
    width, context_dim = state["context_embedding.weight"].shape
    heads, rms = ours.blocks[0].image.heads, isinstance(ours.blocks[0].image.norm_q, RMSNorm)
    theirs = SD3Transformer2DModel(
        sample_size=max(grid) * patch,
        patch_size=patch,
        in_channels=ours.slots.channels,
        out_channels=ours.slots.output_channels,
        num_layers=len(ours.blocks),
        attention_head_dim=width // heads,
        num_attention_heads=heads,
        joint_attention_dim=context_dim,
        caption_projection_dim=width,
        pooled_projection_dim=pooled[0].in_features,
        pos_embed_max_size=max(grid),
        qk_norm="rms_norm" if rms else None,
    ).eval()
    peer: State = {"pos_embed.proj.weight": _as_convolution(state, ours.slots.channels, patch)}
    peer["pos_embed.proj.bias"] = state["patch_embedding.proj.bias"]
    peer["pos_embed.pos_embed"] = _centred(ours.positions(grid, torch.device("cpu")), grid)
    for number, part in ((1, 0), (2, 2)):
        _copy(peer, f"time_text_embed.timestep_embedder.linear_{number}", state, f"time_embedding.mlp.{part}")
        _copy(peer, f"time_text_embed.text_embedder.linear_{number}", pooled.state_dict(), str(part))
    _copy(peer, "context_embedder", state, "context_embedding")
    for i in range(len(ours.blocks)):
        _copy_joint_block(peer, f"transformer_blocks.{i}", state, f"blocks.{i}", last=i == len(ours.blocks) - 1, rms=rms)
    _copy(peer, "norm_out.linear", state, "final_layer.modulation.linear", swap_halves=True)
    _copy(peer, "proj_out", state, "final_layer.linear")
    theirs.load_state_dict(peer)
    return theirs


def _copy_joint_block(peer: State, there: str, state: State, here: str, *, last: bool, rms: bool) -> None:
    _copy(peer, f"{there}.norm1.linear", state, f"{here}.image.modulation.linear")
    _copy(peer, f"{there}.norm1_context.linear", state, f"{here}.context.modulation.linear", swap_halves=last)
    _split_qkv(peer, [f"{there}.attn.to_{name}" for name in "qkv"], state, f"{here}.image.qkv")
    _split_qkv(peer, [f"{there}.attn.add_{name}_proj" for name in "qkv"], state, f"{here}.context.qkv")
    streams = [("image", "to_out.0", "ff")] + ([] if last else [("context", "to_add_out", "ff_context")])
    for stream, out, mlp in streams:
        _copy(peer, f"{there}.attn.{out}", state, f"{here}.{stream}.proj")
        _copy(peer, f"{there}.{mlp}.net.0.proj", state, f"{here}.{stream}.mlp.fc1")
        _copy(peer, f"{there}.{mlp}.net.2", state, f"{here}.{stream}.mlp.fc2")
    if rms:
        for name in "qk":
            peer[f"{there}.attn.norm_{name}.weight"] = state[f"{here}.image.norm_{name}.weight"]
            peer[f"{there}.attn.norm_added_{name}.weight"] = state[f"{here}.context.norm_{name}.weight"]


def _copy(peer: State, there: str, state: State, here: str, *, swap_halves: bool = False) -> None:
    """Weight and bias; diffusers' continuous norms expect (scale, shift), ours give (shift, scale)."""
    for part in ("weight", "bias"):
        tensor = state[f"{here}.{part}"]
        peer[f"{there}.{part}"] = torch.cat(tensor.chunk(2)[::-1]) if swap_halves else tensor


def _split_qkv(peer: State, there: list[str], state: State, here: str) -> None:
    for part in ("weight", "bias"):
        for name, tensor in zip(there, state[f"{here}.{part}"].chunk(3), strict=True):
            peer[f"{name}.{part}"] = tensor


def _as_convolution(state: State, channels: int, patch: int) -> Tensor:
    return state["patch_embedding.proj.weight"].view(-1, channels, patch, patch)


def _centred(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """[T, D] in the middle of a square [1, max * max, D], from where diffusers crops it."""
    side = max(grid)
    square = torch.full((side, side, table.shape[1]), float("nan"))
    top, left = (side - grid[0]) // 2, (side - grid[1]) // 2
    square[top : top + grid[0], left : left + grid[1]] = table.view(*grid, -1)
    return square.view(1, side * side, -1)
