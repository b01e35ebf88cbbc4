"""DiT's published layouts: the original file (facebookresearch/DiT) and diffusers' DiTTransformer2DModel.

Ours are the names of a `DiffusionModel` with the class in its modulation slot.
"""

from __future__ import annotations

from torch import nn

from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.denoisers.blocks.positions import GridPositions, StoredPositions
from open_ldm.denoisers.dit import DiTConfig
from open_ldm.interop.family import (
    Description,
    Family,
    Layout,
    count_blocks,
    geometry,
    refuse_controls,
    refuse_qk_norm,
    shape_of,
    square_side,
)
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import Copies, KeyMap, Move, Same, State, layers, stacked_layers
from open_ldm.interop.tables import find_positions, patch_move, table_move
from open_ldm.model.spec import ModelSpec

CLASS_TABLE = "conditioning.semantic.table.weight"
GUIDED = 3
"""Latent channels that DiT's and MDT's own samplers guide; diffusers' pipeline guides all."""

_QKV = ("to_q", "to_k", "to_v")


def original(config: DiTConfig, channels: int, grid: tuple[int, int]) -> KeyMap:
    """Build the layout of DiT-XL-2-256x256.pt: `pos_embed` [1, T, D], fused qkv, one class table."""
    moves: list[Move] = [
        table_move("pos_embed", config, grid),
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
        Same("y_embedder.embedding_table.weight", CLASS_TABLE),
    ]
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "final_layer.linear": "denoiser.final_layer.linear",
        "final_layer.adaLN_modulation.1": "denoiser.final_layer.modulation.linear",
    }
    for i in range(config.geometry.depth):
        pairs |= block_pairs(f"blocks.{i}", f"denoiser.blocks.{i}")
    return KeyMap([*moves, *layers(pairs)])


def block_pairs(theirs: str, ours: str) -> dict[str, str]:
    """Layers of one DiT block in the original layout -> ours; MDTv2's blocks share them."""
    return {
        f"{theirs}.attn.qkv": f"{ours}.attention.qkv",
        f"{theirs}.attn.proj": f"{ours}.attention.proj",
        f"{theirs}.mlp.fc1": f"{ours}.mlp.fc1",
        f"{theirs}.mlp.fc2": f"{ours}.mlp.fc2",
        f"{theirs}.adaLN_modulation.1": f"{ours}.modulation.linear",
    }


def diffusers(config: DiTConfig, channels: int) -> KeyMap:
    """Build the layout of DiTTransformer2DModel: the time MLP and the class table once per block, no position table."""
    depth = range(config.geometry.depth)
    moves: list[Move] = [
        patch_move("pos_embed.proj.weight", config, channels),
        Same("pos_embed.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    embedding = [f"transformer_blocks.{i}.norm1.emb" for i in depth]
    moves.append(Copies(tuple(f"{at}.class_embedder.embedding_table.weight" for at in embedding), CLASS_TABLE))
    for theirs, ours in (("linear_1", "0"), ("linear_2", "2")):
        moves += [
            Copies(
                tuple(f"{at}.timestep_embedder.{theirs}.{part}" for at in embedding),
                f"denoiser.time_embedding.mlp.{ours}.{part}",
            )
            for part in ("weight", "bias")
        ]
    pairs = {
        "proj_out_1": "denoiser.final_layer.modulation.linear",
        "proj_out_2": "denoiser.final_layer.linear",
    }
    for i in depth:
        there, here = f"transformer_blocks.{i}", f"denoiser.blocks.{i}"
        pairs |= {
            f"{there}.norm1.linear": f"{here}.modulation.linear",
            f"{there}.attn1.to_out.0": f"{here}.attention.proj",
            f"{there}.ff.net.0.proj": f"{here}.mlp.fc1",
            f"{there}.ff.net.2": f"{here}.mlp.fc2",
        }
        moves += stacked_layers([f"{there}.attn1.{name}" for name in _QKV], f"{here}.attention.qkv")
    return KeyMap([*moves, *layers(pairs)])


class DiTFamily(Family):
    """DiT-{S,B,L,XL}/p, class-conditional, as released; null class last in the table."""

    recipe = "imagenet256-dit-xl2"

    def describe(self, file: WeightFile, state: State) -> Description:
        """Read the geometry, the position table and the classes from the shapes; see `Family.describe`."""
        kernel = "pos_embed.proj.weight" if file.is_diffusers else "x_embedder.proj.weight"
        blocks = "transformer_blocks" if file.is_diffusers else "blocks"
        out = "proj_out_2.weight" if file.is_diffusers else "final_layer.linear.weight"
        width, channels, patch, _ = shape_of(state, kernel)
        settings = geometry(width, count_blocks(state, blocks), file.config.get("num_attention_heads"))
        settings |= {"denoiser.patch": patch, "autoencoder.channels": channels}
        settings["process.learned_variance"] = shape_of(state, out)[0] == 2 * channels * patch**2
        if file.is_diffusers:
            side = int(file.config["sample_size"])
        else:
            grid = square_side(shape_of(state, "pos_embed")[1], "pos_embed")
            settings["denoiser.positions"] = find_positions(state["pos_embed"], GridPositions(), (grid, grid)).model_dump()
            side = grid * patch
            if channels > GUIDED:
                settings["sampling.guidance.channels"] = GUIDED
        table = "transformer_blocks.0.norm1.emb.class_embedder" if file.is_diffusers else "y_embedder"
        classes = shape_of(state, f"{table}.embedding_table.weight")[0] - 1
        return Description(settings, side, classes)

    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Return where each tensor of a DiT lies in a file; see `Family.key_map`."""
        config = _config(spec)
        refuse_qk_norm(config)
        if layout == "diffusers":
            return diffusers(config, spec.facts.channels)
        height, width = spec.facts.latent_size
        return original(config, spec.facts.channels, (height // config.patch, width // config.patch))

    def peer(self, spec: ModelSpec) -> nn.Module:
        """Build diffusers' `DiTTransformer2DModel`; see `Family.peer`."""
        config = _config(spec)
        refuse_qk_norm(config)
        refuse_controls(spec)
        if not (isinstance(spec.conditioning.semantic, ClassSemantic) and spec.conditioning.semantic.route == "modulation"):
            raise ConfigError("diffusers' DiT takes a class by modulation alone", fix="sample from the run folder")
        if isinstance(config.positions, StoredPositions) or config.positions != GridPositions():
            raise ConfigError("diffusers' DiT cannot hold this position table", fix="use the run folder")
        height, width = spec.facts.latent_size
        if height != width:
            raise ConfigError(f"diffusers' DiT is square, this model's latents are {height}x{width}", fix="use the run folder")
        shape = config.geometry
        network: nn.Module = need("diffusers", extra="autoencoders").DiTTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.width // shape.heads,
            in_channels=spec.facts.channels,
            out_channels=spec.output_channels,
            num_layers=shape.depth,
            sample_size=height,
            patch_size=config.patch,
            num_embeds_ada_norm=len(spec.facts.class_names),
            norm_eps=1e-6,
        )
        return network

    def notes(self, spec: ModelSpec) -> str:
        """Explain the time features, where the weights were trained with other ones than those of diffusers."""
        if _config(spec).time_frequency_shift == 1:
            return ""
        return (
            "diffusers' DiT computes its time features with another frequency than the published network, for which these\n"
            "weights were trained. After from_pretrained, for equal output:\n\n"
            "    for block in model.transformer_blocks:\n"
            "        block.norm1.emb.time_proj.downscale_freq_shift = 0\n"
        )


def _config(spec: ModelSpec) -> DiTConfig:
    assert isinstance(spec.denoiser, DiTConfig)
    return spec.denoiser
