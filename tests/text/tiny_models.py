"""Text models of random weights and a few words, small enough to be made by a test, in transformers' own folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ("a", "red", "blue", "circle", "square", "on", "the", "left")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


def _saved(network: Any, tokenizer: Any, folder: Path) -> Path:
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # no norm or bias left at its constant start
            source = torch.Generator().manual_seed(len(name) + parameter.numel())
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def clip_folder(folder: Path, *, projected: bool = True, width: int = 32, whole: bool = False) -> Path:
    """CLIP's text half of 3 blocks, 12 places and a projection to 24, or the `whole` CLIP it is a half of."""
    import transformers

    marks = ("<|startoftext|>", "<|endoftext|>")
    letters = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    vocabulary = {token: index for index, token in enumerate([*letters, *marks])}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[])
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": width,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "projection_dim": 24,
        "bos_token_id": vocabulary[marks[0]],
        "eos_token_id": vocabulary[marks[1]],
        "pad_token_id": vocabulary[marks[1]],
    }
    torch.manual_seed(0)
    if whole:
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision |= {"image_size": 8, "patch_size": 4}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        return _saved(transformers.CLIPModel(config), tokenizer, folder)
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return _saved(kind(transformers.CLIPTextConfig(**text)), tokenizer, folder)


def t5_folder(folder: Path, width: int = 40) -> Path:
    """T5's encoder of 2 blocks; every word of `WORDS` is one token."""
    import transformers

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -9.0), *((f"▁{word}", -1.0) for word in WORDS)]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
    torch.manual_seed(1)
    config = transformers.T5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return _saved(transformers.T5EncoderModel(config), tokenizer, folder)


def roberta_folder(folder: Path, width: int = 24, places: int = 16) -> Path:
    """RoBERTa of 2 blocks whose table of positions holds two more than the `places` a caption can have."""
    import transformers

    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, "Ġ"])}
    tokenizer = transformers.RobertaTokenizer(vocab=vocabulary, merges=[])
    torch.manual_seed(3)
    config = transformers.RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=places + 2,
    )
    return _saved(transformers.RobertaModel(config), tokenizer, folder)


def bert_folder(folder: Path, width: int = 24) -> Path:
    """BERT of 2 blocks and 16 places; every word of `WORDS` is one token."""
    import transformers

    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = transformers.BertTokenizer(vocab=vocabulary)
    torch.manual_seed(2)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return _saved(transformers.BertModel(config), tokenizer, folder)
