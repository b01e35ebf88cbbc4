"""A model that travels without this program: what `ldm export --to diffusers` writes beside the weights.

`sampler.py` goes with the files that it imports. `pipeline.py`, `network.py`, `scheduler.py` and `text_encoder.py` are the code
that diffusers loads; they are copied as they are, and import nothing of this package.
"""
