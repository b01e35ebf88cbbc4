"""A small CLIP with random weights, in a folder that transformers itself wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

READS, SIDE_PX = 20, 24
"""Tokens and pixels that the model reads."""


def save_tiny_clip(folder: Path) -> Path:
    """Write model and processor by their own `save_pretrained`."""
    import transformers

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    text: dict[str, Any] = {**small, "vocab_size": len(vocabulary), "max_position_embeddings": READS}
    config = transformers.CLIPConfig(
        text_config={**text, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**small, "image_size": SIDE_PX, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: index for index, word in enumerate(vocabulary)}, merges=[], model_max_length=READS
    )
    size = {"size": {"shortest_edge": SIDE_PX}, "crop_size": {"height": SIDE_PX, "width": SIDE_PX}}
    transformers.CLIPProcessor(transformers.CLIPImageProcessorPil(**size), tokenizer).save_pretrained(folder)
    return folder
