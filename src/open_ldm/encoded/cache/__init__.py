"""Encoded data kept on disk: what live encoding with the same fixed views computes, remembered.

A cache is a folder of sections, each named by the hash of all that its bytes follow from, so that a change of autoencoder,
transform or text encoder makes new sections of what it touches and leaves the rest:

    latents-KEY   one for each fixed view: posterior mean and std, TransformRecord, index of the sample it was made of
    text-KEY      tokens of all captions before padding, and which of them belong to which sample
    samples-KEY   labels and ids

Row i of every section belongs to sample i of the source. A section is a row of safetensors shards, a small record beside
each that is written after it and holds its SHA-256, and an index of them all once they are complete.
"""

from open_ldm.encoded.cache.config import CacheConfig

__all__ = ["CacheConfig"]
