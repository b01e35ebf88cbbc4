"""Encoded data on disk: the results of live encoding with the same fixed views.

A cache is a folder of sections, each named by the hash of everything that its bytes depend on. A change of autoencoder,
transform or text encoder therefore makes new sections of what it affects and leaves the others:

    latents-KEY   one for each fixed view: posterior mean and std, TransformRecord, index of the sample it was made of
    text-KEY      tokens of all captions before padding, and which of them belong to which sample
    samples-KEY   labels and ids
    measures-KEY  what controls read of whole pictures, such as their brightness; only where one does
    columns-KEY   columns of metadata that controls read, by name and with their own dtypes; only where one does

Row i of every section belongs to sample i of the source. A section consists of safetensors shards, a small record beside each
that is written after it and contains its SHA-256, and an index of all shards once they are complete.
"""

from open_ldm.encoded.cache.config import CacheConfig

__all__ = ["CacheConfig"]
